/* Elements of f32 and bf16 tensors for kernels that are written once for both:
 *
 *     static inline void triple(void *restrict y, const void *restrict x, int64_t n, bool bf16)
 *     {
 *         for (int64_t i = 0; i < n; i++)
 *             cpu_put(y, i, 3.0f * cpu_get(x, i, bf16), bf16);
 *     }
 *     CPU_CLONES static void triple_run(void *restrict y, const void *restrict x, int64_t n, bool bf16)
 *     {
 *         CPU_BOTH(triple, y, x, n);
 *     }
 *
 * CPU_BOTH reads the variable bf16 and calls the kernel with the constant true or false, so that each loop is compiled
 * for one type and vectorises: bf16 is widened by a shift and rounded to nearest even by integer arithmetic, the same
 * bits on every machine. */
#ifndef MSD_AUTOGRAD_CPU_ELEMENT_H
#define MSD_AUTOGRAD_CPU_ELEMENT_H

#include <stdbool.h>
#include <stddef.h>

#include "autograd/cpu/clones.h"
#include "base/half.h"

#define CPU_INLINE static inline __attribute__((always_inline))

CPU_INLINE float cpu_get(const void *x, int64_t i, bool bf16)
{
    return bf16 ? bf16_to_f32(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

CPU_INLINE void cpu_put(void *y, int64_t i, float value, bool bf16)
{
    if (bf16)
        ((uint16_t *)y)[i] = f32_to_bf16(value);
    else
        ((float *)y)[i] = value;
}

#define CPU_BOTH(kernel, ...)       \
    do {                            \
        if (bf16)                   \
            kernel(__VA_ARGS__, true);  \
        else                        \
            kernel(__VA_ARGS__, false); \
    } while (0)

/* The address of element i. */
CPU_INLINE void *cpu_at(const void *x, int64_t i, bool bf16)
{
    return (char *)x + (size_t)i * (bf16 ? 2u : 4u);
}

#endif
