/* The probe modules that need no network: noise and sampler. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "infer/probe.h"
#include "infer/sampler.h"
#include "infer/torch_noise.h"

/* ---- noise ---- */

static err parse_shape(int64_t dim[TENSOR_MAX_DIM], int *ndim, const char *text)
{
    const char *at = text;
    int64_t count = 1;
    for (*ndim = 0; *ndim < TENSOR_MAX_DIM; at++) {
        char *end;
        long long size = strtoll(at, &end, 10);
        if (end == at || size < 1 || __builtin_mul_overflow(count, (int64_t)size, &count) || count > (int64_t)1 << 32)
            break;
        dim[(*ndim)++] = size;
        at = end;
        if (!*at)
            return OK;
        if (*at != ',')
            break;
    }
    return err_set(E_USAGE, "--set shape=%s: expected one to %d sizes such as 1,4,16,16", text, TENSOR_MAX_DIM);
}

static err run_noise(probe *p)
{
    int64_t seed, dim[TENSOR_MAX_DIM], count = 1;
    int ndim = 0;
    TRY(probe_whole(&seed, p, "seed", 0, 0, INT64_MAX));
    TRY(parse_shape(dim, &ndim, probe_text(p, "shape", "1,4,16,16")));
    const char *rng = probe_text(p, "rng", "torch-cpu");
    if (strcmp(rng, "torch-cpu"))
        return err_set(E_USAGE, "--set rng=%s: this version has: torch-cpu", rng);
    for (int i = 0; i < ndim; i++)
        count *= dim[i];
    float *values = heap_get((size_t)count * sizeof *values);
    torch_generator g;
    torch_generator_seed(&g, (uint64_t)seed);
    torch_randn(values, (size_t)count, &g);
    err e = probe_put_f32(p, "noise", values, ndim, dim);
    free(values);
    return e;
}

static const char *const noise_settings[] = {"seed", "shape", "rng", NULL};
static const probe_input noise_inputs[] = {{0}};
const probe_module probe_module_noise = {"noise", 0, noise_inputs, noise_settings, run_noise};

/* ---- sampler ---- */

/* model_inputs (N, n) and, in x, the latents of sampler s. */
static void run_steps(float *inputs, float *x, sampler *s, const float *outputs, const float *step_noise, int64_t n)
{
    sampler_start(s, x);
    for (int64_t i = 0; i < sampler_calls(s); i++) {
        sampler_input(inputs + i * n, s, x);
        sampler_step(s, x, outputs + i * n, step_noise ? step_noise + i * n : NULL);
    }
}

static err run_and_put(probe *p, sampler *s, float *x, const float *outputs, const float *step_noise)
{
    const int64_t size[] = {probe_size(p, "N"), probe_size(p, "B"), probe_size(p, "C"), probe_size(p, "h"),
                            probe_size(p, "w")};
    int64_t n = size[1] * size[2] * size[3] * size[4], calls = sampler_calls(s);
    if (calls != size[0])
        return err_set(E_SHAPE, "model_outputs: holds %" PRId64 " answers, but the model is asked %" PRId64
                       " times; give --set steps= for %" PRId64 " calls", size[0], calls, size[0]);
    if (sampler_draws(s) && !step_noise)
        return err_set(E_SHAPE, "step_noise: missing; this sampling method draws noise at its steps");
    float *inputs = ARENA_ARRAY(probe_memory(p), float, calls * n);
    run_steps(inputs, x, s, outputs, step_noise, n);
    TRY(probe_put_f32(p, "timesteps", sampler_timesteps(s), DIMS(calls)));
    if (sampler_sigmas(s))
        TRY(probe_put_f32(p, "sigmas", sampler_sigmas(s), DIMS(calls + 1)));
    TRY(probe_put_f32(p, "model_inputs", inputs, 5, size));
    return probe_put_f32(p, "latents", x, 4, size + 1);
}

static err run_sampler(probe *p)
{
    scheduler_config config;
    sampler         *s;
    int64_t          steps, n = probe_size(p, "B") * probe_size(p, "C") * probe_size(p, "h") * probe_size(p, "w");
    float           *x, *outputs, *step_noise = NULL;
    TRY(probe_whole(&steps, p, "steps", probe_size(p, "N"), 1, 100000));
    TRY(probe_f32(&x, p, "noise"));
    TRY(probe_f32(&outputs, p, "model_outputs"));
    if (probe_has(p, "step_noise"))
        TRY(probe_f32(&step_noise, p, "step_noise"));
    TRY(scheduler_config_load(&config, probe_given(p)->model));
    TRY(sampler_open(&s, probe_text(p, "sampling_method", "euler"), probe_text(p, "scheduler", "discrete"), &config,
                     steps, n));
    err e = run_and_put(p, s, x, outputs, step_noise);
    sampler_close(s);
    return e;
}

static const char *const sampler_settings[] = {"sampling_method", "scheduler", "steps", NULL};
static const probe_input sampler_inputs[] = {
    {"noise", "B,C,h,w", PROBE_F32, PROBE_REQUIRED},
    {"model_outputs", "N,B,C,h,w", PROBE_F32, PROBE_REQUIRED},
    {"step_noise", "N,B,C,h,w", PROBE_F32, PROBE_OPTIONAL},
    {0},
};
const probe_module probe_module_sampler = {"sampler", 0, sampler_inputs, sampler_settings, run_sampler};
