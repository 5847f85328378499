/* Group norm over NHWC: rows are positions, a row has all channels. Each channel is summed over fixed chunks of rows,
 * as distances from a value in its middle, so that f32 sums of a few rows at a time do; those are added up in f64, the
 * chunks in order, then the group's channels: the same bits for any number of threads. */
#include <math.h>
#include <string.h>

#include "autograd/cpu/cpu.h"
#include "autograd/cpu/element.h"
#include "autograd/cpu/exp.h"

enum { RUN = 16, CHUNKS = 32, BLOCK = 256, SAMPLED = 64 };

typedef struct layout {
    int64_t batch, rows, channels, groups, per_group;
    int64_t chunk_rows, chunks; /* at most CHUNKS of whole runs of rows */
    bool    bf16, silu;
} layout;

static layout layout_of(const tensor *x, int groups, bool silu, bool bf16)
{
    layout l = {.batch = x->dim[0], .channels = x->dim[x->ndim - 1], .groups = groups, .silu = silu, .bf16 = bf16};
    l.rows = tensor_count_from(x, 1) / (l.channels ? l.channels : 1);
    l.per_group = l.channels / groups;
    l.chunk_rows = ((l.rows + CHUNKS - 1) / CHUNKS + RUN - 1) / RUN * RUN;
    l.chunks = l.rows ? (l.rows + l.chunk_rows - 1) / l.chunk_rows : 0;
    return l;
}

/* A chunk of the work: sample s, rows [row, row + rows). */
typedef struct chunk {
    int64_t s, row, rows;
} chunk;

static chunk chunk_of(const layout *l, int64_t task)
{
    chunk c = {.s = task / l->chunks, .row = task % l->chunks * l->chunk_rows};
    c.rows = l->rows - c.row < l->chunk_rows ? l->rows - c.row : l->chunk_rows;
    return c;
}

/* Where a chunk begins in a tensor like x. */
static void *chunk_at(const tensor *x, const layout *l, chunk c)
{
    return cpu_at(x->data, (c.s * l->rows + c.row) * l->channels, l->bf16);
}

/* What all rows of a sample share; each (channels), f32. */
typedef struct channel_tables {
    float *center;                /* about the middle of x's values, without vec */
    float *shift, *factor;        /* mean - vec, rstd w; in the backward rstd alone */
    float *w, *b, *mean_g, *mean_gx;
} channel_tables;
enum { TABLES = 7 };

typedef struct workspace {
    void   *memory;
    size_t  bytes;
    double *part;   /* (batch, chunks, 2, channels) */
    float  *tables; /* (batch, TABLES, channels) */
} workspace;

static err workspace_get(device *d, workspace *space, const layout *l)
{
    size_t doubles = (size_t)(l->batch * l->chunks * 2 * l->channels);
    size_t floats = (size_t)(l->batch * TABLES * l->channels);
    space->bytes = doubles * sizeof(double) + floats * sizeof(float);
    TRY(d->memory->get(d->memory, &space->memory, space->bytes, LIFE_SCRATCH));
    space->part = space->memory;
    space->tables = (float *)(void *)(space->part + doubles);
    return OK;
}

static channel_tables tables_of(const workspace *space, const layout *l, int64_t s)
{
    int64_t n = l->channels;
    float  *t = space->tables + s * TABLES * n;
    return (channel_tables){t, t + n, t + 2 * n, t + 3 * n, t + 4 * n, t + 5 * n, t + 6 * n};
}

static float vec_at(const tensor *vec, const layout *l, int64_t s, int64_t c)
{
    return vec ? cpu_get(vec->data, s * l->channels + c, l->bf16) : 0.0f;
}

/* ---- statistics ---- */

/* center (n) = mean of `rows` rows that lie `step` elements apart */
CPU_INLINE void rows_averaged(float *restrict center, const void *restrict x, int64_t rows, int64_t step, int64_t n,
                              bool bf16)
{
    for (int64_t c = 0; c < n; c++)
        center[c] = 0.0f;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < n; c++)
            center[c] += cpu_get(x, r * step + c, bf16);
    for (int64_t c = 0; c < n; c++)
        center[c] /= (float)rows;
}

/* One far value among those looked at would make every distance from the center far: so many are looked at. */
CPU_CLONES static void average_rows(float *restrict center, const void *restrict x, const layout *l)
{
    bool bf16 = l->bf16;
    int64_t rows = l->rows < SAMPLED ? l->rows : SAMPLED;
    CPU_BOTH(rows_averaged, center, x, rows, l->rows / rows * l->channels, l->channels);
}

/* sum, square (n) += over the rows, x - center and its square */
CPU_INLINE void moments(double *restrict sum, double *restrict square, const void *restrict x,
                        const float *restrict center, int64_t rows, int64_t step, int64_t n, bool bf16)
{
    float s[BLOCK], q[BLOCK];
    for (int64_t first = 0; first < rows; first += RUN) {
        for (int64_t c = 0; c < n; c++)
            s[c] = q[c] = 0.0f;
        for (int64_t r = first; r < rows && r < first + RUN; r++) {
            for (int64_t c = 0; c < n; c++) {
                float v = cpu_get(x, r * step + c, bf16) - center[c];
                s[c] += v;
                q[c] += v * v;
            }
        }
        for (int64_t c = 0; c < n; c++) {
            sum[c] += (double)s[c];
            square[c] += (double)q[c];
        }
    }
}

CPU_CLONES static void chunk_moments(double *restrict part, const void *restrict x, const float *restrict center,
                                     int64_t rows, int64_t channels, bool bf16)
{
    for (int64_t c = 0; c < channels; c += BLOCK) {
        int64_t n = channels - c < BLOCK ? channels - c : BLOCK;
        CPU_BOTH(moments, part + c, part + channels + c, cpu_at(x, c, bf16), center + c, rows, channels, n);
    }
}

/* The chunks' parts (chunks, 2, channels) of a sample, added into the first. */
static void add_chunks(double *part, const layout *l)
{
    int64_t n = 2 * l->channels;
    for (int64_t k = 1; k < l->chunks; k++)
        for (int64_t c = 0; c < n; c++)
            part[c] += part[k * n + c];
}

static void write_statistics(float *mean, float *rstd, const layout *l, const double *part, const float *center,
                             const tensor *vec, int64_t s, float eps)
{
    double rows = (double)l->rows, n = rows * (double)l->per_group;
    for (int64_t g = 0; g < l->groups; g++) {
        double sum = 0, square = 0;
        for (int64_t c = g * l->per_group; c < (g + 1) * l->per_group; c++) {
            double at = (double)center[c] + (double)vec_at(vec, l, s, c), moved = part[c];
            sum += rows * at + moved;
            square += rows * at * at + 2 * at * moved + part[l->channels + c];
        }
        double m = sum / n, variance = square / n - m * m;
        mean[g] = (float)m;
        rstd[g] = (float)(1.0 / sqrt((variance < 0 ? 0 : variance) + (double)eps)); /* NaN stays */
    }
}

/* ---- forward ---- */

CPU_INLINE void normalised(void *restrict y, const void *restrict x, const channel_tables *t, int64_t rows, int64_t n,
                           bool silu, bool bf16)
{
    const float *restrict shift = t->shift, *restrict factor = t->factor, *restrict b = t->b;
    for (int64_t r = 0; r < rows; r++) {
        void *restrict to = cpu_at(y, r * n, bf16);
        const void *restrict from = cpu_at(x, r * n, bf16);
        for (int64_t c = 0; c < n; c++) {
            float v = (cpu_get(from, c, bf16) - shift[c]) * factor[c] + b[c];
            cpu_put(to, c, silu ? v / (1.0f + cpu_exp(-v)) : v, bf16);
        }
    }
}

CPU_CLONES static void group_normalise(void *restrict y, const void *restrict x, const channel_tables *t, int64_t rows,
                                       int64_t n, bool silu, bool bf16)
{
    if (silu)
        CPU_BOTH(normalised, y, x, t, rows, n, true);
    else
        CPU_BOTH(normalised, y, x, t, rows, n, false);
}

/* shift = mean - vec; factor = rstd w; w and b as f32. */
static void fill_tables(channel_tables *t, const layout *l, const float *mean, const float *rstd, const tensor *vec,
                        const tensor *w, const tensor *b, int64_t s)
{
    for (int64_t c = 0; c < l->channels; c++) {
        int64_t g = c / l->per_group;
        t->w[c] = cpu_get(w->data, c, l->bf16);
        t->b[c] = cpu_get(b->data, c, l->bf16);
        t->shift[c] = mean[g] - vec_at(vec, l, s, c);
        t->factor[c] = rstd[g] * t->w[c];
    }
}

err cpu_group_norm(device *d, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *vec,
                   const tensor *w, const tensor *b, int groups, float eps, bool silu)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, "group_norm", CPU_TENSORS(x, vec, w, b, y)));
    layout l = layout_of(x, groups, silu, bf16);
    int64_t C = l.channels, tasks = l.batch * l.chunks;
    workspace space;
    TRY(workspace_get(d, &space, &l));
    if (d->dataless)
        return cpu_done(d, space.memory, space.bytes);
#pragma omp parallel num_threads(d->threads) if (tensor_count(x) > CPU_CHUNK)
    {
#pragma omp for schedule(static)
        for (int64_t s = 0; s < l.batch; s++)
            average_rows(tables_of(&space, &l, s).center, chunk_at(x, &l, (chunk){s, 0, 0}), &l);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < tasks; t++) {
            chunk k = chunk_of(&l, t);
            double *part = space.part + t * 2 * C;
            memset(part, 0, (size_t)(2 * C) * sizeof *part);
            chunk_moments(part, chunk_at(x, &l, k), tables_of(&space, &l, k.s).center, k.rows, C, bf16);
        }
#pragma omp for schedule(static)
        for (int64_t s = 0; s < l.batch; s++) {
            channel_tables t = tables_of(&space, &l, s);
            float *m = (float *)mean->data + s * groups, *r = (float *)rstd->data + s * groups;
            double *part = space.part + s * l.chunks * 2 * C;
            add_chunks(part, &l);
            write_statistics(m, r, &l, part, t.center, vec, s, eps);
            fill_tables(&t, &l, m, r, vec, w, b, s);
        }
#pragma omp for schedule(static)
        for (int64_t t = 0; t < tasks; t++) {
            chunk k = chunk_of(&l, t);
            channel_tables tables = tables_of(&space, &l, k.s);
            group_normalise(chunk_at(y, &l, k), chunk_at(x, &l, k), &tables, k.rows, C, silu, bf16);
        }
    }
    return cpu_done(d, space.memory, space.bytes);
}

/* ---- backward ---- */

/* The gradient before SiLU of one element. */
static inline float before_silu(float dy, float xhat, float w, float b, bool silu)
{
    float v = xhat * w + b, s = 1.0f / (1.0f + cpu_exp(-v));
    return silu ? dy * s * (1.0f + v * (1.0f - s)) : dy;
}

/* sum += g, square += g xhat, with g = dz w; channels [first, first + n) */
CPU_INLINE void gradient_moments(double *restrict sum, double *restrict square, const void *restrict dy,
                                 const void *restrict x, const channel_tables *t, int64_t rows, int64_t step,
                                 int64_t first, int64_t n, bool silu, bool bf16)
{
    const float *restrict shift = t->shift + first, *restrict rstd = t->factor + first;
    const float *restrict w = t->w + first, *restrict b = t->b + first;
    float s[BLOCK], q[BLOCK];
    for (int64_t from = 0; from < rows; from += RUN) {
        for (int64_t c = 0; c < n; c++)
            s[c] = q[c] = 0.0f;
        for (int64_t r = from; r < rows && r < from + RUN; r++) {
            for (int64_t c = 0; c < n; c++) {
                int64_t at = r * step + first + c;
                float xhat = (cpu_get(x, at, bf16) - shift[c]) * rstd[c];
                float g = before_silu(cpu_get(dy, at, bf16), xhat, w[c], b[c], silu) * w[c];
                s[c] += g;
                q[c] += g * xhat;
            }
        }
        for (int64_t c = 0; c < n; c++) {
            sum[c] += (double)s[c];
            square[c] += (double)q[c];
        }
    }
}

CPU_CLONES static void chunk_gradient_moments(double *restrict part, const void *restrict dy, const void *restrict x,
                                              const channel_tables *t, int64_t rows, int64_t channels, bool silu,
                                              bool bf16)
{
    for (int64_t c = 0; c < channels; c += BLOCK) {
        int64_t n = channels - c < BLOCK ? channels - c : BLOCK;
        if (silu)
            CPU_BOTH(gradient_moments, part + c, part + channels + c, dy, x, t, rows, channels, c, n, true);
        else
            CPU_BOTH(gradient_moments, part + c, part + channels + c, dy, x, t, rows, channels, c, n, false);
    }
}

/* dx (+)= rstd (g - mean(g) - xhat mean(g xhat)) */
CPU_INLINE void gradients(void *restrict dx, const void *restrict dy, const void *restrict x, const channel_tables *t,
                          bool add, int64_t rows, int64_t n, bool silu, bool bf16)
{
    const float *restrict shift = t->shift, *restrict rstd = t->factor, *restrict w = t->w, *restrict b = t->b;
    const float *restrict mean_g = t->mean_g, *restrict mean_gx = t->mean_gx;
    for (int64_t r = 0; r < rows; r++) {
        void *restrict to = cpu_at(dx, r * n, bf16);
        const void *restrict slope = cpu_at(dy, r * n, bf16), *restrict from = cpu_at(x, r * n, bf16);
        for (int64_t c = 0; c < n; c++) {
            float xhat = (cpu_get(from, c, bf16) - shift[c]) * rstd[c];
            float g = before_silu(cpu_get(slope, c, bf16), xhat, w[c], b[c], silu) * w[c];
            cpu_put(to, c, (add ? cpu_get(to, c, bf16) : 0.0f) + rstd[c] * (g - mean_g[c] - xhat * mean_gx[c]), bf16);
        }
    }
}

CPU_CLONES static void group_write_dx(void *restrict dx, const void *restrict dy, const void *restrict x,
                                      const channel_tables *t, bool add, int64_t rows, int64_t n, bool silu, bool bf16)
{
    if (silu && add)
        CPU_BOTH(gradients, dx, dy, x, t, true, rows, n, true);
    else if (silu)
        CPU_BOTH(gradients, dx, dy, x, t, false, rows, n, true);
    else if (add)
        CPU_BOTH(gradients, dx, dy, x, t, true, rows, n, false);
    else
        CPU_BOTH(gradients, dx, dy, x, t, false, rows, n, false);
}

static void expand_statistics(channel_tables *t, const layout *l, const tensor *mean, const tensor *rstd,
                              const tensor *vec, const tensor *w, const tensor *b, int64_t s)
{
    const float *rs = (const float *)rstd->data + s * l->groups;
    fill_tables(t, l, (const float *)mean->data + s * l->groups, rs, vec, w, b, s);
    for (int64_t c = 0; c < l->channels; c++)
        t->factor[c] = rs[c / l->per_group];
}

static void expand_gradient_means(channel_tables *t, const layout *l, const double *part)
{
    double n = (double)(l->rows * l->per_group);
    for (int64_t g = 0; g < l->groups; g++) {
        int64_t first = g * l->per_group, end = first + l->per_group;
        double sum = 0, square = 0;
        for (int64_t c = first; c < end; c++) {
            sum += part[c];
            square += part[l->channels + c];
        }
        for (int64_t c = first; c < end; c++) {
            t->mean_g[c] = (float)(sum / n);
            t->mean_gx[c] = (float)(square / n);
        }
    }
}

err cpu_group_norm_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, const tensor *vec, const tensor *w,
                      const tensor *b, const tensor *mean, const tensor *rstd, int groups, bool silu, bool add)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, "group_norm_dx", CPU_TENSORS(x, vec, w, b, dy, dx)));
    layout l = layout_of(x, groups, silu, bf16);
    int64_t C = l.channels, tasks = l.batch * l.chunks;
    workspace space;
    TRY(workspace_get(d, &space, &l));
    if (d->dataless)
        return cpu_done(d, space.memory, space.bytes);
#pragma omp parallel num_threads(d->threads) if (tensor_count(x) > CPU_CHUNK)
    {
#pragma omp for schedule(static)
        for (int64_t s = 0; s < l.batch; s++) {
            channel_tables t = tables_of(&space, &l, s);
            expand_statistics(&t, &l, mean, rstd, vec, w, b, s);
        }
#pragma omp for schedule(static)
        for (int64_t t = 0; t < tasks; t++) {
            chunk k = chunk_of(&l, t);
            channel_tables tables = tables_of(&space, &l, k.s);
            double *part = space.part + t * 2 * C;
            memset(part, 0, (size_t)(2 * C) * sizeof *part);
            chunk_gradient_moments(part, chunk_at(dy, &l, k), chunk_at(x, &l, k), &tables, k.rows, C, silu, bf16);
        }
#pragma omp for schedule(static)
        for (int64_t s = 0; s < l.batch; s++) {
            channel_tables t = tables_of(&space, &l, s);
            add_chunks(space.part + s * l.chunks * 2 * C, &l);
            expand_gradient_means(&t, &l, space.part + s * l.chunks * 2 * C);
        }
#pragma omp for schedule(static)
        for (int64_t t = 0; t < tasks; t++) {
            chunk k = chunk_of(&l, t);
            channel_tables tables = tables_of(&space, &l, k.s);
            group_write_dx(chunk_at(dx, &l, k), chunk_at(dy, &l, k), chunk_at(x, &l, k), &tables, add, k.rows, C, silu,
                           bf16);
        }
    }
    return cpu_done(d, space.memory, space.bytes);
}
