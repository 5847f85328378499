#include "autograd/cpu/clones.h"
#include "autograd/cpu/cpu.h"

/* A view of b broadcast to a's shape: stride 0 where b has extent 1 or no dimension. */
typedef struct broadcast {
    int     ndim;
    int64_t dim[TENSOR_MAX_DIM], stride[TENSOR_MAX_DIM];
} broadcast;

static broadcast broadcast_to(const tensor *b, const tensor *a)
{
    broadcast v = {.ndim = a->ndim};
    for (int i = 0; i < a->ndim; i++) {
        int j = i - (a->ndim - b->ndim);
        v.dim[i] = a->dim[i];
        CHECK(j < 0 || b->dim[j] == a->dim[i] || b->dim[j] == 1, "%s does not broadcast to %s", b->name, a->name);
        v.stride[i] = j < 0 || b->dim[j] == 1 ? 0 : b->stride[j];
    }
    return v;
}

/* Rows of the innermost dimension: how many, and where row r begins in b. */
static int64_t row_count(const broadcast *v)
{
    int64_t rows = 1;
    for (int i = 0; i < v->ndim - 1; i++)
        rows *= v->dim[i];
    return rows;
}

static int64_t row_offset(const broadcast *v, int64_t row)
{
    int64_t offset = 0;
    for (int i = v->ndim - 2; i >= 0; i--) {
        offset += row % v->dim[i] * v->stride[i];
        row /= v->dim[i];
    }
    return offset;
}

CPU_CLONES static void add_row(float *y, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}

CPU_CLONES static void add_one(float *y, const float *a, float b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] + b;
}

CPU_CLONES static void mul_row(float *y, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] * b[i];
}

CPU_CLONES static void mul_one(float *y, const float *a, float b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] * b;
}

typedef void row_function(float *y, const float *a, const float *b, int64_t n);
typedef void one_function(float *y, const float *a, float b, int64_t n);

static err binary(device *d, tensor *y, const tensor *a, const tensor *b, row_function *rows, one_function *one)
{
    TRY(cpu_need_f32("add/mul", a));
    TRY(cpu_need_f32("add/mul", b));
    float *to = y->data;
    const float *left = a->data, *right = b->data;
    int64_t n = tensor_count(a);
    if (tensor_count(b) == n) {
#pragma omp parallel for num_threads(d->threads) schedule(static)
        for (int64_t i = 0; i < n; i += CPU_CHUNK)
            rows(to + i, left + i, right + i, n - i < CPU_CHUNK ? n - i : CPU_CHUNK);
        return OK;
    }
    broadcast v = broadcast_to(b, a);
    int64_t width = a->ndim ? a->dim[a->ndim - 1] : 1, count = row_count(&v);
    bool single = !a->ndim || v.stride[v.ndim - 1] == 0;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t r = 0; r < count; r++) {
        const float *from = right + row_offset(&v, r);
        if (single)
            one(to + r * width, left + r * width, *from, width);
        else
            rows(to + r * width, left + r * width, from, width);
    }
    return OK;
}

err cpu_add(device *d, tensor *y, const tensor *a, const tensor *b)
{
    return binary(d, y, a, b, add_row, add_one);
}

err cpu_mul(device *d, tensor *y, const tensor *a, const tensor *b)
{
    return binary(d, y, a, b, mul_row, mul_one);
}

CPU_CLONES static void scale_chunk(float *y, const float *x, float s, float keep, int64_t n)
{
    if (keep == 0.0f)
        for (int64_t i = 0; i < n; i++)
            y[i] = s * x[i];
    else
        for (int64_t i = 0; i < n; i++)
            y[i] += s * x[i];
}

err cpu_scale(device *d, tensor *y, const tensor *x, float s, bool add)
{
    TRY(cpu_need_f32("scale", x));
    float *to = y->data;
    const float *from = x->data;
    int64_t n = tensor_count(x);
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < n; i += CPU_CHUNK)
        scale_chunk(to + i, from + i, s, add ? 1.0f : 0.0f, n - i < CPU_CHUNK ? n - i : CPU_CHUNK);
    return OK;
}

/* ---- sums over the dimensions that b lacks ---- */

enum { COLUMNS = 64, LANES = 16 };

/* Where row `index` begins in dy, counted over the outer dimensions that db has (kept) or lacks. */
static int64_t outer_offset(const broadcast *v, const tensor *dy, int64_t index, bool kept)
{
    int64_t offset = 0;
    for (int i = v->ndim - 2; i >= 0; i--) {
        if ((v->stride[i] != 0) != kept)
            continue;
        offset += index % v->dim[i] * dy->stride[i];
        index /= v->dim[i];
    }
    return offset;
}

CPU_CLONES static void add_to_columns(double *restrict sum, const float *restrict dy, const float *restrict other,
                                      int64_t n)
{
    if (other)
        for (int64_t c = 0; c < n; c++)
            sum[c] += (double)dy[c] * (double)other[c];
    else
        for (int64_t c = 0; c < n; c++)
            sum[c] += (double)dy[c];
}

CPU_CLONES static double row_sum(const float *restrict dy, const float *restrict other, int64_t n)
{
    double lane[LANES] = {0}, sum = 0;
    int64_t whole = n - n % LANES;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] += (double)dy[i + j] * (other ? (double)other[i + j] : 1.0);
    for (int j = 0; j < LANES; j++)
        sum += lane[j];
    for (int64_t i = whole; i < n; i++)
        sum += (double)dy[i] * (other ? (double)other[i] : 1.0);
    return sum;
}

typedef struct reduction {
    broadcast     v;
    const tensor *dy;
    const float  *other; /* laid out as dy; NULL: 1 */
    int64_t       outputs, summed, width; /* db's outer elements; rows for each; length of a row */
    bool          single;                 /* the innermost dimension is summed, too */
} reduction;

static reduction reduction_of(const tensor *db, const tensor *dy, const tensor *other)
{
    reduction r = {.v = broadcast_to(db, dy), .dy = dy, .other = other ? other->data : NULL, .outputs = 1, .summed = 1};
    r.width = dy->ndim ? dy->dim[dy->ndim - 1] : 1;
    r.single = !dy->ndim || r.v.stride[dy->ndim - 1] == 0;
    for (int i = 0; i < dy->ndim - 1; i++) {
        if (r.v.stride[i] != 0)
            r.outputs *= r.v.dim[i];
        else
            r.summed *= r.v.dim[i];
    }
    return r;
}

/* Columns [c0, c0 + n) of output row `o`; one element when the innermost dimension is summed. */
static void reduce_columns(double *sum, const reduction *r, int64_t o, int64_t c0, int64_t n)
{
    int64_t begin = outer_offset(&r->v, r->dy, o, true) + c0;
    for (int64_t k = 0; k < r->summed; k++) {
        int64_t at = begin + outer_offset(&r->v, r->dy, k, false);
        const float *dy = (const float *)r->dy->data + at, *other = r->other ? r->other + at : NULL;
        if (r->single)
            sum[0] += row_sum(dy, other, r->width);
        else
            add_to_columns(sum, dy, other, n);
    }
}

static void same_shape(device *d, float *to, const float *dy, const float *other, int64_t n, bool add)
{
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < n; i += CPU_CHUNK) {
        int64_t end = n - i < CPU_CHUNK ? n : i + CPU_CHUNK;
        for (int64_t j = i; j < end; j++)
            to[j] = (add ? to[j] : 0.0f) + dy[j] * (other ? other[j] : 1.0f);
    }
}

/* One thread sums all of an element, row by row in f64: the same bits for any number of threads. */
err cpu_reduce_to(device *d, tensor *db, const tensor *dy, const tensor *other, bool add)
{
    TRY(cpu_need_f32("reduce_to", db));
    TRY(cpu_need_f32("reduce_to", dy));
    TRY(cpu_need_f32("reduce_to", other));
    float *to = db->data;
    if (tensor_count(db) == tensor_count(dy)) {
        same_shape(d, to, dy->data, other ? other->data : NULL, tensor_count(dy), add);
        return OK;
    }
    reduction r = reduction_of(db, dy, other);
    int64_t width = r.single ? 1 : r.width, blocks = (width + COLUMNS - 1) / COLUMNS;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t t = 0; t < r.outputs * blocks; t++) {
        int64_t o = t / blocks, c0 = t % blocks * COLUMNS, n = width - c0 < COLUMNS ? width - c0 : COLUMNS;
        double sum[COLUMNS] = {0};
        reduce_columns(sum, &r, o, c0, n);
        for (int64_t c = 0; c < n; c++)
            to[o * width + c0 + c] = (add ? to[o * width + c0 + c] : 0.0f) + (float)sum[c];
    }
    return OK;
}
