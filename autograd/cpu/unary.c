/* Functions of one number: SiLU, GELU, quick-GELU and the gated GELU. */
#include "autograd/cpu/cpu.h"
#include "autograd/cpu/element.h"
#include "autograd/cpu/normal.h"

static inline float sigmoid(float x)
{
    return 1.0f / (1.0f + cpu_exp(-x));
}

static inline float gelu_value(float x)
{
    return x * cpu_normal_cdf(x);
}

/* d gelu = Phi(x) + x phi(x) */
static inline float gelu_slope(float x)
{
    return cpu_normal_cdf(x) + x * 0x1.988454p-2f * cpu_exp(-0.5f * x * x);
}

/* quick-GELU: x sigmoid(1.702 x), as CLIP has it */
#define DEFINE_UNARY(name, value, slope)                                                                           \
    CPU_INLINE void name##_values(void *restrict y, const void *restrict x, int64_t n, bool bf16)                  \
    {                                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                                          \
            float v = cpu_get(x, i, bf16);                                                                         \
            cpu_put(y, i, (value), bf16);                                                                          \
        }                                                                                                          \
    }                                                                                                              \
    CPU_CLONES static void name##_forward(void *restrict y, const void *restrict x, int64_t n, bool bf16)          \
    {                                                                                                              \
        CPU_BOTH(name##_values, y, x, n);                                                                          \
    }                                                                                                              \
    CPU_INLINE void name##_slopes(void *restrict dx, const void *restrict dy, const void *restrict x, bool add,    \
                                  int64_t n, bool bf16)                                                            \
    {                                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                                          \
            float v = cpu_get(x, i, bf16);                                                                         \
            cpu_put(dx, i, (add ? cpu_get(dx, i, bf16) : 0.0f) + cpu_get(dy, i, bf16) * (slope), bf16);            \
        }                                                                                                          \
    }                                                                                                              \
    CPU_CLONES static void name##_backward(void *restrict dx, const void *restrict dy, const void *restrict x,     \
                                           bool add, int64_t n, bool bf16)                                         \
    {                                                                                                              \
        if (add)                                                                                                   \
            CPU_BOTH(name##_slopes, dx, dy, x, true, n);                                                           \
        else                                                                                                       \
            CPU_BOTH(name##_slopes, dx, dy, x, false, n);                                                          \
    }
DEFINE_UNARY(silu, v * sigmoid(v), sigmoid(v) * (1.0f + v * (1.0f - sigmoid(v))))
DEFINE_UNARY(gelu, gelu_value(v), gelu_slope(v))
DEFINE_UNARY(quick_gelu, v * sigmoid(1.702f * v),
             sigmoid(1.702f * v) * (1.0f + 1.702f * v * (1.0f - sigmoid(1.702f * v))))

err cpu_unary(device *d, tensor *y, const tensor *x, unary f)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, "unary", CPU_TENSORS(x, y)));
    int64_t n = tensor_count(x);
#pragma omp parallel for num_threads(d->threads) schedule(static) if (n > CPU_CHUNK)
    for (int64_t i = 0; i < n; i += CPU_CHUNK) {
        int64_t m = n - i < CPU_CHUNK ? n - i : CPU_CHUNK;
        void *to = cpu_at(y->data, i, bf16);
        const void *from = cpu_at(x->data, i, bf16);
        if (f == UNARY_SILU)
            silu_forward(to, from, m, bf16);
        else if (f == UNARY_GELU)
            gelu_forward(to, from, m, bf16);
        else
            quick_gelu_forward(to, from, m, bf16);
    }
    return OK;
}

err cpu_unary_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, unary f, bool add)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, "unary_dx", CPU_TENSORS(x, dy, dx)));
    int64_t n = tensor_count(x);
#pragma omp parallel for num_threads(d->threads) schedule(static) if (n > CPU_CHUNK)
    for (int64_t i = 0; i < n; i += CPU_CHUNK) {
        int64_t m = n - i < CPU_CHUNK ? n - i : CPU_CHUNK;
        void *to = cpu_at(dx->data, i, bf16);
        const void *from = cpu_at(x->data, i, bf16), *slope = cpu_at(dy->data, i, bf16);
        if (f == UNARY_SILU)
            silu_backward(to, slope, from, add, m, bf16);
        else if (f == UNARY_GELU)
            gelu_backward(to, slope, from, add, m, bf16);
        else
            quick_gelu_backward(to, slope, from, add, m, bf16);
    }
    return OK;
}

/* ---- geglu: x (n,2m) = [a|b], y = a gelu(b) ---- */

CPU_INLINE void geglu_values(void *restrict y, const void *restrict a, const void *restrict b, int64_t m, bool bf16)
{
    for (int64_t i = 0; i < m; i++)
        cpu_put(y, i, cpu_get(a, i, bf16) * gelu_value(cpu_get(b, i, bf16)), bf16);
}

CPU_CLONES static void geglu_row(void *restrict y, const void *restrict a, const void *restrict b, int64_t m, bool bf16)
{
    CPU_BOTH(geglu_values, y, a, b, m);
}

/* da (+)= dy gelu(b), db (+)= dy a gelu'(b) */
CPU_INLINE void geglu_slopes(void *restrict da, void *restrict db, const void *restrict dy, const void *restrict a,
                             const void *restrict b, bool add, int64_t m, bool bf16)
{
    for (int64_t i = 0; i < m; i++) {
        float slope = cpu_get(dy, i, bf16), gate = cpu_get(b, i, bf16);
        cpu_put(da, i, (add ? cpu_get(da, i, bf16) : 0.0f) + slope * gelu_value(gate), bf16);
        cpu_put(db, i, (add ? cpu_get(db, i, bf16) : 0.0f) + slope * cpu_get(a, i, bf16) * gelu_slope(gate), bf16);
    }
}

CPU_CLONES static void geglu_row_backward(void *restrict da, void *restrict db, const void *restrict dy,
                                          const void *restrict a, const void *restrict b, bool add, int64_t m,
                                          bool bf16)
{
    if (add)
        CPU_BOTH(geglu_slopes, da, db, dy, a, b, true, m);
    else
        CPU_BOTH(geglu_slopes, da, db, dy, a, b, false, m);
}

err cpu_geglu(device *d, tensor *y, const tensor *x)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, "geglu", CPU_TENSORS(x, y)));
    int64_t m = x->dim[x->ndim - 1] / 2, rows = m ? tensor_count(y) / m : 0;
#pragma omp parallel for num_threads(d->threads) schedule(static) if (rows * m > CPU_CHUNK)
    for (int64_t r = 0; r < rows; r++)
        geglu_row(cpu_at(y->data, r * m, bf16), cpu_at(x->data, 2 * r * m, bf16),
                  cpu_at(x->data, (2 * r + 1) * m, bf16), m, bf16);
    return OK;
}

err cpu_geglu_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, bool add)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, "geglu_dx", CPU_TENSORS(x, dy, dx)));
    int64_t m = x->dim[x->ndim - 1] / 2, rows = m ? tensor_count(dy) / m : 0;
#pragma omp parallel for num_threads(d->threads) schedule(static) if (rows * m > CPU_CHUNK)
    for (int64_t r = 0; r < rows; r++)
        geglu_row_backward(cpu_at(dx->data, 2 * r * m, bf16), cpu_at(dx->data, (2 * r + 1) * m, bf16),
                           cpu_at(dy->data, r * m, bf16), cpu_at(x->data, 2 * r * m, bf16),
                           cpu_at(x->data, (2 * r + 1) * m, bf16), add, m, bf16);
    return OK;
}
