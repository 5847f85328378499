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
    torch_randn(values, (size_t)count, (uint64_t)seed);
    err e = probe_put_f32(p, "noise", values, ndim, dim);
    free(values);
    return e;
}

static const char *const noise_settings[] = {"seed", "shape", "rng", NULL};
static const probe_input noise_inputs[] = {{0}};
const probe_module probe_module_noise = {"noise", 0, noise_inputs, noise_settings, run_noise};

/* ---- sampler ---- */

static err run_steps(probe *p, const sampler *s, float *x, const float *outputs, int64_t n)
{
    const int64_t *size = (int64_t[]){probe_size(p, "N"), probe_size(p, "B"), probe_size(p, "C"), probe_size(p, "h"),
                                      probe_size(p, "w")};
    float *inputs = heap_get((size_t)(s->steps * n) * sizeof *inputs);
    sampler_start(s, x, (size_t)n);
    for (int64_t i = 0; i < s->steps; i++) {
        sampler_input(inputs + i * n, s, x, (size_t)n, i);
        sampler_step(x, s, outputs + i * n, (size_t)n, i);
    }
    err e = probe_put_f32(p, "timesteps", s->timestep, DIMS(s->steps));
    if (e == OK)
        e = probe_put_f32(p, "sigmas", s->sigma, DIMS(s->steps + 1));
    if (e == OK)
        e = probe_put_f32(p, "model_inputs", inputs, 5, size);
    if (e == OK)
        e = probe_put_f32(p, "latents", x, 4, size + 1);
    free(inputs);
    return e;
}

static err run_sampler(probe *p)
{
    arena *memory = probe_memory(p);
    scheduler_config config;
    noise_schedule schedule;
    sampler s;
    int64_t steps, calls = probe_size(p, "N");
    float *x, *outputs;
    TRY(probe_whole(&steps, p, "steps", calls, 1, 100000));
    if (steps != calls)
        return err_set(E_SHAPE, "model_outputs: holds %" PRId64 " answers, %" PRId64 " steps call the model %" PRId64 " times", calls,
                       steps, steps);
    TRY(probe_f32(&x, p, "noise"));
    TRY(probe_f32(&outputs, p, "model_outputs"));
    TRY(scheduler_config_load(&config, probe_given(p)->model));
    noise_schedule_make(&schedule, memory, &config);
    TRY(sampler_open(&s, probe_text(p, "sampling_method", "euler"), probe_text(p, "scheduler", "discrete"), &config, &schedule,
                     steps));
    int64_t n = probe_size(p, "B") * probe_size(p, "C") * probe_size(p, "h") * probe_size(p, "w");
    err e = run_steps(p, &s, x, outputs, n);
    sampler_close(&s);
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
