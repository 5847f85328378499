#include "infer/torch_noise.h"

#include <math.h>

enum { STATE = 624, SHIFT = 397, GROUP = 16 };

/* Matsumoto and Nishimura, "Mersenne Twister", 1998. */
typedef struct mt19937 {
    uint32_t word[STATE];
    int      next;
} mt19937;

static void seed_twister(mt19937 *t, uint32_t seed)
{
    t->word[0] = seed;
    for (uint32_t i = 1; i < STATE; i++)
        t->word[i] = 1812433253u * (t->word[i - 1] ^ t->word[i - 1] >> 30) + i;
    t->next = STATE;
}

static void twist(mt19937 *t)
{
    for (int i = 0; i < STATE; i++) {
        uint32_t mixed = (t->word[i] & 0x80000000u) | (t->word[(i + 1) % STATE] & 0x7fffffffu);
        t->word[i] = t->word[(i + SHIFT) % STATE] ^ mixed >> 1 ^ (mixed & 1u ? 0x9908b0dfu : 0u);
    }
    t->next = 0;
}

static uint32_t draw32(mt19937 *t)
{
    if (t->next == STATE)
        twist(t);
    uint32_t y = t->word[t->next++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

static float draw_f32(mt19937 *t)
{
    return (float)(draw32(t) & 0xffffffu) * 0x1p-24f;
}

static double draw_f64(mt19937 *t)
{
    uint64_t high = draw32(t);
    uint64_t bits = high << 32 | draw32(t);
    return (double)(bits & 0x1fffffffffffffu) * 0x1p-53;
}

/* 16 uniforms to 16 normals: the j-th and the (j+8)-th make a pair. */
static void box_muller(float *group)
{
    for (int j = 0; j < GROUP / 2; j++) {
        float u1 = 1.0f - group[j], u2 = group[j + GROUP / 2];
        float radius = sqrtf(-2.0f * logf(u1)), angle = 6.283185307179586f * u2;
        group[j] = radius * cosf(angle);
        group[j + GROUP / 2] = radius * sinf(angle);
    }
}

static void fill_groups(float *out, size_t n, mt19937 *t)
{
    for (size_t i = 0; i < n; i++)
        out[i] = draw_f32(t);
    for (size_t i = 0; i + GROUP <= n; i += GROUP)
        box_muller(out + i);
    if (n % GROUP) { /* the last 16 are drawn anew */
        float *last = out + n - GROUP;
        for (int j = 0; j < GROUP; j++)
            last[j] = draw_f32(t);
        box_muller(last);
    }
}

static void fill_pairs(float *out, size_t n, mt19937 *t)
{
    for (size_t i = 0; i < n; i += 2) {
        double u1 = draw_f64(t), u2 = draw_f64(t);
        double radius = sqrt(-2.0 * log1p(-u2)), angle = 6.283185307179586 * u1;
        out[i] = (float)(radius * cos(angle));
        if (i + 1 < n)
            out[i + 1] = (float)(radius * sin(angle));
    }
}

void torch_randn(float *out, size_t n, uint64_t seed)
{
    mt19937 t;
    seed_twister(&t, (uint32_t)seed);
    if (n >= GROUP)
        fill_groups(out, n, &t);
    else
        fill_pairs(out, n, &t);
}
