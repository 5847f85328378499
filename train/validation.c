#include "train/validation.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "train/interrupt.h"
#include "train/run_reduce.h"

struct validation {
    run           *r;
    arena          memory;
    manifest       dataset;
    sample_source *source;
    sample_slot    slot;
    bool          *bad;    /* (dataset) */
    float         *latent; /* (2,h,w,C) mean and deviation of the sample */
    batch          batch;  /* of one sample */
    float          loss;   /* of the last */
};

void validation_edges(int64_t edge[VALIDATION_BINS + 1], const run_config *c, int64_t timesteps)
{
    int64_t low = c->train.timesteps[0], high = c->train.timesteps[1] ? c->train.timesteps[1] : timesteps;
    for (int i = 0; i <= VALIDATION_BINS; i++)
        edge[i] = low + (high - low) * i / VALIDATION_BINS;
}

/* ---- opening ---- */

static err read_list(validation *v)
{
    problems found = {.memory = &v->memory};
    manifest_load(&v->dataset, &found, v->r->config->data.validation, v->r->config->data.max_subjects);
    return problems_report(&found, stderr, 50);
}

static err open_source(validation *v)
{
    run *r = v->r;
    return r->encoders ? encoder_source_open(&v->source, r->config, &v->dataset, r->encoders)
                       : cache_source_open(&v->source, r->config, &v->dataset, r->log);
}

static float *floats(validation *v, int64_t count)
{
    return ARENA_ARRAY(&v->memory, float, count);
}

static void take_sizes(validation *v)
{
    const encoder_sizes *z = &v->source->sizes;
    int64_t S = v->r->config->data.max_subjects, plane = v->source->latent;
    v->batch = (batch){.B = 1,
                       .S = S,
                       .C = z->latent_channels,
                       .T = z->tokens,
                       .X = z->text_width,
                       .P = z->pooled_width,
                       .L = z->picture_tokens,
                       .D = z->picture_width,
                       .E = z->phrase_width};
    batch *b = &v->batch;
    b->latents = floats(v, plane);
    b->noise = floats(v, plane);
    b->timesteps = floats(v, 1);
    b->text = floats(v, b->T * b->X);
    b->pooled = floats(v, b->P);
    b->time_ids = floats(v, 6);
    b->image_hidden = floats(v, S * b->L * b->D);
    b->phrases = floats(v, S * b->E);
    b->boxes = floats(v, S * 4);
    b->drop_grounding = ARENA_NEW(&v->memory, int32_t);
    v->latent = floats(v, 2 * plane);
    v->slot.values = floats(v, v->source->slot_floats);
}

static err read_sample(validation *v, int64_t i)
{
    arena_reset(&v->slot.memory);
    err e = v->source->read(v->source, &v->slot, i, sample_view_crops(v->r->config) / 2);
    return e == OK ? OK : err_prefix(err_as(e, E_DATASET), "%s:%" PRId64, v->dataset.path, v->dataset.sample[i].line);
}

/* Sample i is this rank's. */
static bool is_own(const validation *v, int64_t i)
{
    return i % ranks_count(v->r->ranks) == ranks_rank(v->r->ranks);
}

/* The sum of a number over the ranks. */
static err add_up(int64_t *number, validation *v)
{
    int64_t *all = ARENA_ARRAY(&v->memory, int64_t, ranks_count(v->r->ranks)), own = *number;
    TRY(ranks_gather(v->r->ranks, all, &own, sizeof own));
    *number = 0;
    for (int i = 0; i < ranks_count(v->r->ranks); i++)
        *number += all[i];
    return OK;
}

static err look_at_all(validation *v)
{
    bool skip = v->r->config->data.bad_samples == BAD_SAMPLES_SKIP;
    int64_t good = 0;
    v->bad = ARENA_ARRAY(&v->memory, bool, v->dataset.count);
    for (int64_t i = 0; i < v->dataset.count; i++) {
        if (!is_own(v, i))
            continue;
        err e = read_sample(v, i);
        if (e != OK && !skip)
            return e;
        v->bad[i] = e != OK;
        good += e == OK;
        if (e != OK)
            log_warning(v->r->log, "%s; validation leaves it out", err_message());
    }
    if (v->r->ranks)
        TRY(add_up(&good, v));
    return good ? OK : err_set(E_DATASET, "%s: none of its samples can be read", v->dataset.path);
}

err validation_open(validation **out, run *r)
{
    *out = NULL;
    if (!r->config->data.validation || !r->config->output.validate_every)
        return OK;
    validation *v = heap_get(sizeof *v);
    *v = (validation){.r = r};
    err e = read_list(v);
    if (e == OK)
        e = open_source(v);
    if (e == OK) {
        take_sizes(v);
        e = look_at_all(v);
    }
    if (e != OK) {
        validation_close(v);
        return e;
    }
    *out = v;
    return OK;
}

void validation_close(validation *v)
{
    if (!v)
        return;
    sample_source_close(v->source);
    manifest_free(&v->dataset);
    arena_free(&v->slot.memory);
    arena_free(&v->memory);
    free(v);
}

/* ---- measuring ---- */

static err encode_sample(validation *v, int64_t i)
{
    batch *b = &v->batch;
    TRY(read_sample(v, i));
    const sample_view *view = &v->slot.view;
    b->S = view->subjects;
    b->h = view->frame.crop_height / v->source->sizes.latent_factor;
    b->w = view->frame.crop_width / v->source->sizes.latent_factor;
    encoded_sample out = {.latent = v->latent, .text = b->text, .pooled = b->pooled, .phrases = b->phrases,
                          .image_hidden = b->image_hidden};
    for (int j = 0; j < view->subjects; j++)
        memcpy(b->boxes + 4 * j, view->subject[j].box, sizeof view->subject[j].box);
    target_time_ids(b->time_ids, &view->frame);
    return v->source->encode(&out, v->source, &v->slot);
}

static draw_key key_of(const validation *v, draw_purpose purpose, int bin, int64_t i)
{
    return (draw_key){
        .seed = (uint64_t)v->r->config->train.seed, .purpose = purpose, .step = (uint64_t)bin, .sample = (uint64_t)i};
}

static void draw(validation *v, int bin, int64_t i, const int64_t edge[VALIDATION_BINS + 1])
{
    batch *b = &v->batch;
    int64_t plane = b->h * b->w * b->C, width = edge[bin + 1] - edge[bin];
    float factor = (float)v->source->sizes.scaling_factor;
    draw_normals(b->latents, (size_t)plane, key_of(v, DRAW_VALIDATION_POSTERIOR, bin, i));
    for (int64_t k = 0; k < plane; k++)
        b->latents[k] = (v->latent[k] + v->latent[plane + k] * b->latents[k]) * factor;
    draw_normals(b->noise, (size_t)plane, key_of(v, DRAW_VALIDATION_NOISE, bin, i));
    uint64_t within = width > 0 ? draw_below(key_of(v, DRAW_VALIDATION_TIMESTEP, bin, i), 0, (uint64_t)width) : 0;
    b->timesteps[0] = (float)(edge[bin] + (int64_t)within);
}

static err ask(ag *g, void *user)
{
    validation *v = user;
    run *r = v->r;
    step_models models = {.unet = &r->unet, .adapter = run_adapter(r), .schedule = r->schedule};
    return train_loss(&v->loss, g, &models, &v->batch);
}

/* In the block of the steps: their keys are longer. */
static err measure_sample(double loss[VALIDATION_BINS], validation *v, int64_t i, const int64_t *edge)
{
    const batch *b = &v->batch;
    TRY(encode_sample(v, i));
    const int64_t key[] = {b->B, b->S, b->h, b->w, b->T, 0, 0, 1};
    for (int bin = 0; bin < VALIDATION_BINS; bin++) {
        draw(v, bin, i, edge);
        TRY(planned_replay(v->r->steps, key, sizeof key / sizeof *key, ask, v));
        loss[bin] = (double)v->loss;
    }
    return OK;
}

typedef enum sample_state { SAMPLE_OTHERS, SAMPLE_BAD, SAMPLE_MEASURED, SAMPLE_STOPPED } sample_state;

typedef struct sample_loss {
    int64_t state; /* sample_state */
    double  bin[VALIDATION_BINS];
} sample_loss;

/* This rank's samples; stops at an error, which is returned, and at a signal. */
static err measure_own(sample_loss *list, validation *v, const int64_t *edge)
{
    err e = OK;
    for (int64_t i = 0; i < v->dataset.count; i++) {
        if (!is_own(v, i))
            continue;
        ranks_phase(v->r->ranks, PHASE_VALIDATION, v->r->step);
        list[i].state = v->bad[i] ? SAMPLE_BAD : e != OK || interrupt_seen() != OK ? SAMPLE_STOPPED : SAMPLE_MEASURED;
        if (list[i].state == SAMPLE_MEASURED)
            e = measure_sample(list[i].bin, v, i, edge);
        if (e != OK)
            list[i].state = SAMPLE_STOPPED;
    }
    return e;
}

/* Everyone's samples, from everyone. */
static err share_losses(sample_loss *list, validation *v)
{
    int64_t      count = v->dataset.count;
    int          all = ranks_count(v->r->ranks);
    sample_loss *given = heap_get((size_t)(count * all) * sizeof *given);
    err e = ranks_gather(v->r->ranks, given, list, (size_t)count * sizeof *given);
    for (int64_t i = 0; i < count && e == OK; i++)
        list[i] = given[i % all * count + i];
    free(given);
    return e;
}

/* The others wait for what this rank has, also when it has failed; its message stays the failure's. */
static void share_failure(sample_loss *list, validation *v)
{
    arena words = {0};
    const char *message = arena_copy_string(&words, err_message());
    share_losses(list, v);
    err_set(E_IO, "%s", message);
    arena_free(&words);
}

/* In the order of the list; nothing where any of them was stopped. */
static void add_losses(validation_loss *found, const sample_loss *list, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (list[i].state == SAMPLE_STOPPED) {
            found->samples = 0;
            return;
        }
        for (int bin = 0; bin < VALIDATION_BINS && list[i].state == SAMPLE_MEASURED; bin++)
            found->bin[bin] += list[i].bin[bin];
        found->samples += list[i].state == SAMPLE_MEASURED;
    }
}

err validation_measure(validation_loss *out, validation *v)
{
    validation_loss found = {0};
    *out = (validation_loss){0};
    TRY(run_reduce_settle(v->r));
    validation_edges(found.edge, v->r->config, v->r->schedule.count);
    sample_loss *list = heap_get((size_t)v->dataset.count * sizeof *list);
    memset(list, 0, (size_t)v->dataset.count * sizeof *list);
    err e = measure_own(list, v, found.edge);
    if (v->r->ranks && e == OK)
        e = share_losses(list, v);
    else if (v->r->ranks)
        share_failure(list, v);
    add_losses(&found, list, v->dataset.count);
    free(list);
    if (e != OK || !found.samples)
        return e;
    for (int bin = 0; bin < VALIDATION_BINS; bin++) {
        found.bin[bin] /= (double)found.samples;
        found.mean += found.bin[bin] / VALIDATION_BINS;
    }
    *out = found;
    return OK;
}
