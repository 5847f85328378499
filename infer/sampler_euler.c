/* Euler's method on the probability flow: diffusers' EulerDiscreteScheduler without churn (Karras et al., "Elucidating
 * the design space of diffusion-based generative models", algorithm 2 with S_churn = 0), for models that predict the
 * noise or v. */
#include <math.h>

#include "infer/sampler_method.h"

static void plan(sampler *s)
{
    s->calls = s->steps;
    s->timesteps = ARENA_ARRAY(&s->memory, float, s->calls);
    s->sigmas = ARENA_ARRAY(&s->memory, float, s->calls + 1); /* the last is 0 */
    sampler_spaced_timesteps(s->timesteps, &s->config, s->calls);
    float largest = 0;
    for (int64_t i = 0; i < s->calls; i++) {
        s->sigmas[i] = (float)sampler_sigma_at(&s->schedule, (double)s->timesteps[i]);
        largest = fmaxf(largest, s->sigmas[i]);
    }
    s->start_scale = s->config.spacing == SPACING_LEADING ? sqrtf(largest * largest + 1) : largest;
}

static void input(float *out, const sampler *s, const float *latents)
{
    float sigma = s->sigmas[s->at], scale = sqrtf(sigma * sigma + 1);
    for (int64_t i = 0; i < s->count; i++)
        out[i] = latents[i] / scale;
}

/* The predicted clean latent, in diffusers' order of rounding; of v: v * (-sigma / sqrt(sigma^2 + 1)) + x / (sigma^2 + 1). */
static float clean_latent(const sampler *s, float sigma, float x, float answer)
{
    if (s->config.prediction == PREDICT_EPSILON)
        return x - sigma * answer;
    float square = sigma * sigma + 1;
    return answer * (-sigma / sqrtf(square)) + x / square;
}

/* The detour by the predicted clean latent is diffusers' order of rounding. */
static void step(sampler *s, float *latents, const float *answer, const float *step_noise)
{
    float sigma = s->sigmas[s->at], change = s->sigmas[s->at + 1] - sigma;
    (void)step_noise;
    for (int64_t i = 0; i < s->count; i++) {
        float clean = clean_latent(s, sigma, latents[i], answer[i]);
        latents[i] += (latents[i] - clean) / sigma * change;
    }
}

static const char *const schedules[] = {"discrete", NULL};
const sampler_method sampler_method_euler = {
    .name = "euler", .title = "Euler", .schedules = schedules, .plan = plan, .input = input, .step = step,
};
