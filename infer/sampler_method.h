/* What a sampling method is made of; for the files of the methods and sampler.c alone. */
#ifndef MSD_INFER_SAMPLER_METHOD_H
#define MSD_INFER_SAMPLER_METHOD_H

#include "infer/sampler.h"

typedef struct sampler_method {
    const char        *name, *title;
    const char *const *schedules; /* ended by NULL */
    bool               draws;
    /* Sets calls, timesteps, sigmas and start_scale in s->memory. */
    void (*plan)(sampler *s);
    void (*input)(float *out, const sampler *s, const float *latents);
    void (*step)(sampler *s, float *latents, const float *answer, const float *step_noise);
} sampler_method;

struct sampler {
    const sampler_method *method;
    arena                 memory;
    scheduler_config      config;
    noise_schedule        schedule;
    int64_t               steps; /* asked for */
    int64_t               count; /* numbers of a latent */
    int64_t               calls, at; /* at: calls done */
    float                *timesteps, *sigmas;
    float                 start_scale;
};

extern const sampler_method sampler_method_euler;

/* Shared by methods: diffusers' timesteps (steps) by the config's spacing, largest first. */
void sampler_spaced_timesteps(float *out, const scheduler_config *c, int64_t steps);
/* sqrt((1 - alpha_bar) / alpha_bar) at a timestep, linear between whole ones, clamped to the table's ends. */
double sampler_sigma_at(const noise_schedule *n, double timestep);

#endif
