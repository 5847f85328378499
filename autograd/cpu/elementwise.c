/* Sums, products and multiples of tensors, and sums over what broadcasting repeated. */
#include "autograd/cpu/cpu.h"
#include "autograd/cpu/element.h"

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

typedef enum binary_function { SUM, PRODUCT } binary_function;

/* y may be a or b. */
CPU_INLINE void with_row(void *y, const void *a, const void *b, binary_function f, int64_t n, bool bf16)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float left = cpu_get(a, i, bf16), right = cpu_get(b, i, bf16);
        cpu_put(y, i, f == SUM ? left + right : left * right, bf16);
    }
}

CPU_INLINE void with_one(void *y, const void *a, float right, binary_function f, int64_t n, bool bf16)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float left = cpu_get(a, i, bf16);
        cpu_put(y, i, f == SUM ? left + right : left * right, bf16);
    }
}

CPU_CLONES static void sum_row(void *y, const void *a, const void *b, int64_t n, bool bf16)
{
    CPU_BOTH(with_row, y, a, b, SUM, n);
}

CPU_CLONES static void product_row(void *y, const void *a, const void *b, int64_t n, bool bf16)
{
    CPU_BOTH(with_row, y, a, b, PRODUCT, n);
}

CPU_CLONES static void sum_one(void *y, const void *a, float b, int64_t n, bool bf16)
{
    CPU_BOTH(with_one, y, a, b, SUM, n);
}

CPU_CLONES static void product_one(void *y, const void *a, float b, int64_t n, bool bf16)
{
    CPU_BOTH(with_one, y, a, b, PRODUCT, n);
}

static void binary_row(void *y, const void *a, const void *b, binary_function f, int64_t n, bool bf16)
{
    if (f == SUM)
        sum_row(y, a, b, n, bf16);
    else
        product_row(y, a, b, n, bf16);
}

static void binary_one(void *y, const void *a, float b, binary_function f, int64_t n, bool bf16)
{
    if (f == SUM)
        sum_one(y, a, b, n, bf16);
    else
        product_one(y, a, b, n, bf16);
}

static err binary(device *d, tensor *y, const tensor *a, const tensor *b, binary_function f)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, f == SUM ? "add" : "mul", CPU_TENSORS(a, b, y)));
    int64_t n = tensor_count(a);
    if (tensor_count(b) == n) {
#pragma omp parallel for num_threads(d->threads) schedule(static) if (n > CPU_CHUNK)
        for (int64_t i = 0; i < n; i += CPU_CHUNK)
            binary_row(cpu_at(y->data, i, bf16), cpu_at(a->data, i, bf16), cpu_at(b->data, i, bf16), f,
                       n - i < CPU_CHUNK ? n - i : CPU_CHUNK, bf16);
        return OK;
    }
    broadcast v = broadcast_to(b, a);
    int64_t width = a->ndim ? a->dim[a->ndim - 1] : 1, count = row_count(&v);
    bool single = !a->ndim || v.stride[v.ndim - 1] == 0;
#pragma omp parallel for num_threads(d->threads) schedule(static) if (n > CPU_CHUNK)
    for (int64_t r = 0; r < count; r++) {
        const void *from = cpu_at(b->data, row_offset(&v, r), bf16), *left = cpu_at(a->data, r * width, bf16);
        void *to = cpu_at(y->data, r * width, bf16);
        if (single)
            binary_one(to, left, cpu_get(from, 0, bf16), f, width, bf16);
        else
            binary_row(to, left, from, f, width, bf16);
    }
    return OK;
}

err cpu_add(device *d, tensor *y, const tensor *a, const tensor *b)
{
    return binary(d, y, a, b, SUM);
}

err cpu_mul(device *d, tensor *y, const tensor *a, const tensor *b)
{
    return binary(d, y, a, b, PRODUCT);
}

CPU_INLINE void scaled(void *y, const void *x, float s, bool add, int64_t n, bool bf16)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        cpu_put(y, i, (add ? cpu_get(y, i, bf16) : 0.0f) + s * cpu_get(x, i, bf16), bf16);
}

CPU_CLONES static void scale_chunk(void *y, const void *x, float s, bool add, int64_t n, bool bf16)
{
    if (add)
        CPU_BOTH(scaled, y, x, s, true, n);
    else
        CPU_BOTH(scaled, y, x, s, false, n);
}

err cpu_scale(device *d, tensor *y, const tensor *x, float s, bool add)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, "scale", CPU_TENSORS(x, y)));
    int64_t n = tensor_count(x);
#pragma omp parallel for num_threads(d->threads) schedule(static) if (n > CPU_CHUNK)
    for (int64_t i = 0; i < n; i += CPU_CHUNK)
        scale_chunk(cpu_at(y->data, i, bf16), cpu_at(x->data, i, bf16), s, add, n - i < CPU_CHUNK ? n - i : CPU_CHUNK,
                    bf16);
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

CPU_INLINE void columns_summed(double *restrict sum, const void *restrict dy, const void *restrict other, int64_t n,
                               bool bf16)
{
    if (other)
        for (int64_t c = 0; c < n; c++)
            sum[c] += (double)cpu_get(dy, c, bf16) * (double)cpu_get(other, c, bf16);
    else
        for (int64_t c = 0; c < n; c++)
            sum[c] += (double)cpu_get(dy, c, bf16);
}

CPU_CLONES static void add_to_columns(double *restrict sum, const void *restrict dy, const void *restrict other,
                                      int64_t n, bool bf16)
{
    CPU_BOTH(columns_summed, sum, dy, other, n);
}

CPU_INLINE void row_summed(double *restrict sum, const void *restrict dy, const void *restrict other, int64_t n,
                           bool bf16)
{
    double lane[LANES] = {0};
    int64_t whole = n - n % LANES;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] += (double)cpu_get(dy, i + j, bf16) * (other ? (double)cpu_get(other, i + j, bf16) : 1.0);
    for (int j = 0; j < LANES; j++)
        *sum += lane[j];
    for (int64_t i = whole; i < n; i++)
        *sum += (double)cpu_get(dy, i, bf16) * (other ? (double)cpu_get(other, i, bf16) : 1.0);
}

CPU_CLONES static void add_row_sum(double *restrict sum, const void *restrict dy, const void *restrict other, int64_t n,
                                   bool bf16)
{
    CPU_BOTH(row_summed, sum, dy, other, n);
}

typedef struct reduction {
    broadcast     v;
    const tensor *dy;
    const void   *other; /* laid out as dy; NULL: 1 */
    bool          bf16;  /* both */
    int64_t       outputs, summed, width; /* db's outer elements; rows for each; length of a row */
    bool          single;                 /* the innermost dimension is summed, too */
} reduction;

static reduction reduction_of(const tensor *db, const tensor *dy, const tensor *other, bool bf16)
{
    reduction r = {.v = broadcast_to(db, dy), .dy = dy, .other = other ? other->data : NULL, .bf16 = bf16, .outputs = 1,
                   .summed = 1};
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
        const void *dy = cpu_at(r->dy->data, at, r->bf16), *other = r->other ? cpu_at(r->other, at, r->bf16) : NULL;
        if (r->single)
            add_row_sum(sum, dy, other, r->width, r->bf16);
        else
            add_to_columns(sum, dy, other, n, r->bf16);
    }
}

CPU_INLINE void products(void *restrict to, const void *restrict dy, const void *restrict other, bool wide, bool add,
                         int64_t n, bool bf16)
{
    for (int64_t i = 0; i < n; i++)
        cpu_put(to, i, (add ? cpu_get(to, i, !wide) : 0.0f) + cpu_get(dy, i, bf16) * cpu_get(other, i, bf16), !wide);
}

CPU_CLONES static void product_chunk(void *restrict to, const void *restrict dy, const void *restrict other, bool wide,
                                     bool add, int64_t n, bool bf16)
{
    if (wide && add)
        CPU_BOTH(products, to, dy, other, true, true, n);
    else if (wide)
        CPU_BOTH(products, to, dy, other, true, false, n);
    else if (add)
        products(to, dy, other, false, true, n, true);
    else
        products(to, dy, other, false, false, n, true);
}

static err same_shape(device *d, tensor *db, const tensor *dy, const tensor *other, bool wide, bool add, bool bf16)
{
    int64_t n = tensor_count(dy);
    if (!other) {
        tensor like = *dy;
        tensor_set_shape(&like, db->ndim, db->dim);
        return cpu_copy(d, db, &like, add);
    }
#pragma omp parallel for num_threads(d->threads) schedule(static) if (n > CPU_CHUNK)
    for (int64_t i = 0; i < n; i += CPU_CHUNK)
        product_chunk(cpu_at(db->data, i, !wide), cpu_at(dy->data, i, bf16), cpu_at(other->data, i, bf16), wide, add,
                      n - i < CPU_CHUNK ? n - i : CPU_CHUNK, bf16);
    return OK;
}

/* One thread sums all of an element, row by row in f64: the same bits for any number of threads. */
err cpu_reduce_to(device *d, tensor *db, const tensor *dy, const tensor *other, bool add)
{
    bool bf16, wide;
    TRY(cpu_one_type(&bf16, "reduce_to", CPU_TENSORS(dy, other)));
    TRY(cpu_gradient_type(&wide, "reduce_to", db, bf16));
    if (tensor_count(db) == tensor_count(dy))
        return same_shape(d, db, dy, other, wide, add, bf16);
    reduction r = reduction_of(db, dy, other, bf16);
    int64_t width = r.single ? 1 : r.width, blocks = (width + COLUMNS - 1) / COLUMNS;
#pragma omp parallel for num_threads(d->threads) schedule(static) if (tensor_count(dy) > CPU_CHUNK)
    for (int64_t t = 0; t < r.outputs * blocks; t++) {
        int64_t o = t / blocks, c0 = t % blocks * COLUMNS, n = width - c0 < COLUMNS ? width - c0 : COLUMNS;
        double sum[COLUMNS] = {0};
        reduce_columns(sum, &r, o, c0, n);
        for (int64_t c = 0; c < n; c++) {
            int64_t at = o * width + c0 + c;
            cpu_put(db->data, at, (add ? cpu_get(db->data, at, !wide) : 0.0f) + (float)sum[c], !wide);
        }
    }
    return OK;
}
