/* Layer norm: statistics of each row in two passes over it, the second from the first's mean, so that f32 sums do. */
#include <math.h>

#include "autograd/cpu/cpu.h"
#include "autograd/cpu/element.h"

enum { COLUMNS = 64 };

/* The parameter as f32, `otherwise` where it is NULL. */
static void widen_parameter(float *to, const tensor *w, float otherwise, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = w ? cpu_get(w->data, i, w->type == DT_BF16) : otherwise;
}

/* ---- forward ---- */

CPU_INLINE void normalise(void *restrict y, float *mean, float *rstd, const void *restrict x, const float *restrict w,
                          const float *restrict b, double eps, int64_t n, bool bf16)
{
    float sum = 0, rest = 0, square = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += cpu_get(x, i, bf16);
    float near = sum / (float)n;
#pragma omp simd reduction(+ : rest, square)
    for (int64_t i = 0; i < n; i++) {
        float v = cpu_get(x, i, bf16) - near;
        rest += v;
        square += v * v;
    }
    double moved = (double)rest / (double)n, variance = (double)square / (double)n - moved * moved;
    variance = variance < 0 ? 0 : variance; /* NaN stays */
    float m = (float)((double)near + moved), rs = (float)(1.0 / sqrt(variance + eps));
    for (int64_t i = 0; i < n; i++)
        cpu_put(y, i, (cpu_get(x, i, bf16) - m) * rs * w[i] + b[i], bf16);
    *mean = m;
    *rstd = rs;
}

CPU_INLINE void normalise_rows(void *restrict y, float *means, float *rstds, const void *restrict x,
                               const float *restrict w, const float *restrict b, double eps, int64_t rows, int64_t n,
                               bool bf16)
{
    for (int64_t r = 0; r < rows; r++) {
        float mean, rstd;
        normalise(cpu_at(y, r * n, bf16), &mean, &rstd, cpu_at(x, r * n, bf16), w, b, eps, n, bf16);
        if (means)
            means[r] = mean;
        if (rstds)
            rstds[r] = rstd;
    }
}

CPU_CLONES static void layer_normalise(void *restrict y, float *means, float *rstds, const void *restrict x,
                                       const float *restrict w, const float *restrict b, double eps, int64_t rows,
                                       int64_t n, bool bf16)
{
    CPU_BOTH(normalise_rows, y, means, rstds, x, w, b, eps, rows, n);
}

/* Rows that a thread takes at a time. */
static int64_t rows_at_once(int64_t n)
{
    return n < CPU_CHUNK / 4 ? CPU_CHUNK / 4 / (n ? n : 1) : 1;
}

err cpu_layer_norm(device *d, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *w, const tensor *b,
                   float eps)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, "layer_norm", CPU_TENSORS(x, w, b, y)));
    int64_t n = x->dim[1], rows = x->dim[0], step = rows_at_once(n);
    size_t bytes = (size_t)(2 * n) * sizeof(float);
    void *memory = NULL;
    TRY(d->memory->get(d->memory, &memory, bytes, LIFE_SCRATCH));
    if (d->dataless)
        return cpu_done(d, memory, bytes);
    float *weight = memory, *bias = weight + n;
    widen_parameter(weight, w, 1.0f, n);
    widen_parameter(bias, b, 0.0f, n);
    float *means = mean ? mean->data : NULL, *rstds = rstd ? rstd->data : NULL;
#pragma omp parallel for num_threads(d->threads) schedule(static) if (rows * n > CPU_CHUNK)
    for (int64_t r = 0; r < rows; r += step)
        layer_normalise(cpu_at(y->data, r * n, bf16), means ? means + r : NULL, rstds ? rstds + r : NULL,
                        cpu_at(x->data, r * n, bf16), weight, bias, (double)eps, rows - r < step ? rows - r : step, n,
                        bf16);
    return cpu_done(d, memory, bytes);
}

/* ---- backward ---- */

/* dx (+)= rstd (g - mean(g) - xhat mean(g xhat)), g = dy w */
CPU_INLINE void write_row_dx(void *restrict dx, const void *restrict dy, const void *restrict x, const float *restrict w,
                             float mean, float rstd, bool add, int64_t n, bool bf16)
{
    float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
    for (int64_t i = 0; i < n; i++) {
        float g = cpu_get(dy, i, bf16) * w[i];
        sum += g;
        product += g * ((cpu_get(x, i, bf16) - mean) * rstd);
    }
    float mean_g = sum / (float)n, mean_gx = product / (float)n;
    for (int64_t i = 0; i < n; i++) {
        float xhat = (cpu_get(x, i, bf16) - mean) * rstd, g = cpu_get(dy, i, bf16) * w[i];
        cpu_put(dx, i, (add ? cpu_get(dx, i, bf16) : 0.0f) + rstd * (g - mean_g - xhat * mean_gx), bf16);
    }
}

CPU_CLONES static void layer_write_dx(void *restrict dx, const void *restrict dy, const void *restrict x,
                                      const float *restrict w, float mean, float rstd, bool add, int64_t n, bool bf16)
{
    if (add)
        CPU_BOTH(write_row_dx, dx, dy, x, w, mean, rstd, true, n);
    else
        CPU_BOTH(write_row_dx, dx, dy, x, w, mean, rstd, false, n);
}

err cpu_layer_norm_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, const tensor *w, const tensor *mean,
                      const tensor *rstd, bool add)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, "layer_norm_dx", CPU_TENSORS(x, w, dy, dx)));
    int64_t n = x->dim[1], rows = x->dim[0];
    size_t bytes = (size_t)n * sizeof(float);
    void *memory = NULL;
    TRY(d->memory->get(d->memory, &memory, bytes, LIFE_SCRATCH));
    if (d->dataless)
        return cpu_done(d, memory, bytes);
    float *weight = memory;
    widen_parameter(weight, w, 1.0f, n);
    const float *means = mean->data, *rstds = rstd->data;
#pragma omp parallel for num_threads(d->threads) schedule(static) if (rows * n > CPU_CHUNK)
    for (int64_t r = 0; r < rows; r++)
        layer_write_dx(cpu_at(dx->data, r * n, bf16), cpu_at(dy->data, r * n, bf16), cpu_at(x->data, r * n, bf16),
                       weight, means[r], rstds[r], add, n, bf16);
    return cpu_done(d, memory, bytes);
}

/* Column sums in f64, row by row, for the columns [first, first + width). */
CPU_INLINE void columns_summed(double *restrict dw, double *restrict db, const void *restrict dy, const void *restrict x,
                               const float *restrict mean, const float *restrict rstd, int64_t rows, int64_t n,
                               int64_t first, int64_t width, bool bf16)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < width; c++) {
            float slope = cpu_get(dy, r * n + first + c, bf16);
            db[c] += (double)slope;
            dw[c] += (double)(slope * ((cpu_get(x, r * n + first + c, bf16) - mean[r]) * rstd[r]));
        }
    }
}

CPU_CLONES static void column_sums(double *restrict dw, double *restrict db, const void *restrict dy,
                                   const void *restrict x, const float *restrict mean, const float *restrict rstd,
                                   int64_t rows, int64_t n, int64_t first, int64_t width, bool bf16)
{
    CPU_BOTH(columns_summed, dw, db, dy, x, mean, rstd, rows, n, first, width);
}

err cpu_layer_norm_dwb(device *d, tensor *dw, tensor *db, const tensor *dy, const tensor *x, const tensor *mean,
                       const tensor *rstd, bool add_w, bool add_b)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, "layer_norm_dwb", CPU_TENSORS(x, dy)));
    TRY(cpu_need_f32("layer_norm_dwb", dw));
    TRY(cpu_need_f32("layer_norm_dwb", db));
    int64_t n = x->dim[1], rows = x->dim[0];
    float *to_w = dw ? dw->data : NULL, *to_b = db ? db->data : NULL;
#pragma omp parallel for num_threads(d->threads) schedule(static) if (rows * n > CPU_CHUNK)
    for (int64_t c0 = 0; c0 < n; c0 += COLUMNS) {
        int64_t width = n - c0 < COLUMNS ? n - c0 : COLUMNS;
        double sum_w[COLUMNS] = {0}, sum_b[COLUMNS] = {0};
        column_sums(sum_w, sum_b, dy->data, x->data, mean->data, rstd->data, rows, n, c0, width, bf16);
        for (int64_t c = 0; c < width; c++) {
            if (to_w)
                to_w[c0 + c] = (add_w ? to_w[c0 + c] : 0.0f) + (float)sum_w[c];
            if (to_b)
                to_b[c0 + c] = (add_b ? to_b[c0 + c] : 0.0f) + (float)sum_b[c];
        }
    }
    return OK;
}
