/* torch.randn on the CPU: the Mersenne twister MT19937 (Matsumoto & Nishimura 1998) seeded with the low 32 bits of the
 * seed, and torch's two ways to normal numbers. The habit of most programs, so that one seed means one picture. */
#ifndef MSD_INFER_TORCH_NOISE_H
#define MSD_INFER_TORCH_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MT19937_WORDS = 624 };

typedef struct torch_generator {
    uint32_t state[MT19937_WORDS];
    int      used;     /* words taken since the last refill */
    bool     has_next; /* the scalar way makes two numbers at a time and keeps the second */
    double   next;
} torch_generator;

void torch_generator_seed(torch_generator *g, uint64_t seed); /* torch.Generator().manual_seed(seed) */
/* out (n): torch.randn(n, generator=g) in f32; calls go on where the last one ended. Equal to torch's to 1.4e-6, the
 * difference of its vectorised logarithm, sine and cosine; for n < 16 to the last bits. */
void torch_randn(float *out, size_t n, torch_generator *g);

#endif
