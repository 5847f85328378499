#include "data/counter.h"

#include <math.h>
#include <string.h>

uint64_t counter_key(const char *name)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (const unsigned char *c = (const unsigned char *)name; *c; c++)
        h = (h ^ *c) * 0x100000001B3u;
    return h;
}

float counter_value(uint64_t key, uint64_t i)
{
    uint64_t z = key + (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    int32_t steps = (int32_t)(z >> 40) - (1 << 23); /* 24 bits: both conversions below are exact */
    return (float)steps * 0x1p-23f;
}

void counter_uniform(float *out, const char *name, uint64_t first, int64_t count)
{
    uint64_t key = counter_key(name);
    for (int64_t k = 0; k < count; k++)
        out[k] = counter_value(key, first + (uint64_t)k);
}

static void scale_and_shift(float *scale, float *shift, const char *name, int ndim, const int64_t *dim)
{
    size_t length = strlen(name);
    *scale = 0.1f;
    *shift = 0;
    if (ndim >= 2) {
        double fan_in = 1;
        for (int d = 1; d < ndim; d++)
            fan_in *= (double)dim[d];
        *scale = (float)sqrt(3.0 / fan_in);
    } else if (ndim == 1 && length >= 6 && strcmp(name + length - 6, "weight") == 0) {
        *shift = 1;
    }
}

void counter_fill_part(float *out, const char *name, int ndim, const int64_t *dim, int64_t first, int64_t count)
{
    float scale, shift;
    scale_and_shift(&scale, &shift, name, ndim, dim);
    uint64_t key = counter_key(name);
    for (int64_t k = 0; k < count; k++) {
        float scaled = scale * counter_value(key, (uint64_t)(first + k)); /* own statement: never fused with the sum */
        out[k] = scaled + shift;
    }
}

void counter_fill(float *out, const char *name, int ndim, const int64_t *dim)
{
    int64_t count = 1;
    for (int d = 0; d < ndim; d++)
        count *= dim[d];
    counter_fill_part(out, name, ndim, dim, 0, count);
}
