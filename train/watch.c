#include "train/watch.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/file.h"
#include "base/progress.h"
#include "data/image.h"

static const size_t PICTURE_LIMIT = (size_t)256 << 20;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Without a disk to write to, the run goes on without events. */
static void give_up_events(watch *w, err failed)
{
    if (failed == OK)
        return;
    log_warning(w->r->log, "%s; no more events for TensorBoard in this run, log.jsonl has the numbers", err_message());
    tfevents_close(w->events);
    w->events = NULL;
}

err watch_open(watch *w, run *r)
{
    *w = (watch){.r = r};
    TRY(validation_open(&w->validation, r));
    TRY(sampling_open(&w->sampling, r));
    if (ranks_rank(r->ranks) == 0)
        give_up_events(w, tfevents_open(&w->events, r->config->output.dir, r->step ? r->step + 1 : 0));
    return OK;
}

void watch_close(watch *w)
{
    validation_close(w->validation);
    sampling_close(w->sampling);
    tfevents_close(w->events);
}

static bool due(const run *r, int64_t every)
{
    return every > 0 && (r->step % every == 0 || r->step == r->config->train.steps);
}

/* ---- validation ---- */

void watch_validate(watch *w, step_record *s)
{
    run *r = w->r;
    if (!w->validation || !due(r, r->config->output.validate_every))
        return;
    double started = clock_seconds();
    ranks_phase(r->ranks, PHASE_VALIDATION, r->step);
    err e = validation_measure(&s->validation, w->validation);
    if (e != OK)
        log_warning(r->log, "step %" PRId64 ": validation: %s; training goes on", r->step, err_message());
    else if (s->validation.samples)
        log_info(r->log, "step %" PRId64 ": validation loss %.5f of %" PRId64 " samples in %.1f s", r->step,
                 s->validation.mean, s->validation.samples, clock_seconds() - started);
}

/* ---- events ---- */

void watch_record(watch *w, const step_record *s, double mean)
{
    enum { SCALARS = 7 + 1 + VALIDATION_BINS };
    tfevents_scalar scalar[SCALARS] = {
        {"train/loss", s->loss}, {"train/loss_average", mean}, {"train/grad_norm", s->grad_norm}, {"train/lr", s->lr},
        {"speed/images_per_second", s->images_per_second}, {"speed/wait_share", s->wait / s->seconds},
        {"train/skipped_steps", (double)s->skipped},
    };
    char tag[VALIDATION_BINS][64];
    const validation_loss *v = &s->validation;
    int count = 7;
    if (!w->events)
        return;
    if (v->samples) {
        scalar[count++] = (tfevents_scalar){"validation/loss", v->mean};
        for (int i = 0; i < VALIDATION_BINS; i++) {
            snprintf(tag[i], sizeof tag[i], "validation/timesteps_%03" PRId64 "-%03" PRId64, v->edge[i],
                     v->edge[i + 1] - 1);
            scalar[count++] = (tfevents_scalar){tag[i], v->bin[i]};
        }
    }
    give_up_events(w, tfevents_scalars(w->events, now(), s->step, scalar, count));
}

/* ---- pictures ---- */

static err put_picture(watch *w, int job, const char *path)
{
    image_header h;
    char tag[32], *png;
    size_t size;
    TRY(image_probe(&h, path, NULL));
    TRY(file_read(&png, &size, path, PICTURE_LIMIT));
    snprintf(tag, sizeof tag, "samples/%02d", job);
    err e = tfevents_picture(w->events, now(), w->r->step, tag, png, size, h.width, h.height);
    free(png);
    return e;
}

static void told(void *user, int job, const char *path)
{
    watch *w = user;
    if (w->events)
        give_up_events(w, put_picture(w, job, path));
}

err watch_draw(watch *w)
{
    run *r = w->r;
    if (!w->sampling || !due(r, r->config->output.sample_every))
        return OK;
    double started = clock_seconds();
    ranks_phase(r->ranks, PHASE_SAMPLES, r->step);
    bool restored;
    err e = sampling_draw(&restored, w->sampling, told, w);
    if (!restored)
        return e;
    if (e != OK)
        log_warning(r->log, "step %" PRId64 ": samples: %s; training goes on", r->step, err_message());
    else
        log_info(r->log, "step %" PRId64 ": drew samples in %.1f s", r->step, clock_seconds() - started);
    return OK;
}
