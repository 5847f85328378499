#include "infer/sampler.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "infer/sampler_method.h"

static const sampler_method *const methods[] = {&sampler_method_euler};
enum { METHODS = sizeof methods / sizeof *methods };

static const sampler_method *method_find(const char *name)
{
    for (int i = 0; i < METHODS; i++)
        if (!strcmp(methods[i]->name, name))
            return methods[i];
    return NULL;
}

const char *sampler_title(const char *method)
{
    const sampler_method *m = method_find(method);
    return m ? m->title : method;
}

err sampler_check_names(const char *method, const char *schedule)
{
    arena                 memory = {0};
    const sampler_method *m = method_find(method);
    const char           *names = "";
    err                   e = OK;
    if (!m) {
        for (int i = 0; i < METHODS; i++)
            names = arena_print(&memory, "%s%s%s", names, i ? ", " : "", methods[i]->name);
        e = err_set(E_USAGE, "sampling_method: found \"%.40s\", this version has: %s", method, names);
    } else {
        bool found = false;
        for (int i = 0; m->schedules[i]; i++) {
            found = found || !strcmp(m->schedules[i], schedule);
            names = arena_print(&memory, "%s%s%s", names, i ? ", " : "", m->schedules[i]);
        }
        if (!found)
            e = err_set(E_USAGE, "scheduler: found \"%.40s\", with sampling_method %s this version has: %s", schedule,
                        method, names);
    }
    arena_free(&memory);
    return e;
}

err sampler_open(sampler **out, const char *method, const char *schedule, const scheduler_config *c, int64_t steps,
                 int64_t count)
{
    *out = NULL;
    TRY(sampler_check_names(method, schedule));
    if (steps < 1 || steps > c->train_timesteps)
        return err_set(E_USAGE, "steps: found %" PRId64 ", expected 1 to %" PRId64
                       ", the steps of the schedule that the model was trained with", steps, c->train_timesteps);
    sampler *s = heap_get(sizeof *s);
    *s = (sampler){.method = method_find(method), .config = *c, .steps = steps, .count = count};
    noise_schedule_make(&s->schedule, &s->memory, c);
    s->method->plan(s);
    *out = s;
    return OK;
}

void sampler_close(sampler *s)
{
    if (!s)
        return;
    arena_free(&s->memory);
    free(s);
}

int64_t sampler_calls(const sampler *s)
{
    return s->calls;
}

const float *sampler_timesteps(const sampler *s)
{
    return s->timesteps;
}

const float *sampler_sigmas(const sampler *s)
{
    return s->sigmas;
}

bool sampler_draws(const sampler *s)
{
    return s->method->draws;
}

void sampler_start(sampler *s, float *latents)
{
    s->at = 0;
    for (int64_t i = 0; i < s->count; i++)
        latents[i] *= s->start_scale;
}

void sampler_input(float *out, const sampler *s, const float *latents)
{
    CHECK(s->at < s->calls, "call %" PRId64 " of %" PRId64, s->at, s->calls);
    s->method->input(out, s, latents);
}

void sampler_step(sampler *s, float *latents, const float *answer, const float *step_noise)
{
    CHECK(s->at < s->calls, "call %" PRId64 " of %" PRId64, s->at, s->calls);
    CHECK(step_noise || !s->method->draws, "%s draws and was handed no noise", s->method->name);
    s->method->step(s, latents, answer, step_noise);
    s->at++;
}

/* ---- shared by methods ---- */

/* numpy.arange(train, 0, -train / steps), whose rounded values less 1 are the timesteps. */
static void trailing(float *out, int64_t train, int64_t steps)
{
    double ratio = (double)train / (double)steps, start = (double)train;
    double delta = start - ratio - start;
    for (int64_t i = 0; i < steps; i++)
        out[i] = (float)rint(start + (double)i * delta) - 1;
}

/* numpy.linspace(0, train - 1, steps), reversed. */
static void linspace(float *out, int64_t train, int64_t steps)
{
    double last = (double)(train - 1), step = steps > 1 ? last / (double)(steps - 1) : 0;
    for (int64_t i = 0; i < steps; i++)
        out[steps - 1 - i] = (float)(i > 0 && i == steps - 1 ? last : (double)i * step);
}

void sampler_spaced_timesteps(float *out, const scheduler_config *c, int64_t steps)
{
    if (c->spacing == SPACING_TRAILING) {
        trailing(out, c->train_timesteps, steps);
    } else if (c->spacing == SPACING_LINSPACE) {
        linspace(out, c->train_timesteps, steps);
    } else {
        for (int64_t i = 0; i < steps; i++)
            out[i] = (float)((steps - 1 - i) * (c->train_timesteps / steps)) + (float)c->steps_offset;
    }
}

static double sigma_of(const noise_schedule *n, int64_t i)
{
    return (double)sqrtf((1.0f - n->alpha_bar[i]) / n->alpha_bar[i]);
}

double sampler_sigma_at(const noise_schedule *n, double timestep)
{
    if (!(timestep > 0))
        return sigma_of(n, 0);
    if (timestep >= (double)(n->count - 1))
        return sigma_of(n, n->count - 1);
    int64_t below = (int64_t)timestep;
    double  low = sigma_of(n, below);
    return (sigma_of(n, below + 1) - low) * (timestep - (double)below) + low;
}
