#include <string.h>

#include "autograd/cpu/clones.h"
#include "autograd/cpu/winograd_parts.h"

enum { LANES = WINO_LANES, POINTS = WINO_POINTS, TAPS = WINO_TAPS };

typedef float lanes __attribute__((vector_size(4 * LANES)));

/* One dimension of B^T d B: six values, `to_step` vectors apart, from six. */
static inline void input_six(lanes *to, int to_step, const lanes *d, int step)
{
    lanes a = d[0], b = d[step], c = d[2 * step], e = d[3 * step], f = d[4 * step], g = d[5 * step];
    lanes even = f - 4.0f * c, odd = e - 4.0f * b, near = f - c, far = 2.0f * (e - b);
    to[0] = 4.0f * a - 5.0f * c + f;
    to[to_step] = even + odd;
    to[2 * to_step] = even - odd;
    to[3 * to_step] = near + far;
    to[4 * to_step] = near - far;
    to[5 * to_step] = 4.0f * b - 5.0f * e + g;
}

/* One dimension of A^T m A: four values from six. */
static inline void output_four(lanes *to, int to_step, const lanes *m, int step)
{
    lanes a = m[0], b = m[step], c = m[2 * step], e = m[3 * step], f = m[4 * step], g = m[5 * step];
    lanes near = b + c, near_odd = b - c, far = e + f, far_odd = e - f;
    to[0] = a + near + far;
    to[to_step] = near_odd + 2.0f * far_odd;
    to[2 * to_step] = near + 4.0f * far;
    to[3 * to_step] = near_odd + 8.0f * far_odd + g;
}

/* One dimension of G g G^T: six values from three. */
static inline void weight_six(lanes *to, int to_step, const lanes *from, int step)
{
    lanes a = from[0], b = from[step] * (1.0f / 6.0f), c = from[2 * step];
    lanes even = (a + c) * (1.0f / 6.0f), far = a * (1.0f / 24.0f) + c * (1.0f / 6.0f), half = 0.5f * b;
    to[0] = 0.25f * a;
    to[to_step] = -even - b;
    to[2 * to_step] = b - even;
    to[3 * to_step] = far + half;
    to[4 * to_step] = far - half;
    to[5 * to_step] = c;
}

/* ---- tiles ---- */

typedef struct place {
    int64_t picture, row, column; /* of the tile's first output */
} place;

static inline place place_of(const winograd *c, int64_t tile)
{
    return (place){tile / c->across / c->down, tile / c->across % c->down * 4, tile % c->across * 4};
}

/* A tile within the picture. The next one to its right, of which two columns are here, is asked for ahead. */
static inline void load_whole_tile(const winograd *c, lanes *d, place at, int64_t channel)
{
    int64_t      pixel = c->in, row = c->width * pixel, top = at.picture * c->height + at.row - c->top;
    const float *from = c->x + top * row + (at.column - c->left) * pixel + channel;
    for (int y = 0; y < 6; y++, from += row) {
        const float *to_right = from;
        for (int x = 0; x < 6; x++, to_right += pixel) {
            d[y * 6 + x] = *(const wino_vector *)to_right;
            if (x > 1)
                __builtin_prefetch(to_right + 4 * pixel);
        }
    }
}

/* What lies outside the picture is 0. */
static inline void load_tile(const winograd *c, lanes *d, place at, int64_t channel)
{
    int64_t      top = at.row - c->top, left = at.column - c->left;
    const float *from = c->x + ((at.picture * c->height + top) * c->width + left) * c->in + channel;
    for (int64_t y = 0; y < 6; y++) {
        for (int64_t x = 0; x < 6; x++) {
            bool inside = top + y >= 0 && top + y < c->height && left + x >= 0 && left + x < c->width;
            d[y * 6 + x] = inside ? *(const wino_vector *)(from + (y * c->width + x) * c->in) : (wino_vector){0};
        }
    }
}

CPU_CLONES static void input_tile(const winograd *c, float *v, const wino_tiles *t, int64_t at)
{
    place   p = place_of(c, t->first + at);
    int64_t top = p.row - c->top, left = p.column - c->left, step = c->in * t->pitch;
    bool    whole = top >= 0 && left >= 0 && top + 6 <= c->height && left + 6 <= c->width;
    for (int64_t channel = 0; channel < c->in; channel += LANES) {
        lanes d[POINTS], column[POINTS], six[6];
        if (whole)
            load_whole_tile(c, d, p, channel);
        else
            load_tile(c, d, p, channel);
        for (int x = 0; x < 6; x++)
            input_six(column + x, 6, d + x, 6);
        float *to = v + channel * t->pitch + at * LANES;
        for (int64_t y = 0; y < 6; y++) {
            input_six(six, 1, column + y * 6, 1);
            for (int64_t x = 0; x < 6; x++, to += step)
                *(wino_vector *)to = six[x];
        }
    }
}

CPU_CLONES static void output_tile(const winograd *c, const float *m, const wino_tiles *t, int64_t at, int64_t from,
                                   int64_t blocks)
{
    place   p = place_of(c, t->first + at);
    int64_t rows = c->out_height - p.row < 4 ? c->out_height - p.row : 4;
    int64_t columns = c->out_width - p.column < 4 ? c->out_width - p.column : 4;
    int64_t step = blocks * t->pitch * LANES;
    for (int64_t b = 0; b < blocks; b++) {
        const float *sums = m + (b * t->pitch + at) * LANES;
        int64_t channel = (from + b) * LANES;
        lanes   column[4 * 6], four[4], bias = c->bias ? *(const wino_vector *)(c->bias + channel) : (wino_vector){0};
        for (int64_t x = 0; x < 6; x++) {
            lanes d[6];
            for (int64_t y = 0; y < 6; y++)
                d[y] = *(const wino_vector *)(sums + (y * 6 + x) * step);
            output_four(column + x, 6, d, 1);
        }
        float *to = c->y + ((p.picture * c->out_height + p.row) * c->out_width + p.column) * c->out + channel;
        for (int64_t y = 0; y < rows; y++) {
            output_four(four, 1, column + y * 6, 1);
            for (int64_t x = 0; x < columns; x++) {
                wino_vector *one = (wino_vector *)(to + (y * c->out_width + x) * c->out);
                lanes        value = four[x] + bias;
                if (c->add)
                    value += *one;
                *one = value;
            }
        }
    }
}

/* ---- weights ---- */

/* Lanes of a and b alternately: those of the first halves, of the second. */
#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
#define FIRST_HALVES(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define SECOND_HALVES(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#endif
#endif
#ifndef FIRST_HALVES
typedef int32_t places __attribute__((vector_size(4 * LANES)));
#define FIRST_HALVES(a, b) __builtin_shuffle(a, b, (places){0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23})
#define SECOND_HALVES(a, b) \
    __builtin_shuffle(a, b, (places){8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31})
#endif

/* to[column][row] = from[row][column], rows `step` apart: four rounds of taking rows i and i + 8 alternately. */
static inline void transpose(float *to, const float *from, int64_t step)
{
    lanes a[LANES], b[LANES];
    for (int i = 0; i < LANES; i++)
        a[i] = *(const wino_vector *)(from + i * step);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < LANES / 2; i++) {
            b[2 * i] = FIRST_HALVES(a[i], a[i + LANES / 2]);
            b[2 * i + 1] = SECOND_HALVES(a[i], a[i + LANES / 2]);
        }
        memcpy(a, b, sizeof a);
    }
    for (int i = 0; i < LANES; i++)
        *(wino_vector *)(to + i * LANES) = a[i];
}

/* 16 x 16 filters: tap t of input lane k is a vector of outputs at at[t * tap + k * row]. */
typedef struct filters {
    const float *at;
    int64_t      tap, row;
} filters;

static inline filters find_filters(const winograd *c, float *buffer, int64_t k, int64_t n)
{
    enum { BLOCK = LANES * LANES };
    int64_t w_in = c->turned ? c->out : c->in, row = TAPS * w_in;
    int64_t o = c->turned ? k : n, i = c->turned ? n : k;
    if (c->weights == CONV_BLOCKED) { /* [block of outputs][block of inputs][tap][input][output] */
        const float *block = c->w + (o * (w_in / LANES) + i) * TAPS * BLOCK;
        if (!c->turned)
            return (filters){block, BLOCK, LANES};
        for (int t = 0; t < TAPS; t++)
            transpose(buffer + t * BLOCK, block + t * BLOCK, LANES);
        return (filters){buffer, BLOCK, LANES};
    }
    const float *plain = c->w + o * LANES * row + i * LANES;
    if (c->turned)
        return (filters){plain, w_in, row};
    for (int t = 0; t < TAPS; t++)
        transpose(buffer + t * BLOCK, plain + t * w_in, row);
    return (filters){buffer, BLOCK, LANES};
}

CPU_CLONES static void transform_weights(const winograd *c, float *u, int64_t step, int64_t k, int64_t n)
{
    float   buffer[TAPS * LANES * LANES];
    filters f = find_filters(c, buffer, k, n);
    for (int lane = 0; lane < LANES; lane++) {
        lanes g[TAPS], column[6 * 3], six[6];
        for (int t = 0; t < TAPS; t++)
            g[t] = *(const wino_vector *)(f.at + (c->turned ? TAPS - 1 - t : t) * f.tap + lane * f.row);
        for (int x = 0; x < 3; x++)
            weight_six(column + x, 3, g + x, 3);
        float *to = u + lane * LANES;
        for (int64_t y = 0; y < 6; y++) {
            weight_six(six, 1, column + y * 3, 1);
            for (int64_t x = 0; x < 6; x++)
                *(wino_vector *)(to + (y * 6 + x) * step) = six[x];
        }
    }
}

/* ---- clang 14 gives clones a name that other files do not find: they are this file's ---- */

void wino_input_tile(const winograd *c, float *v, const wino_tiles *t, int64_t at)
{
    input_tile(c, v, t, at);
}

void wino_output_tile(const winograd *c, const float *m, const wino_tiles *t, int64_t at, int64_t from, int64_t blocks)
{
    output_tile(c, m, t, at, from, blocks);
}

void wino_weights(const winograd *c, float *u, int64_t step, int64_t k, int64_t n)
{
    transform_weights(c, u, step, k, n);
}
