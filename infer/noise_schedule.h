/* The forward diffusion that a model was trained with: scheduler/scheduler_config.json of a pipeline folder, and the
 * betas that follow. Shared by training (DDPM noising) and sampling. */
#ifndef MSD_INFER_NOISE_SCHEDULE_H
#define MSD_INFER_NOISE_SCHEDULE_H

#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

typedef enum beta_schedule { BETA_SCALED_LINEAR, BETA_LINEAR } beta_schedule;
typedef enum timestep_spacing { SPACING_LEADING, SPACING_TRAILING, SPACING_LINSPACE } timestep_spacing;

typedef enum prediction_kind { PREDICT_EPSILON, PREDICT_V } prediction_kind; /* what the model answers: the noise, or v */

typedef struct scheduler_config {
    int64_t          train_timesteps; /* 1000 */
    double           beta_start, beta_end;
    beta_schedule    betas;
    timestep_spacing spacing;
    int64_t          steps_offset;
    prediction_kind  prediction;
} scheduler_config;

/* Reads MODEL/scheduler/scheduler_config.json; where the folder has none (or model is NULL), SDXL's: 1000 steps,
 * scaled_linear 0.00085..0.012, leading, offset 1. Absent keys take diffusers' EulerDiscreteScheduler defaults. E_MODEL
 * names a key whose value is not supported, with what is (prediction_type: epsilon, v_prediction). */
err scheduler_config_load(scheduler_config *out, const char *model);

typedef struct noise_schedule {
    int64_t    count;
    prediction_kind prediction;
    float  *alpha_bar; /* (count) cumulative products of 1 - beta, as torch computes them: f32, accumulated in f64 */
    float  *signal, *noise; /* (count) sqrt(alpha_bar), sqrt(1 - alpha_bar) */
} noise_schedule;

void noise_schedule_make(noise_schedule *out, arena *owner, const scheduler_config *c);

#endif
