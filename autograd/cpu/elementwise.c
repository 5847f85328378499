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

/* db's own index of each element's sum runs over the dimensions that b lacks, in order: f64, one thread each, so that
 * the bits do not depend on the number of threads. */
static double sum_over(const broadcast *v, int64_t at, const float *dy, const float *other, const tensor *like)
{
    int64_t missing[TENSOR_MAX_DIM], count = 1;
    for (int i = 0; i < v->ndim; i++) {
        missing[i] = v->stride[i] == 0 ? v->dim[i] : 1;
        count *= missing[i];
    }
    double sum = 0;
    for (int64_t k = 0; k < count; k++) {
        int64_t rest = k, offset = at;
        for (int i = v->ndim - 1; i >= 0; i--) {
            offset += rest % missing[i] * like->stride[i];
            rest /= missing[i];
        }
        sum += (double)dy[offset] * (other ? (double)other[offset] : 1.0);
    }
    return sum;
}

/* The offset in dy of db's element i, where every broadcast index is 0. */
static int64_t first_of(const broadcast *v, const tensor *db, const tensor *dy, int64_t i)
{
    int64_t offset = 0;
    for (int k = db->ndim - 1; k >= 0; k--) {
        int in_dy = k + (dy->ndim - db->ndim);
        if (v->stride[in_dy] != 0)
            offset += i % db->dim[k] * dy->stride[in_dy];
        i /= db->dim[k];
    }
    return offset;
}

err cpu_reduce_to(device *d, tensor *db, const tensor *dy, const tensor *other, bool add)
{
    TRY(cpu_need_f32("reduce_to", db));
    TRY(cpu_need_f32("reduce_to", dy));
    TRY(cpu_need_f32("reduce_to", other));
    broadcast v = broadcast_to(db, dy);
    float *to = db->data;
    int64_t n = tensor_count(db);
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < n; i++) {
        double sum = sum_over(&v, first_of(&v, db, dy, i), dy->data, other ? other->data : NULL, dy);
        to[i] = (add ? to[i] : 0.0f) + (float)sum;
    }
    return OK;
}
