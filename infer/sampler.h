/* From noise to latents: the loop around the model, as diffusers' schedulers do it.
 *
 *     sampler s;
 *     TRY(sampler_open(&s, "euler", "discrete", &config, &schedule, steps));
 *     sampler_start(&s, x, n);                              // x: unit noise
 *     for (int i = 0; i < s.steps; i++) {
 *         sampler_input(in, &s, x, n, i);                   // what the model is handed, with s.timestep[i]
 *         ... model(in) -> out ...
 *         sampler_step(x, &s, out, n, i);
 *     } */
#ifndef MSD_INFER_SAMPLER_H
#define MSD_INFER_SAMPLER_H

#include <stddef.h>

#include "infer/noise_schedule.h"

typedef struct sampler_method sampler_method;

typedef struct sampler {
    const sampler_method *method;
    int64_t               steps;
    float                *timestep; /* (steps) in order of calls */
    float                *sigma;    /* (steps + 1), the last 0 */
    float                 start;    /* standard deviation of the first latents */
    arena                 memory;
} sampler;

/* method: "euler"; scheduler: "discrete", the spacing that scheduler_config.json says. E_USAGE names what exists, or says that
 * steps is not within 1..train_timesteps. */
err  sampler_open(sampler *out, const char *method, const char *scheduler, const scheduler_config *c, const noise_schedule *s,
                  int64_t steps);
void sampler_close(sampler *s);

/* Of n numbers each; x holds the latents. */
void sampler_start(const sampler *s, float *x, size_t n);
void sampler_input(float *in, const sampler *s, const float *x, size_t n, int64_t i);
void sampler_step(float *x, const sampler *s, const float *model_output, size_t n, int64_t i);

#endif
