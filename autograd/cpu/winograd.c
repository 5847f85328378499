#include "autograd/cpu/winograd.h"

#include "autograd/cpu/clones.h"
#include "autograd/cpu/onednn.h"

enum {
    LANES = 16,      /* channels at a time */
    POINTS = 36,     /* 6x6 of a tile */
    BLOCK = 256,     /* tiles a product takes: the weights are read once for each block */
    LEAST_PLACES = 1024
};

/* A convolution y = conv(x, w), or the data gradient, which is one too: of dy with the kernel turned round. */
typedef struct winograd {
    const float *x, *bias;
    float       *y;
    int64_t      height, width, in, out_height, out_width, out, top, left;
    int64_t      across, tiles; /* tiles in a row, in the whole batch */
    int64_t      down;          /* rows of tiles in a picture */
    bool         add;
} winograd;

bool winograd_suits(const conv_shape *s)
{
    return s->type == DT_F32 && s->weights == CONV_PLAIN && s->kernel_height == 3 && s->kernel_width == 3 && s->geometry.stride == 1 && s->in % LANES == 0 &&
           s->out % LANES == 0 && s->batch * s->out_height * s->out_width >= LEAST_PLACES;
}

/* One dimension of B^T d B: six values, `step` apart, in place of six. */
static inline void input_six(float *d, int step)
{
    for (int i = 0; i < LANES; i++) {
        float a = d[i], b = d[step + i], c = d[2 * step + i], e = d[3 * step + i], f = d[4 * step + i],
              g = d[5 * step + i];
        float even = f - 4.0f * c, odd = e - 4.0f * b, near = f - c, far = 2.0f * (e - b);
        d[i] = 4.0f * a - 5.0f * c + f;
        d[step + i] = even + odd;
        d[2 * step + i] = even - odd;
        d[3 * step + i] = near + far;
        d[4 * step + i] = near - far;
        d[5 * step + i] = 4.0f * b - 5.0f * e + g;
    }
}

/* One dimension of A^T m A: four values from six. */
static inline void output_four(float *m, int step)
{
    for (int i = 0; i < LANES; i++) {
        float a = m[i], b = m[step + i], c = m[2 * step + i], e = m[3 * step + i], f = m[4 * step + i],
              g = m[5 * step + i];
        float near = b + c, near_odd = b - c, far = e + f, far_odd = e - f;
        m[i] = a + near + far;
        m[step + i] = near_odd + 2.0f * far_odd;
        m[2 * step + i] = near + 4.0f * far;
        m[3 * step + i] = near_odd + 8.0f * far_odd + g;
    }
}

/* One dimension of G g G^T: six values from three. */
static inline void weight_six(float *to, const float *from, int step)
{
    for (int i = 0; i < LANES; i++) {
        float a = from[i], b = from[step + i], c = from[2 * step + i];
        float even = (a + c) * (1.0f / 6.0f), far = a * (1.0f / 24.0f) + c * (1.0f / 6.0f);
        to[i] = 0.25f * a;
        to[step + i] = -even - b * (1.0f / 6.0f);
        to[2 * step + i] = b * (1.0f / 6.0f) - even;
        to[3 * step + i] = far + b * (1.0f / 12.0f);
        to[4 * step + i] = far - b * (1.0f / 12.0f);
        to[5 * step + i] = c;
    }
}

/* One filter w (3,3,in) to its 36 rows u[p * rows * in]; turned: the kernel seen from the other end. */
CPU_CLONES static void weights_of(float *u, const float *w, int64_t in, int64_t rows, bool turned)
{
    for (int64_t c = 0; c < in; c += LANES) {
        float first[3 * 6 * LANES], from[3 * LANES], column[3 * LANES], second[6 * LANES];
        for (int x = 0; x < 3; x++) {
            for (int y = 0; y < 3; y++)
                for (int i = 0; i < LANES; i++)
                    from[y * LANES + i] = w[(turned ? 8 - (y * 3 + x) : y * 3 + x) * in + c + i];
            weight_six(first + x * 6 * LANES, from, LANES);
        }
        for (int y = 0; y < 6; y++) {
            for (int x = 0; x < 3; x++)
                for (int i = 0; i < LANES; i++)
                    column[x * LANES + i] = first[(x * 6 + y) * LANES + i];
            weight_six(second, column, LANES);
            for (int x = 0; x < 6; x++)
                for (int i = 0; i < LANES; i++)
                    u[(y * 6 + x) * rows * in + c + i] = second[x * LANES + i];
        }
    }
}

/* Where tile t of the batch begins: its picture and its first output row and column. */
static inline void place_of(const winograd *c, int64_t t, int64_t *picture, int64_t *row, int64_t *column)
{
    *column = t % c->across * 4;
    *row = t / c->across % c->down * 4;
    *picture = t / c->across / c->down;
}

/* Tile t of x to row `at` of the 36 matrices v (count, in). */
CPU_CLONES static void input_tile(const winograd *c, float *v, int64_t t, int64_t at, int64_t count)
{
    int64_t picture, row, column;
    place_of(c, t, &picture, &row, &column);
    for (int64_t channel = 0; channel < c->in; channel += LANES) {
        float d[POINTS * LANES];
        for (int64_t p = 0; p < POINTS; p++) {
            int64_t y = row + p / 6 - c->top, x = column + p % 6 - c->left;
            bool    inside = y >= 0 && y < c->height && x >= 0 && x < c->width;
            const float *from = c->x + (inside ? ((picture * c->height + y) * c->width + x) * c->in + channel : 0);
            for (int i = 0; i < LANES; i++)
                d[p * LANES + i] = inside ? from[i] : 0.0f;
        }
        for (int k = 0; k < 6; k++)
            input_six(d + k * LANES, 6 * LANES);
        for (int k = 0; k < 6; k++)
            input_six(d + k * 6 * LANES, LANES);
        for (int64_t p = 0; p < POINTS; p++)
            for (int i = 0; i < LANES; i++)
                v[(p * count + at) * c->in + channel + i] = d[p * LANES + i];
    }
}

/* Row `at` of the 36 matrices m (count, out) to tile t of y. */
CPU_CLONES static void output_tile(const winograd *c, const float *m, int64_t t, int64_t at, int64_t count)
{
    int64_t picture, row, column;
    place_of(c, t, &picture, &row, &column);
    int64_t rows = c->out_height - row < 4 ? c->out_height - row : 4;
    int64_t columns = c->out_width - column < 4 ? c->out_width - column : 4;
    for (int64_t channel = 0; channel < c->out; channel += LANES) {
        float d[POINTS * LANES], bias[LANES];
        for (int64_t p = 0; p < POINTS; p++)
            for (int i = 0; i < LANES; i++)
                d[p * LANES + i] = m[(p * count + at) * c->out + channel + i];
        for (int i = 0; i < LANES; i++)
            bias[i] = c->bias ? c->bias[channel + i] : 0.0f;
        for (int k = 0; k < 6; k++)
            output_four(d + k * LANES, 6 * LANES);
        for (int k = 0; k < 4; k++)
            output_four(d + k * 6 * LANES, LANES);
        for (int64_t y = 0; y < rows; y++) {
            for (int64_t x = 0; x < columns; x++) {
                int64_t to = ((picture * c->out_height + row + y) * c->out_width + column + x) * c->out + channel;
                const float *from = d + (y * 6 + x) * LANES;
                for (int i = 0; i < LANES; i++)
                    c->y[to + i] = (c->add ? c->y[to + i] : 0.0f) + (from[i] + bias[i]);
            }
        }
    }
}

/* u: 36 matrices (w_out, w_in) as the weights lie. turned: they are read as (in, out). */
static err run_blocks(device *d, const winograd *c, float *v, float *m, const float *u, bool turned)
{
    matrix_batch weights = {u, c->in * c->out, turned ? c->out : 1, turned ? 1 : c->in};
    for (int64_t first = 0; first < c->tiles; first += BLOCK) {
        int64_t count = c->tiles - first < BLOCK ? c->tiles - first : BLOCK;
#pragma omp parallel for num_threads(d->threads) schedule(static)
        for (int64_t t = 0; t < count; t++)
            input_tile(c, v, first + t, t, count);
        TRY(onednn_matmul_batch(d, m, v, weights, POINTS, count, c->in, c->out));
#pragma omp parallel for num_threads(d->threads) schedule(static)
        for (int64_t t = 0; t < count; t++)
            output_tile(c, m, first + t, t, count);
    }
    return OK;
}

static err run(device *d, winograd *c, int64_t batch, const float *w, bool turned)
{
    int64_t w_in = turned ? c->out : c->in, w_out = turned ? c->in : c->out;
    c->across = (c->out_width + 3) / 4;
    c->down = (c->out_height + 3) / 4;
    c->tiles = batch * c->across * c->down;
    size_t  rows = (size_t)(c->tiles < BLOCK ? c->tiles : BLOCK);
    size_t  bytes = POINTS * sizeof(float) * (rows * (size_t)(c->in + c->out) + (size_t)(c->in * c->out));
    void   *scratch = NULL;
    TRY(d->memory->get(d->memory, &scratch, bytes, LIFE_SCRATCH));
    float *v = scratch, *m = v + POINTS * rows * (size_t)c->in, *u = m + POINTS * rows * (size_t)c->out;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t o = 0; o < w_out; o++)
        weights_of(u + o * w_in, w + o * 9 * w_in, w_in, w_out, turned);
    err e = run_blocks(d, c, v, m, u, turned);
    d->memory->put(d->memory, scratch, bytes, LIFE_SCRATCH);
    return e;
}

err winograd_conv(device *d, float *y, const float *x, const float *w, const float *bias, const conv_shape *s, bool add)
{
    winograd c = {.x = x, .bias = bias, .y = y, .height = s->height, .width = s->width, .in = s->in,
                  .out_height = s->out_height, .out_width = s->out_width, .out = s->out, .top = s->geometry.pad_top,
                  .left = s->geometry.pad_left, .add = add};
    return run(d, &c, s->batch, w, false);
}

err winograd_conv_dx(device *d, float *dx, const float *dy, const float *w, const conv_shape *s, bool add)
{
    winograd c = {.x = dy, .y = dx, .height = s->out_height, .width = s->out_width, .in = s->out,
                  .out_height = s->height, .out_width = s->width, .out = s->in, .top = 2 - s->geometry.pad_top,
                  .left = 2 - s->geometry.pad_left, .add = add};
    return run(d, &c, s->batch, w, true);
}
