/* erf(x) in f32 as straight-line code, so that loops around it vectorise: within 1.4e-7 of the exact value
 * everywhere (2.3 ulp). |x| < 0.95: x P(x^2); beyond: 1 - exp(-t Q(t)), t = |x|. P and Q are minimax fits. */
#ifndef MSD_AUTOGRAD_CPU_ERF_H
#define MSD_AUTOGRAD_CPU_ERF_H

#include "autograd/cpu/exp.h"

static inline float cpu_erf(float x)
{
    float s = x * x;
    float p = 0x1.589470p-14f;
    p = p * s - 0x1.a8fc6cp-11f;
    p = p * s + 0x1.54a490p-8f;
    p = p * s - 0x1.b80b0ep-6f;
    p = p * s + 0x1.ce2de2p-4f;
    p = p * s - 0x1.812742p-2f;
    p = p * s + 0x1.20dd76p+0f;
    float size = fabsf(x);
    float t = size < 4.0f ? size : 4.0f;
    float q = -0x1.737378p-22f;
    q = q * t + 0x1.894132p-18f;
    q = q * t - 0x1.97a27ap-16f;
    q = q * t - 0x1.d22162p-13f;
    q = q * t + 0x1.ccc51ap-9f;
    q = q * t - 0x1.852348p-6f;
    q = q * t + 0x1.b3bfe4p-4f;
    q = q * t + 0x1.451f4ap-1f;
    q = q * t + 0x1.20f212p+0f;
    float far = 1.0f - cpu_exp(-(q * t));
    far = x < 0.0f ? -far : far;
    float y = size < 0.95f ? x * p : far;
    return x == x ? y : x;
}

#endif
