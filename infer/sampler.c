#include "infer/sampler.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* A method: how it prepares its tables, scales its input, and steps. */
struct sampler_method {
    const char *name;
    void (*prepare)(sampler *s, const scheduler_config *c, const noise_schedule *schedule);
    void (*input)(float *in, const sampler *s, const float *x, size_t n, int64_t i);
    void (*step)(float *x, const sampler *s, const float *model_output, size_t n, int64_t i);
};

/* ---- timesteps by spacing (Lin et al., "Common diffusion noise schedules and sample steps are flawed", table 2) ---- */

static double timestep_at(const scheduler_config *c, int64_t steps, int64_t i)
{
    int64_t n = c->train_timesteps, back = steps - 1 - i;
    switch (c->spacing) {
    case SPACING_LEADING:
        return (double)(back * (n / steps) + c->steps_offset);
    case SPACING_TRAILING:
        return rint((double)n - (double)i * ((double)n / (double)steps)) - 1;
    default:
        return steps == 1 ? 0 : (double)(n - 1) / (double)(steps - 1) * (double)back;
    }
}

/* ---- Euler (Karras et al., "Elucidating the design space", algorithm 2 without noise; diffusers' EulerDiscreteScheduler) ---- */

static double sigma_of(const noise_schedule *s, int64_t t)
{
    float ratio = (1.0f - s->alpha_bar[t]) / s->alpha_bar[t];
    return (double)sqrtf(ratio);
}

/* Sigma between two training timesteps, linearly, clamped at the ends. */
static double sigma_between(const noise_schedule *s, double t)
{
    if (t <= 0)
        return sigma_of(s, 0);
    if (t >= (double)(s->count - 1))
        return sigma_of(s, s->count - 1);
    int64_t below = (int64_t)t;
    double low = sigma_of(s, below), high = sigma_of(s, below + 1);
    return low + (high - low) * (t - (double)below);
}

static void euler_prepare(sampler *s, const scheduler_config *c, const noise_schedule *schedule)
{
    float most = 0;
    for (int64_t i = 0; i < s->steps; i++) {
        s->timestep[i] = (float)timestep_at(c, s->steps, i);
        s->sigma[i] = (float)sigma_between(schedule, (double)s->timestep[i]);
        most = s->sigma[i] > most ? s->sigma[i] : most;
    }
    s->sigma[s->steps] = 0;
    s->start = c->spacing == SPACING_LEADING ? sqrtf(most * most + 1.0f) : most;
}

static void euler_input(float *in, const sampler *s, const float *x, size_t n, int64_t i)
{
    float divisor = sqrtf(s->sigma[i] * s->sigma[i] + 1.0f);
    for (size_t k = 0; k < n; k++)
        in[k] = x[k] / divisor;
}

static void euler_step(float *x, const sampler *s, const float *model_output, size_t n, int64_t i)
{
    float sigma = s->sigma[i], dt = s->sigma[i + 1] - sigma;
    for (size_t k = 0; k < n; k++) {
        float clean = x[k] - sigma * model_output[k];
        float slope = (x[k] - clean) / sigma;
        x[k] += slope * dt;
    }
}

/* ---- the table ---- */

static const sampler_method methods[] = {
    {"euler", euler_prepare, euler_input, euler_step},
};
enum { METHOD_COUNT = sizeof methods / sizeof *methods };

static const sampler_method *find_method(const char *name)
{
    for (int i = 0; i < METHOD_COUNT; i++)
        if (!strcmp(name, methods[i].name))
            return &methods[i];
    return NULL;
}

static err no_method(const char *name)
{
    arena memory = {0};
    const char *list = methods[0].name;
    for (int i = 1; i < METHOD_COUNT; i++)
        list = arena_print(&memory, "%s, %s", list, methods[i].name);
    err e = err_set(E_USAGE, "--sampling-method: '%s'; this version has: %s", name, list);
    arena_free(&memory);
    return e;
}

err sampler_open(sampler *out, const char *method, const char *scheduler, const scheduler_config *c, const noise_schedule *s,
                 int64_t steps)
{
    *out = (sampler){.method = find_method(method), .steps = steps};
    if (!out->method)
        return no_method(method);
    if (strcmp(scheduler, "discrete"))
        return err_set(E_USAGE, "--scheduler: '%s'; this version has: discrete", scheduler);
    if (steps < 1 || steps > c->train_timesteps)
        return err_set(E_USAGE, "--steps: %" PRId64 " is outside 1..%" PRId64 ", the steps that the model was trained with", steps,
                       c->train_timesteps);
    out->timestep = ARENA_ARRAY(&out->memory, float, steps);
    out->sigma = ARENA_ARRAY(&out->memory, float, steps + 1);
    out->method->prepare(out, c, s);
    return OK;
}

void sampler_close(sampler *s)
{
    arena_free(&s->memory);
    *s = (sampler){0};
}

void sampler_start(const sampler *s, float *x, size_t n)
{
    for (size_t k = 0; k < n; k++)
        x[k] *= s->start;
}

void sampler_input(float *in, const sampler *s, const float *x, size_t n, int64_t i)
{
    s->method->input(in, s, x, n, i);
}

void sampler_step(float *x, const sampler *s, const float *model_output, size_t n, int64_t i)
{
    s->method->step(x, s, model_output, n, i);
}
