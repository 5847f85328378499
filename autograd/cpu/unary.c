#include "autograd/cpu/clones.h"
#include "autograd/cpu/cpu.h"
#include "autograd/cpu/erf.h"

static inline float sigmoid(float x)
{
    return 1.0f / (1.0f + cpu_exp(-x));
}

static inline float gelu_value(float x)
{
    return 0.5f * x * (1.0f + cpu_erf(x * 0x1.6a09e6p-1f));
}

/* d gelu = Phi(x) + x phi(x) */
static inline float gelu_slope(float x)
{
    return 0.5f * (1.0f + cpu_erf(x * 0x1.6a09e6p-1f)) + x * 0x1.988454p-2f * cpu_exp(-0.5f * x * x);
}

/* quick-GELU: x sigmoid(1.702 x), as CLIP has it */
#define DEFINE_UNARY(name, value, slope)                                                                \
    CPU_CLONES static void name##_forward(float *restrict y, const float *restrict x, int64_t n)        \
    {                                                                                                   \
        for (int64_t i = 0; i < n; i++) {                                                               \
            float v = x[i];                                                                             \
            y[i] = (value);                                                                             \
        }                                                                                               \
    }                                                                                                   \
    CPU_CLONES static void name##_backward(float *restrict dx, const float *restrict dy,                \
                                           const float *restrict x, float keep, int64_t n)              \
    {                                                                                                   \
        if (keep == 0.0f) {                                                                             \
            for (int64_t i = 0; i < n; i++) {                                                           \
                float v = x[i];                                                                         \
                dx[i] = dy[i] * (slope);                                                                \
            }                                                                                           \
        } else {                                                                                        \
            for (int64_t i = 0; i < n; i++) {                                                           \
                float v = x[i];                                                                         \
                dx[i] += dy[i] * (slope);                                                               \
            }                                                                                           \
        }                                                                                               \
    }
DEFINE_UNARY(silu, v * sigmoid(v), sigmoid(v) * (1.0f + v * (1.0f - sigmoid(v))))
DEFINE_UNARY(gelu, gelu_value(v), gelu_slope(v))
DEFINE_UNARY(quick_gelu, v * sigmoid(1.702f * v),
             sigmoid(1.702f * v) * (1.0f + 1.702f * v * (1.0f - sigmoid(1.702f * v))))

err cpu_unary(device *d, tensor *y, const tensor *x, unary f)
{
    TRY(cpu_need_f32("unary", x));
    const float *from = x->data;
    float *to = y->data;
    int64_t n = tensor_count(x);
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < n; i += CPU_CHUNK) {
        int64_t m = n - i < CPU_CHUNK ? n - i : CPU_CHUNK;
        if (f == UNARY_SILU)
            silu_forward(to + i, from + i, m);
        else if (f == UNARY_GELU)
            gelu_forward(to + i, from + i, m);
        else
            quick_gelu_forward(to + i, from + i, m);
    }
    return OK;
}

err cpu_unary_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, unary f, bool add)
{
    TRY(cpu_need_f32("unary_dx", x));
    TRY(cpu_need_f32("unary_dx", dy));
    const float *from = x->data, *slope = dy->data;
    float *to = dx->data, keep = add ? 1.0f : 0.0f;
    int64_t n = tensor_count(x);
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < n; i += CPU_CHUNK) {
        int64_t m = n - i < CPU_CHUNK ? n - i : CPU_CHUNK;
        if (f == UNARY_SILU)
            silu_backward(to + i, slope + i, from + i, keep, m);
        else if (f == UNARY_GELU)
            gelu_backward(to + i, slope + i, from + i, keep, m);
        else
            quick_gelu_backward(to + i, slope + i, from + i, keep, m);
    }
    return OK;
}

/* ---- geglu: x (n,2m) = [a|b], y = a gelu(b) ---- */

CPU_CLONES static void geglu_row(float *restrict y, const float *restrict x, int64_t m)
{
    const float *a = x, *b = x + m;
    for (int64_t i = 0; i < m; i++)
        y[i] = a[i] * gelu_value(b[i]);
}

CPU_CLONES static void geglu_row_backward(float *restrict dx, const float *restrict dy, const float *restrict x,
                                          float keep, int64_t m)
{
    for (int64_t i = 0; i < m; i++)
        dx[i] = (keep == 0.0f ? 0.0f : dx[i]) + dy[i] * gelu_value(x[m + i]);
    for (int64_t i = 0; i < m; i++)
        dx[m + i] = (keep == 0.0f ? 0.0f : dx[m + i]) + dy[i] * x[i] * gelu_slope(x[m + i]);
}

err cpu_geglu(device *d, tensor *y, const tensor *x)
{
    TRY(cpu_need_f32("geglu", x));
    int64_t m = x->dim[x->ndim - 1] / 2, rows = m ? tensor_count(y) / m : 0;
    const float *from = x->data;
    float *to = y->data;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t r = 0; r < rows; r++)
        geglu_row(to + r * m, from + 2 * r * m, m);
    return OK;
}

err cpu_geglu_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, bool add)
{
    TRY(cpu_need_f32("geglu_dx", x));
    TRY(cpu_need_f32("geglu_dx", dy));
    int64_t m = x->dim[x->ndim - 1] / 2, rows = m ? tensor_count(dy) / m : 0;
    const float *from = x->data, *slope = dy->data;
    float *to = dx->data;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t r = 0; r < rows; r++)
        geglu_row_backward(to + 2 * r * m, slope + r * m, from + 2 * r * m, add ? 1.0f : 0.0f, m);
    return OK;
}
