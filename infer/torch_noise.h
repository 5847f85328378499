/* torch.randn on the CPU, so that a seed gives the picture it gives elsewhere: MT19937 seeded with the low 32 bits, and torch's two
 * ways to normal numbers (aten/src/ATen/native/cpu/DistributionTemplates.h). Agrees with torch to its vector library's
 * last bits (1.4e-6). */
#ifndef MSD_INFER_TORCH_NOISE_H
#define MSD_INFER_TORCH_NOISE_H

#include <stddef.h>
#include <stdint.h>

/* out (n) = torch.randn(n, generator=torch.Generator("cpu").manual_seed(seed)) */
void torch_randn(float *out, size_t n, uint64_t seed);

#endif
