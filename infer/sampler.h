/* Samplers: the methods that walk from noise to a latent along the model's answers. A method is one file and one row of
 * the list in sampler.c; everything works on host arrays of `count` f32 numbers in any layout.
 *
 *     sampler *s;
 *     TRY(sampler_open(&s, "euler", "discrete", &config, 30, count));
 *     sampler_start(s, latents);                                  // scales noise of unit variance
 *     for (int64_t i = 0; i < sampler_calls(s); i++) {
 *         sampler_input(input, s, latents);                       // what the model is handed
 *         ... answer = model(input, sampler_timesteps(s)[i]) ...
 *         sampler_step(s, latents, answer, NULL);
 *     }
 *     sampler_close(s); */
#ifndef MSD_INFER_SAMPLER_H
#define MSD_INFER_SAMPLER_H

#include <stdbool.h>

#include "infer/noise_schedule.h"

typedef struct sampler sampler;

/* E_USAGE names the methods, the schedules of the method, or the range of steps (1..train_timesteps). */
err  sampler_open(sampler **out, const char *method, const char *schedule, const scheduler_config *c, int64_t steps,
                  int64_t count);
void sampler_close(sampler *s); /* NULL is fine */
/* The first two checks of sampler_open, for telling mistakes before anything is loaded. */
err  sampler_check_names(const char *method, const char *schedule);

int64_t      sampler_calls(const sampler *s);     /* N, how often the model is asked */
const float *sampler_timesteps(const sampler *s); /* (N), not always whole numbers */
const float *sampler_sigmas(const sampler *s);    /* (N+1), or NULL where the method has none */
bool         sampler_draws(const sampler *s);     /* whether sampler_step wants noise */
const char  *sampler_title(const char *method);   /* as A1111 writes it: "Euler"; the name itself when unknown */

/* latents (count): noise of unit variance, scaled to the method's beginning. */
void sampler_start(sampler *s, float *latents);
/* out (count): what the model is handed at the next call. */
void sampler_input(float *out, const sampler *s, const float *latents);
/* latents (count): one step on, by the model's answer (count); step_noise (count) of unit variance or NULL. */
void sampler_step(sampler *s, float *latents, const float *answer, const float *step_noise);

#endif
