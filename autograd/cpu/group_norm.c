/* Group norm over NHWC: rows are positions, a row has all channels. Sums run per channel over fixed chunks of rows in
 * f64, then over the chunks in order, then over the group's channels: the same bits for any number of threads. */
#include <math.h>
#include <stdlib.h>

#include "autograd/cpu/clones.h"
#include "autograd/cpu/cpu.h"
#include "autograd/cpu/exp.h"

enum { CHUNK_ROWS = 256 };

typedef struct layout {
    int64_t batch, rows, channels, groups, per_group, chunks;
} layout;

static layout layout_of(const tensor *x, int groups)
{
    layout l = {.batch = x->dim[0], .channels = x->dim[x->ndim - 1], .groups = groups};
    l.rows = tensor_count_from(x, 1) / (l.channels ? l.channels : 1);
    l.per_group = l.channels / groups;
    l.chunks = (l.rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
    return l;
}

static int64_t rows_of_chunk(const layout *l, int64_t chunk)
{
    int64_t left = l->rows - chunk * CHUNK_ROWS;
    return left < CHUNK_ROWS ? left : CHUNK_ROWS;
}

/* ---- statistics ---- */

CPU_CLONES static void add_moments(double *restrict sum, double *restrict square, const float *restrict x,
                                   const float *restrict vec, int64_t n)
{
    for (int64_t c = 0; c < n; c++) {
        double v = (double)x[c] + (vec ? (double)vec[c] : 0.0);
        sum[c] += v;
        square[c] += v * v;
    }
}

static void chunk_moments(double *part, const layout *l, const float *x, const float *vec, int64_t rows)
{
    for (int64_t i = 0; i < 2 * l->channels; i++)
        part[i] = 0;
    for (int64_t r = 0; r < rows; r++)
        add_moments(part, part + l->channels, x + r * l->channels, vec, l->channels);
}

/* Sums of `part` (chunks, 2, channels) over chunks and the channels of a group. */
static void group_sums(double out[2], const layout *l, const double *part, int64_t group)
{
    out[0] = out[1] = 0;
    for (int64_t c = group * l->per_group; c < (group + 1) * l->per_group; c++) {
        for (int64_t k = 0; k < l->chunks; k++) {
            out[0] += part[2 * k * l->channels + c];
            out[1] += part[(2 * k + 1) * l->channels + c];
        }
    }
}

static void write_statistics(float *mean, float *rstd, const layout *l, const double *part, float eps)
{
    double n = (double)(l->rows * l->per_group);
    for (int64_t g = 0; g < l->groups; g++) {
        double sums[2];
        group_sums(sums, l, part, g);
        double m = sums[0] / n, variance = sums[1] / n - m * m;
        mean[g] = (float)m;
        rstd[g] = (float)(1.0 / sqrt((variance > 0 ? variance : 0) + (double)eps));
    }
}

/* ---- forward ---- */

CPU_CLONES static void group_normalise(float *restrict y, const float *restrict x, const float *restrict shift,
                                 const float *restrict factor, const float *restrict b, int64_t n, int silu)
{
    if (silu) {
        for (int64_t c = 0; c < n; c++) {
            float v = (x[c] - shift[c]) * factor[c] + b[c];
            y[c] = v / (1.0f + cpu_exp(-v));
        }
    } else {
        for (int64_t c = 0; c < n; c++)
            y[c] = (x[c] - shift[c]) * factor[c] + b[c];
    }
}

/* Per channel of one sample: shift = mean - vec, factor = rstd w. */
static void channel_factors(float *shift, float *factor, const layout *l, const float *mean, const float *rstd,
                            const float *vec, const float *w)
{
    for (int64_t c = 0; c < l->channels; c++) {
        int64_t g = c / l->per_group;
        shift[c] = mean[g] - (vec ? vec[c] : 0.0f);
        factor[c] = rstd[g] * w[c];
    }
}

static const float *sample_of(const tensor *t, int64_t b, int64_t stride)
{
    return t ? (const float *)t->data + b * stride : NULL;
}

static err check_inputs(const tensor *x, const tensor *vec, const tensor *w, const tensor *b)
{
    TRY(cpu_need_f32("group_norm", x));
    TRY(cpu_need_f32("group_norm", vec));
    TRY(cpu_need_f32("group_norm", w));
    return cpu_need_f32("group_norm", b);
}

err cpu_group_norm(device *d, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *vec,
                   const tensor *w, const tensor *b, int groups, float eps, bool silu)
{
    TRY(check_inputs(x, vec, w, b));
    layout l = layout_of(x, groups);
    int64_t C = l.channels, plane = l.rows * C, tasks = l.batch * l.chunks;
    size_t part_bytes = (size_t)(tasks * 2 * C) * sizeof(double);
    size_t factor_bytes = (size_t)(l.batch * 2 * C) * sizeof(float);
    void *part_memory = NULL, *factor_memory = NULL;
    TRY(d->memory->get(d->memory, &part_memory, part_bytes, LIFE_SCRATCH));
    err e = d->memory->get(d->memory, &factor_memory, factor_bytes, LIFE_SCRATCH);
    double *part = part_memory;
    float *factors = factor_memory;
    if (e == OK) {
#pragma omp parallel num_threads(d->threads)
        {
#pragma omp for schedule(static)
            for (int64_t t = 0; t < tasks; t++) {
                int64_t s = t / l.chunks, k = t % l.chunks;
                chunk_moments(part + t * 2 * C, &l, sample_of(x, s, plane) + k * CHUNK_ROWS * C, sample_of(vec, s, C),
                              rows_of_chunk(&l, k));
            }
#pragma omp for schedule(static)
            for (int64_t s = 0; s < l.batch; s++) {
                float *m = (float *)mean->data + s * groups, *r = (float *)rstd->data + s * groups;
                write_statistics(m, r, &l, part + s * l.chunks * 2 * C, eps);
                channel_factors(factors + s * 2 * C, factors + (s * 2 + 1) * C, &l, m, r, sample_of(vec, s, C),
                                w->data);
            }
#pragma omp for schedule(static)
            for (int64_t i = 0; i < l.batch * l.rows; i++) {
                const float *f = factors + i / l.rows * 2 * C;
                group_normalise((float *)y->data + i * C, (const float *)x->data + i * C, f, f + C, b->data, C, silu);
            }
        }
        d->memory->put(d->memory, factor_memory, factor_bytes, LIFE_SCRATCH);
    }
    d->memory->put(d->memory, part_memory, part_bytes, LIFE_SCRATCH);
    return e;
}

/* ---- backward ---- */

/* The gradient before SiLU and the normalised value of one element. */
static inline float before_silu(float dy, float xhat, float w, float b, int silu)
{
    if (!silu)
        return dy;
    float v = xhat * w + b, s = 1.0f / (1.0f + cpu_exp(-v));
    return dy * s * (1.0f + v * (1.0f - s));
}

typedef struct row_inputs { /* per channel of one sample */
    const float *shift, *rstd, *w, *b;
    int          silu;
} row_inputs;

/* sum += dz w, square += dz w xhat */
CPU_CLONES static void add_gradient_sums(double *restrict sum, double *restrict square, const float *restrict dy,
                                         const float *restrict x, const row_inputs *in, int64_t n)
{
    const float *shift = in->shift, *rstd = in->rstd, *w = in->w, *b = in->b;
    int silu = in->silu;
    for (int64_t c = 0; c < n; c++) {
        float xhat = (x[c] - shift[c]) * rstd[c];
        float g = before_silu(dy[c], xhat, w[c], b[c], silu) * w[c];
        sum[c] += (double)g;
        square[c] += (double)(g * xhat);
    }
}

/* dx (+)= rstd (g - mean(g) - xhat mean(g xhat)) */
CPU_CLONES static void group_write_dx(float *restrict dx, const float *restrict dy, const float *restrict x,
                                const row_inputs *in, const float *restrict mean_g, const float *restrict mean_gx,
                                float keep, int64_t n)
{
    const float *shift = in->shift, *rstd = in->rstd, *w = in->w, *b = in->b;
    int silu = in->silu;
    for (int64_t c = 0; c < n; c++) {
        float xhat = (x[c] - shift[c]) * rstd[c];
        float g = before_silu(dy[c], xhat, w[c], b[c], silu) * w[c];
        dx[c] = (keep == 0.0f ? 0.0f : dx[c]) + rstd[c] * (g - mean_g[c] - xhat * mean_gx[c]);
    }
}

/* table of one sample: shift, rstd, mean_g, mean_gx, each (channels) */
enum { TABLE_ROWS = 4 };

static void expand_statistics(float *table, const layout *l, const float *mean, const float *rstd, const float *vec)
{
    for (int64_t c = 0; c < l->channels; c++) {
        table[c] = mean[c / l->per_group] - (vec ? vec[c] : 0.0f);
        table[l->channels + c] = rstd[c / l->per_group];
    }
}

static void expand_gradient_means(float *table, const layout *l, const double *part)
{
    double n = (double)(l->rows * l->per_group);
    for (int64_t g = 0; g < l->groups; g++) {
        double sums[2];
        group_sums(sums, l, part, g);
        for (int64_t c = g * l->per_group; c < (g + 1) * l->per_group; c++) {
            table[2 * l->channels + c] = (float)(sums[0] / n);
            table[3 * l->channels + c] = (float)(sums[1] / n);
        }
    }
}

static row_inputs inputs_of(const float *table, const layout *l, const tensor *w, const tensor *b, bool silu)
{
    return (row_inputs){.shift = table, .rstd = table + l->channels, .w = w->data, .b = b->data, .silu = silu};
}

err cpu_group_norm_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, const tensor *vec, const tensor *w,
                      const tensor *b, const tensor *mean, const tensor *rstd, int groups, bool silu, bool add)
{
    TRY(check_inputs(x, vec, w, b));
    TRY(cpu_need_f32("group_norm_dx", dy));
    layout l = layout_of(x, groups);
    int64_t C = l.channels, plane = l.rows * C, tasks = l.batch * l.chunks;
    size_t part_bytes = (size_t)(tasks * 2 * C) * sizeof(double);
    size_t table_bytes = (size_t)(l.batch * TABLE_ROWS * C) * sizeof(float);
    void *part_memory = NULL, *table_memory = NULL;
    TRY(d->memory->get(d->memory, &part_memory, part_bytes, LIFE_SCRATCH));
    err e = d->memory->get(d->memory, &table_memory, table_bytes, LIFE_SCRATCH);
    double *part = part_memory;
    float *tables = table_memory;
    if (e == OK) {
#pragma omp parallel num_threads(d->threads)
        {
#pragma omp for schedule(static)
            for (int64_t s = 0; s < l.batch; s++)
                expand_statistics(tables + s * TABLE_ROWS * C, &l, sample_of(mean, s, groups),
                                  sample_of(rstd, s, groups), sample_of(vec, s, C));
#pragma omp for schedule(static)
            for (int64_t t = 0; t < tasks; t++) {
                int64_t s = t / l.chunks, first = t % l.chunks * CHUNK_ROWS;
                row_inputs in = inputs_of(tables + s * TABLE_ROWS * C, &l, w, b, silu);
                double *own = part + t * 2 * C;
                for (int64_t i = 0; i < 2 * C; i++)
                    own[i] = 0;
                for (int64_t r = first; r < first + rows_of_chunk(&l, t % l.chunks); r++)
                    add_gradient_sums(own, own + C, sample_of(dy, s, plane) + r * C, sample_of(x, s, plane) + r * C,
                                      &in, C);
            }
#pragma omp for schedule(static)
            for (int64_t s = 0; s < l.batch; s++)
                expand_gradient_means(tables + s * TABLE_ROWS * C, &l, part + s * l.chunks * 2 * C);
#pragma omp for schedule(static)
            for (int64_t i = 0; i < l.batch * l.rows; i++) {
                const float *table = tables + i / l.rows * TABLE_ROWS * C;
                row_inputs in = inputs_of(table, &l, w, b, silu);
                group_write_dx((float *)dx->data + i * C, (const float *)dy->data + i * C, (const float *)x->data + i * C,
                         &in, table + 2 * C, table + 3 * C, add ? 1.0f : 0.0f, C);
            }
        }
        d->memory->put(d->memory, table_memory, table_bytes, LIFE_SCRATCH);
    }
    d->memory->put(d->memory, part_memory, part_bytes, LIFE_SCRATCH);
    return e;
}
