/* exp(x) in f32 as straight-line code, so that loops around it vectorise. Within 1.1 ulp of the exact
 * value for -87.3 <= x <= 88; 0 below (no subnormals, which would slow every product after it),
 * infinity above, NaN for NaN. exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln 2 / 2, and
 * exp(r) = 1 + r + r^2 P(r) with P the minimax polynomial of degree 4 (relative error 3.1e-9). */
#ifndef MSD_AUTOGRAD_CPU_EXP_H
#define MSD_AUTOGRAD_CPU_EXP_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* The same for x that is known to be in [-87.3, 88]; anything else gives nonsense. */
static inline float cpu_exp_normal(float x)
{
    const float round_to_integer = 0x1.8p23f; /* adding it leaves the rounded integer in the low bits */
    float shifted = x * 0x1.715476p+0f + round_to_integer;
    float n = shifted - round_to_integer;
    float r = (x - n * 0x1.63p-1f) - n * -0x1.bd0106p-13f; /* ln 2 in two parts; n times the first is exact */
    float p = 0x1.6a2352p-10f;
    p = p * r + 0x1.123a6cp-7f;
    p = p * r + 0x1.5558f4p-5f;
    p = p * r + 0x1.555490p-3f;
    p = p * r + 0x1.fffffcp-2f;
    float y = 1.0f + (r + r * r * p);
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + 0x3f800000u;
    float power;
    memcpy(&power, &bits, sizeof power);
    return y * power;
}

static inline float cpu_exp(float x)
{
    float y = cpu_exp_normal(x);
    y = x < -0x1.5d4p6f ? 0.0f : y;
    return x > 88.0f ? INFINITY : y;
}

#endif
