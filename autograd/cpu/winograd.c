#include "autograd/cpu/winograd.h"
#include "autograd/cpu/cpu.h"

#include <omp.h>

#include "autograd/cpu/winograd_parts.h"

enum {
    LANES = WINO_LANES,
    POINTS = WINO_POINTS,
    TILES = 128,     /* transformed at a time */
    GROUP = 4,       /* at most so many blocks of outputs are a thread's at a time */
    WEIGHTS = 16,    /* blocks of inputs x blocks of outputs of weights transformed at a time: 576 KiB */
    LEAST_TILES = 9
};

bool winograd_suits(const conv_shape *s)
{
    int64_t tiles = s->batch * ((s->out_height + 3) / 4) * ((s->out_width + 3) / 4);
    return s->type == DT_F32 && s->kernel_height == 3 && s->kernel_width == 3 && s->geometry.stride == 1 &&
           s->in % LANES == 0 && s->out % LANES == 0 && tiles >= LEAST_TILES;
}

/* How the work is cut, and the scratch for it. */
typedef struct plan {
    int64_t tiles, groups, widest; /* tiles at a time; groups of output blocks, blocks of the widest */
    size_t  v, u, m;               /* floats: transformed tiles; each thread's weights, sums */
} plan;

/* An odd number of vectors: rows of one point after the other do not fall on the same places of a cache. */
static int64_t odd(int64_t n)
{
    return n | 1;
}

static plan plan_of(const winograd *c, int threads)
{
    plan    p = {.tiles = c->tiles < TILES ? c->tiles : TILES};
    int64_t blocks = c->out / LANES;
    p.groups = ((blocks + GROUP - 1) / GROUP + threads - 1) / threads * threads;
    p.groups = p.groups < blocks ? p.groups : blocks;
    p.widest = (blocks + p.groups - 1) / p.groups;
    p.v = (size_t)(POINTS * c->in * odd(p.tiles));
    p.u = (size_t)(POINTS * odd((WEIGHTS + GROUP) * LANES) * LANES);
    p.m = (size_t)(POINTS * p.widest * odd(p.tiles) * LANES);
    return p;
}

/* Sums of the output blocks from..from+blocks over all inputs, then the way back. The weights are transformed in pieces
 * that stay in the core's cache, and never as a whole: as a whole they are four times as large as the weights. */
static void run_group(const winograd *c, const wino_tiles *t, float *u, float *m, const float *v, int64_t from,
                      int64_t blocks)
{
    int64_t inputs = c->in / LANES, most = WEIGHTS / blocks, line = t->pitch * LANES;
    for (int64_t k = 0, some; k < inputs; k += some) {
        some = inputs - k < most ? inputs - k : most;
        int64_t step = odd(some * blocks * LANES) * LANES;
        for (int64_t b = 0; b < blocks; b++)
            for (int64_t i = 0; i < some; i++)
                wino_weights(c, u + (b * some + i) * LANES * LANES, step, k + i, from + b);
        wino_product product = {.tiles = t->count, .inputs = some, .outputs = blocks, .m_step = line, .v_step = line,
                                .u_step = some * LANES * LANES, .add = k > 0};
        for (int64_t p = 0; p < POINTS; p++) {
            product.m = m + p * blocks * line;
            product.v = v + (p * inputs + k) * line;
            product.next_v = p + 1 < POINTS ? product.v + inputs * line : product.v;
            product.u = u + p * step;
            wino_multiply(&product);
        }
    }
    for (int64_t at = 0; at < t->count; at++)
        wino_output_tile(c, m, t, at, from, blocks);
}

static void run_tiles(device *d, const winograd *c, const plan *p, float *scratch, wino_tiles t)
{
    float  *v = scratch;
    int64_t blocks = c->out / LANES;
#pragma omp parallel num_threads(d->threads)
    {
        float *u = v + p->v + (p->u + p->m) * (size_t)omp_get_thread_num(), *m = u + p->u;
#pragma omp for schedule(static)
        for (int64_t at = 0; at < t.count; at++)
            wino_input_tile(c, v, &t, at);
#pragma omp for schedule(static)
        for (int64_t g = 0; g < p->groups; g++) {
            int64_t from = g * blocks / p->groups, to = (g + 1) * blocks / p->groups;
            run_group(c, &t, u, m, v, from, to - from);
        }
    }
}

static err run(device *d, winograd *c, int64_t batch)
{
    c->across = (c->out_width + 3) / 4;
    c->down = (c->out_height + 3) / 4;
    c->tiles = batch * c->across * c->down;
    plan   p = plan_of(c, d->threads);
    size_t bytes = sizeof(float) * (p.v + (p.u + p.m) * (size_t)d->threads);
    void  *scratch = NULL;
    TRY(d->memory->get(d->memory, &scratch, bytes, LIFE_SCRATCH));
    if (d->dataless)
        return cpu_done(d, scratch, bytes);
    for (int64_t first = 0; first < c->tiles; first += p.tiles) {
        int64_t count = c->tiles - first < p.tiles ? c->tiles - first : p.tiles;
        run_tiles(d, c, &p, scratch, (wino_tiles){first, count, odd(count)});
    }
    return cpu_done(d, scratch, bytes);
}

err winograd_conv(device *d, float *y, const float *x, const float *w, const float *bias, const conv_shape *s, bool add)
{
    winograd c = {.x = x, .w = w, .bias = bias, .y = y, .height = s->height, .width = s->width, .in = s->in,
                  .out_height = s->out_height, .out_width = s->out_width, .out = s->out, .top = s->geometry.pad_top,
                  .left = s->geometry.pad_left, .weights = s->weights, .add = add};
    return run(d, &c, s->batch);
}

err winograd_conv_dx(device *d, float *dx, const float *dy, const float *w, const conv_shape *s, bool add)
{
    winograd c = {.x = dy, .w = w, .y = dx, .height = s->out_height, .width = s->out_width, .in = s->out,
                  .out_height = s->height, .out_width = s->width, .out = s->in, .top = 2 - s->geometry.pad_top,
                  .left = 2 - s->geometry.pad_left, .weights = s->weights, .turned = true, .add = add};
    return run(d, &c, s->batch);
}
