/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
 * 1, 2, 3", SC11). No state: a draw is a function of (seed, purpose, step, sample, index), so it is
 * the same on every device, for any number of ranks, and after a resume. */
#ifndef MSD_BASE_PHILOX_H
#define MSD_BASE_PHILOX_H

#include <stddef.h>
#include <stdint.h>

typedef enum draw_purpose {
    DRAW_ORDER,     /* the order of samples in an epoch */
    DRAW_TIMESTEP,
    DRAW_NOISE,
    DRAW_POSTERIOR, /* the VAE's sample */
    DRAW_DROP,      /* dropped text, image, grounding */
    DRAW_CROP,
    DRAW_AUGMENT,
    DRAW_INIT,      /* a new adapter's weights */
    DRAW_STEP_NOISE, /* samplers that draw */
    DRAW_NOISE_OFFSET, /* one number a channel, added to the noise */
    DRAW_VALIDATION_TIMESTEP, /* of validation the step is the bin, the sample its place in the list */
    DRAW_VALIDATION_NOISE,
    DRAW_VALIDATION_POSTERIOR
} draw_purpose;

typedef struct draw_key {
    uint64_t     seed;
    draw_purpose purpose;
    uint64_t     step;   /* optimizer step, or 0 */
    uint64_t     sample; /* number of the sample in the step, or of the tensor */
} draw_key;

/* The block cipher itself: counter and key to four words. */
void philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

double   draw_uniform(draw_key k, uint64_t index);               /* [0,1), 32 bits */
uint64_t draw_below(draw_key k, uint64_t index, uint64_t bound); /* 0..bound-1, unbiased to 2^-64 */
void     draw_uniforms(float *out, size_t n, draw_key k);        /* [0,1), 24 bits */
void     draw_normals(float *out, size_t n, draw_key k);         /* N(0,1), Box-Muller */

#endif
