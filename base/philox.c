#include "base/philox.h"

#include <math.h>

#include "base/error.h"

__extension__ typedef unsigned __int128 u128;

enum { ROUNDS = 10 };

void philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* One block of four words of the stream of `k`. The key is the seed; the counter is
 * (block low 32, block high 24 | purpose << 24, step, sample): no two draws ever share an input. */
static void draw_block(uint32_t out[4], draw_key k, uint64_t block)
{
    CHECK(k.step <= UINT32_MAX && k.sample <= UINT32_MAX && block < (uint64_t)1 << 56 && (unsigned)k.purpose < 256,
          "step %llu sample %llu block %llu purpose %d", (unsigned long long)k.step, (unsigned long long)k.sample,
          (unsigned long long)block, (int)k.purpose);
    uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32) | (uint32_t)k.purpose << 24, (uint32_t)k.step,
                           (uint32_t)k.sample};
    uint32_t key[2] = {(uint32_t)k.seed, (uint32_t)(k.seed >> 32)};
    philox4x32(out, counter, key);
}

double draw_uniform(draw_key k, uint64_t index)
{
    uint32_t word[4];
    draw_block(word, k, index / 4);
    return word[index % 4] * 0x1p-32;
}

uint64_t draw_below(draw_key k, uint64_t index, uint64_t bound)
{
    CHECK(bound > 0, "bound %llu", (unsigned long long)bound);
    uint32_t word[4];
    draw_block(word, k, index);
    uint64_t bits = (uint64_t)word[1] << 32 | word[0];
    return (uint64_t)((u128)bits * bound >> 64);
}

void draw_uniforms(float *out, size_t n, draw_key k)
{
    uint32_t word[4];
    for (size_t i = 0; i < n; i++) {
        if (i % 4 == 0)
            draw_block(word, k, i / 4);
        out[i] = (float)(word[i % 4] >> 8) * 0x1p-24f;
    }
}

/* Two words give two normals; in double, so that a libm's last bit hardly ever reaches the rounded float. */
static void box_muller(float out[2], uint32_t a, uint32_t b)
{
    double radius = sqrt(-2.0 * log((a + 1.0) * 0x1p-32)), angle = 6.283185307179586476925 * (b * 0x1p-32);
    out[0] = (float)(radius * cos(angle));
    out[1] = (float)(radius * sin(angle));
}

void draw_normals(float *out, size_t n, draw_key k)
{
    uint32_t word[4];
    float    pair[2];
    for (size_t i = 0; i < n; i++) {
        if (i % 4 == 0)
            draw_block(word, k, i / 4);
        if (i % 2 == 0)
            box_muller(pair, word[i % 4], word[i % 4 + 1]);
        out[i] = pair[i % 2];
    }
}
