/* Everything random in training, as pure functions of (seed, step, sample of the step): nothing to
 * save, the same for any number of ranks and after any resume. `sample` counts from 0 over all
 * batch_size x accumulation x ranks samples of the step; `step` counts from 1. */
#ifndef MSD_TRAIN_DRAWS_H
#define MSD_TRAIN_DRAWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct drop_rates {
    double text, image, both, grounding;
} drop_rates;

typedef struct drops {
    bool text, image, grounding; /* text: empty prompt; image: mean-colour references; grounding: learned queries */
} drops;

/* Uniform in 0..count-1. */
int64_t draw_timestep(uint64_t seed, int64_t step, int64_t sample, int64_t count);
/* out (plane, channels): unit noise; with offset > 0 one normal number a channel, times offset, is added to all of it
 * (Guttenberg, "Diffusion with offset noise", 2023; diffusers' --noise_offset). */
void draw_noise(float *out, uint64_t seed, int64_t step, int64_t sample, int64_t plane, int64_t channels, double offset);
/* At most one of text, image, both (the rates lie side by side on one draw); grounding on its own draw. */
drops draw_drops(uint64_t seed, int64_t step, int64_t sample, drop_rates rates);

/* The order of samples: every epoch is a permutation of 0..count-1 of its own. */
typedef struct sample_order {
    uint64_t seed;
    int64_t  count;
    int64_t  epoch;  /* that `index` holds; -1: none yet */
    int64_t *index;
} sample_order;
void    sample_order_open(sample_order *o, uint64_t seed, int64_t count); /* count >= 1 */
void    sample_order_close(sample_order *o);
int64_t sample_order_at(sample_order *o, int64_t position); /* position: samples drawn before this one, from 0 */

#endif
