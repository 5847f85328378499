/* The normal distribution function Phi(x) = (1 + erf(x / sqrt 2)) / 2 in f32 as straight-line code, so that loops around
 * it vectorise: within 1e-7 of the exact value everywhere, and within 1.1e-5 of it in proportion down to x = -6, below which
 * it is 0 (Phi(-6) = 1e-9). Phi(-u) = exp(-u R(u)) / 2 for u >= 0, R a weighted minimax fit of degree 9 on [0, 6]. */
#ifndef MSD_AUTOGRAD_CPU_NORMAL_H
#define MSD_AUTOGRAD_CPU_NORMAL_H

#include "autograd/cpu/exp.h"

static inline float cpu_normal_cdf(float x)
{
    float size = fabsf(x), u = size < 6.0f ? size : 6.0f;
    float r = 0x1.04030cp-26f;
    r = r * u - 0x1.f71d94p-22f;
    r = r * u + 0x1.a123e8p-18f;
    r = r * u - 0x1.7777a2p-15f;
    r = r * u + 0x1.59f3f4p-13f;
    r = r * u + 0x1.fe27ecp-15f;
    r = r * u - 0x1.407bb6p-8f;
    r = r * u + 0x1.2a3050p-5f;
    r = r * u + 0x1.45ee3ap-2f;
    r = r * u + 0x1.98848ep-1f;
    float tail = 0.5f * cpu_exp_normal(-(r * u));
    tail = size < 6.0f ? tail : 0.0f;
    float y = x < 0.0f ? tail : 1.0f - tail;
    return x == x ? y : x;
}

#endif
