#include <math.h>

#include "autograd/cpu/clones.h"
#include "autograd/cpu/cpu.h"

enum { LANES = 16, COLUMNS = 64 };

/* Sums in f64 in a fixed order of lanes. */
CPU_CLONES static void row_moments(double out[2], const float *restrict x, int64_t n)
{
    double sum[LANES] = {0}, square[LANES] = {0};
    int64_t whole = n - n % LANES;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int j = 0; j < LANES; j++) {
            double v = (double)x[i + j];
            sum[j] += v;
            square[j] += v * v;
        }
    out[0] = out[1] = 0;
    for (int j = 0; j < LANES; j++) {
        out[0] += sum[j];
        out[1] += square[j];
    }
    for (int64_t i = whole; i < n; i++) {
        out[0] += (double)x[i];
        out[1] += (double)x[i] * (double)x[i];
    }
}

CPU_CLONES static void layer_normalise(float *restrict y, const float *restrict x, const float *restrict w,
                                 const float *restrict b, float mean, float rstd, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) * rstd * (w ? w[i] : 1.0f) + (b ? b[i] : 0.0f);
}

err cpu_layer_norm(device *d, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *w, const tensor *b,
                   float eps)
{
    TRY(cpu_need_f32("layer_norm", x));
    TRY(cpu_need_f32("layer_norm", w));
    TRY(cpu_need_f32("layer_norm", b));
    int64_t n = x->dim[1], rows = x->dim[0];
    float *to = y->data, *means = mean ? mean->data : NULL, *rstds = rstd ? rstd->data : NULL;
    const float *from = x->data, *weight = w ? w->data : NULL, *bias = b ? b->data : NULL;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        double moments[2];
        row_moments(moments, from + r * n, n);
        double m = moments[0] / (double)n, variance = moments[1] / (double)n - m * m;
        float rs = (float)(1.0 / sqrt((variance > 0 ? variance : 0) + (double)eps));
        layer_normalise(to + r * n, from + r * n, weight, bias, (float)m, rs, n);
        if (means)
            means[r] = (float)m;
        if (rstds)
            rstds[r] = rs;
    }
    return OK;
}

/* sums of g = dy w and of g xhat over a row */
CPU_CLONES static void gradient_sums(double out[2], const float *restrict dy, const float *restrict x,
                                     const float *restrict w, float mean, float rstd, int64_t n)
{
    double sum[LANES] = {0}, product[LANES] = {0};
    int64_t whole = n - n % LANES;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int j = 0; j < LANES; j++) {
            float g = dy[i + j] * (w ? w[i + j] : 1.0f);
            sum[j] += (double)g;
            product[j] += (double)(g * ((x[i + j] - mean) * rstd));
        }
    out[0] = out[1] = 0;
    for (int j = 0; j < LANES; j++) {
        out[0] += sum[j];
        out[1] += product[j];
    }
    for (int64_t i = whole; i < n; i++) {
        float g = dy[i] * (w ? w[i] : 1.0f);
        out[0] += (double)g;
        out[1] += (double)(g * ((x[i] - mean) * rstd));
    }
}

typedef struct row_statistics {
    float mean, rstd, mean_g, mean_gx;
} row_statistics;

CPU_CLONES static void layer_write_dx(float *restrict dx, const float *restrict dy, const float *restrict x,
                                const float *restrict w, row_statistics s, float keep, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float xhat = (x[i] - s.mean) * s.rstd, g = dy[i] * (w ? w[i] : 1.0f);
        dx[i] = (keep == 0.0f ? 0.0f : dx[i]) + s.rstd * (g - s.mean_g - xhat * s.mean_gx);
    }
}

err cpu_layer_norm_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, const tensor *w, const tensor *mean,
                      const tensor *rstd, bool add)
{
    TRY(cpu_need_f32("layer_norm_dx", x));
    TRY(cpu_need_f32("layer_norm_dx", dy));
    int64_t n = x->dim[1], rows = x->dim[0];
    const float *from = x->data, *slope = dy->data, *weight = w ? w->data : NULL;
    const float *means = mean->data, *rstds = rstd->data;
    float *to = dx->data;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        double sums[2];
        gradient_sums(sums, slope + r * n, from + r * n, weight, means[r], rstds[r], n);
        row_statistics s = {means[r], rstds[r], (float)(sums[0] / (double)n), (float)(sums[1] / (double)n)};
        layer_write_dx(to + r * n, slope + r * n, from + r * n, weight, s, add ? 1.0f : 0.0f, n);
    }
    return OK;
}

/* Column sums in f64, row by row, for the columns [first, first + width). */
CPU_CLONES static void column_sums(double *restrict dw, double *restrict db, const float *restrict dy,
                                   const float *restrict x, const float *restrict mean, const float *restrict rstd,
                                   int64_t rows, int64_t n, int64_t width)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < width; c++) {
            float slope = dy[r * n + c];
            db[c] += (double)slope;
            dw[c] += (double)(slope * ((x[r * n + c] - mean[r]) * rstd[r]));
        }
    }
}

err cpu_layer_norm_dwb(device *d, tensor *dw, tensor *db, const tensor *dy, const tensor *x, const tensor *mean,
                       const tensor *rstd, bool add_w, bool add_b)
{
    TRY(cpu_need_f32("layer_norm_dwb", x));
    TRY(cpu_need_f32("layer_norm_dwb", dy));
    int64_t n = x->dim[1], rows = x->dim[0];
    float *to_w = dw ? dw->data : NULL, *to_b = db ? db->data : NULL;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t c0 = 0; c0 < n; c0 += COLUMNS) {
        int64_t width = n - c0 < COLUMNS ? n - c0 : COLUMNS;
        double sum_w[COLUMNS] = {0}, sum_b[COLUMNS] = {0};
        column_sums(sum_w, sum_b, (const float *)dy->data + c0, (const float *)x->data + c0, mean->data, rstd->data,
                    rows, n, width);
        for (int64_t c = 0; c < width; c++) {
            if (to_w)
                to_w[c0 + c] = (add_w ? to_w[c0 + c] : 0.0f) + (float)sum_w[c];
            if (to_b)
                to_b[c0 + c] = (add_b ? to_b[c0 + c] : 0.0f) + (float)sum_b[c];
        }
    }
    return OK;
}
