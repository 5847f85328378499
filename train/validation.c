#include "train/validation.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "train/interrupt.h"

struct validation {
    run           *r;
    arena          memory;
    manifest       dataset;
    sample_source *source;
    sample_slot    slot;
    bool          *bad;    /* (dataset) */
    float         *latent; /* (2,h,w,C) mean and deviation of the sample */
    batch          batch;  /* of one sample */
    double         loss;   /* of the last */
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

static err look_at_all(validation *v)
{
    bool skip = v->r->config->data.bad_samples == BAD_SAMPLES_SKIP;
    int64_t good = 0;
    v->bad = ARENA_ARRAY(&v->memory, bool, v->dataset.count);
    for (int64_t i = 0; i < v->dataset.count; i++) {
        err e = read_sample(v, i);
        if (e != OK && !skip)
            return e;
        v->bad[i] = e != OK;
        good += e == OK;
        if (e != OK)
            log_warning(v->r->log, "%s; validation leaves it out", err_message());
    }
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

/* In the block of the steps: their keys are shorter. */
static err measure_sample(double sum[VALIDATION_BINS], validation *v, int64_t i, const int64_t *edge)
{
    const batch *b = &v->batch;
    TRY(encode_sample(v, i));
    const int64_t key[] = {b->B, b->S, b->h, b->w, b->T, 0, 0, 1};
    for (int bin = 0; bin < VALIDATION_BINS; bin++) {
        draw(v, bin, i, edge);
        TRY(planned_run(v->r->steps, key, sizeof key / sizeof *key, ask, v));
        sum[bin] += v->loss;
    }
    return OK;
}

err validation_measure(validation_loss *out, validation *v)
{
    validation_loss found = {0};
    *out = (validation_loss){0};
    validation_edges(found.edge, v->r->config, v->r->schedule.count);
    for (int64_t i = 0; i < v->dataset.count; i++) {
        if (v->bad[i])
            continue;
        if (interrupt_seen() != OK)
            return OK;
        TRY(measure_sample(found.bin, v, i, found.edge));
        found.samples++;
    }
    for (int bin = 0; bin < VALIDATION_BINS; bin++) {
        found.bin[bin] /= (double)found.samples;
        found.mean += found.bin[bin] / VALIDATION_BINS;
    }
    *out = found;
    return OK;
}
