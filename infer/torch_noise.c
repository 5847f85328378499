#include "infer/torch_noise.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

/* ---- MT19937 ---- */

void torch_generator_seed(torch_generator *g, uint64_t seed)
{
    *g = (torch_generator){.used = MT19937_WORDS};
    g->state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < MT19937_WORDS; i++)
        g->state[i] = 1812433253u * (g->state[i - 1] ^ (g->state[i - 1] >> 30)) + i;
}

static void refill(torch_generator *g)
{
    enum { SHIFT = 397 };
    for (int i = 0; i < MT19937_WORDS; i++) {
        uint32_t y = (g->state[i] & 0x80000000u) | (g->state[(i + 1) % MT19937_WORDS] & 0x7fffffffu);
        g->state[i] = g->state[(i + SHIFT) % MT19937_WORDS] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    g->used = 0;
}

static uint32_t next_word(torch_generator *g)
{
    if (g->used == MT19937_WORDS)
        refill(g);
    uint32_t y = g->state[g->used++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

/* [0,1) with 24 bits */
static float uniform(torch_generator *g)
{
    return (float)(next_word(g) & 0xffffff) * 0x1p-24f;
}

/* [0,1) with 53 bits of two words, the first one high */
static double uniform_double(torch_generator *g)
{
    uint64_t high = next_word(g);
    uint64_t both = high << 32 | next_word(g);
    return (double)(both & 0x1fffffffffffff) * 0x1p-53;
}

/* ---- normal numbers, by Box and Muller ---- */

static double scalar(torch_generator *g)
{
    if (g->has_next) {
        g->has_next = false;
        return g->next;
    }
    double angle = 2 * pi * uniform_double(g);
    double radius = sqrt(-2 * log1p(-uniform_double(g)));
    g->next = radius * sin(angle);
    g->has_next = true;
    return radius * cos(angle);
}

/* 16 uniform numbers into 16 normal ones: the first eight give the radii, the others the angles. */
static void transform(float x[16])
{
    for (int j = 0; j < 8; j++) {
        float radius = sqrtf(-2 * logf(1 - x[j])), angle = (float)(2 * pi) * x[j + 8];
        x[j] = radius * cosf(angle);
        x[j + 8] = radius * sinf(angle);
    }
}

static void draw_sixteen(float x[16], torch_generator *g)
{
    for (int i = 0; i < 16; i++)
        x[i] = uniform(g);
    transform(x);
}

void torch_randn(float *out, size_t n, torch_generator *g)
{
    if (n < 16) {
        for (size_t i = 0; i < n; i++)
            out[i] = (float)scalar(g);
        return;
    }
    /* All uniform numbers come first; where 16 does not divide n, the last 16 places are then drawn anew. */
    size_t whole = n / 16 * 16;
    for (size_t i = 0; i < whole; i += 16)
        draw_sixteen(out + i, g);
    for (size_t i = whole; i < n; i++)
        uniform(g);
    if (whole < n)
        draw_sixteen(out + n - 16, g);
}
