/* Scalar conversions between f32 and the small float types, exact in the widening direction and rounded to
 * nearest, ties to even, in the narrowing one. Subnormals, infinities and NaN (kept as a quiet NaN) included. */
#ifndef MSD_BASE_HALF_H
#define MSD_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t f32_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float f32_from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float bf16_to_f32(uint16_t h)
{
    return f32_from_bits((uint32_t)h << 16);
}

/* Without branches, so that loops of it vectorise. */
static inline uint16_t f32_to_bf16(float x)
{
    uint32_t bits = f32_bits(x);
    uint32_t rounded = bits + 0x7FFFu + (bits >> 16 & 1u);
    return (uint16_t)((x == x ? rounded : 0x7FC00000u) >> 16);
}

/* Without branches, so that loops of it vectorise, and without f32 subnormals, which are slow: those of f16 get an
 * implicit 1, which is taken off again by an exact difference. */
static inline float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = h & 0x7FFFu;
    uint32_t bits = (rest << 13) + (112u << 23);
    uint32_t special = (bits + (112u << 23)) | (rest > 0x7C00u ? 0x400000u : 0u); /* infinity, quiet NaN */
    float small = f32_from_bits(bits + (1u << 23)) - 0x1p-14f;
    bits = rest < 0x400u ? f32_bits(small) : bits;
    bits = rest >= 0x7C00u ? special : bits;
    return f32_from_bits(bits | sign);
}

static inline uint16_t f32_to_f16(float x)
{
    uint32_t bits = f32_bits(x), sign = bits >> 16 & 0x8000u, rest = bits & 0x7FFFFFFFu;
    if (rest > 0x7F800000u)
        return (uint16_t)(sign | 0x7E00u | (rest >> 13 & 0x3FFu));
    if (rest >= 0x477FF000u) /* 65520 and more round to infinity */
        return (uint16_t)(sign | 0x7C00u);
    if (rest < 0x38800000u) { /* below 2^-14: after adding 0.5 the low bits count 2^-24, rounded to even */
        float moved = f32_from_bits(rest) + 0.5f;
        return (uint16_t)(sign | (f32_bits(moved) - 0x3F000000u));
    }
    uint32_t rounded = rest - (112u << 23) + 0xFFFu + (rest >> 13 & 1u);
    return (uint16_t)(sign | rounded >> 13);
}

/* OCP FP8: E4M3 has no infinity (0x7F is NaN); E5M2 is the upper half of f16. */
static inline float f8e4m3_to_f32(uint8_t h)
{
    uint32_t sign = (uint32_t)(h & 0x80u) << 24, rest = h & 0x7Fu;
    if (rest == 0x7Fu)
        return f32_from_bits(sign | 0x7FC00000u);
    if (rest < 8u) { /* subnormal: rest * 2^-9 */
        float magnitude = (float)rest * 0x1p-9f;
        return f32_from_bits(f32_bits(magnitude) | sign);
    }
    return f32_from_bits(sign | ((rest << 20) + (120u << 23)));
}

static inline float f8e5m2_to_f32(uint8_t h)
{
    return f16_to_f32((uint16_t)((uint16_t)h << 8));
}

#endif
