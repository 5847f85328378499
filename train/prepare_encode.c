#include "train/prepare_encode.h"

#include <stdlib.h>
#include <string.h>

#include "base/ahead.h"
#include "base/progress.h"
#include "train/interrupt.h"

typedef struct pixels { /* of one item, read ahead */
    float *values; /* the target, then the subjects' references */
    err    failed;
    int    bad;    /* what could not be read: -1 the target, else the subject */
    arena  texts;
    const char *message;
} pixels;

typedef struct encoding {
    const prepare_plan *plan;
    const run_config   *c;
    cache              *store;
    encoders           *encoders;
    cache_origin        origin;
    ranks              *all;
    pixels             *slot;
    float              *out; /* the largest entry, and behind it a second one for prompts */
} encoding;

/* By its place in the dataset, which is the same whatever each rank finds in the cache. */
static bool is_own(const encoding *x, const prepare_item *t)
{
    return (t->of - t->from->sample) % ranks_count(x->all) == ranks_rank(x->all);
}

static int64_t picture_floats(const encoding *x)
{
    return 3 * x->origin.picture_side * x->origin.picture_side;
}

static int64_t target_floats(const encoding *x)
{
    bucket_size most = sample_view_largest(x->c);
    return 3 * (int64_t)most.width * most.height;
}

static float *reference_at(const encoding *x, const pixels *s, int j)
{
    return s->values + target_floats(x) + j * picture_floats(x);
}

static void read_item(void *user, int slot, int64_t position)
{
    encoding *x = user;
    pixels *s = &x->slot[slot];
    s->failed = OK;
    arena_reset(&s->texts);
    if (position >= x->plan->items || !is_own(x, &x->plan->item[position])) /* threads run ahead of the end */
        return;
    const prepare_item *t = &x->plan->item[position];
    float **references = ARENA_ARRAY(&s->texts, float *, t->view.subjects + 1);
    for (int j = 0; j < t->view.subjects; j++)
        references[j] = t->picture[j] ? reference_at(x, s, j) : NULL;
    s->failed = sample_view_load(t->latent ? s->values : NULL, references, &s->bad, &t->view, x->c, (int)x->origin.picture_side);
    if (s->failed != OK)
        s->message = arena_copy_string(&s->texts, err_message());
}

/* ---- one entry each ---- */

static err add(encoding *x, cache_kind kind, const cache_key *key, const float *values)
{
    cache_form f = sample_form(kind, &x->origin, NULL);
    return cache_add(x->store, key, &f, values);
}

static err add_text(encoding *x, const char *text, const cache_key *prompt, const cache_key *pooled)
{
    float *embeds = x->out + x->origin.tokens * x->origin.text_width;
    TRY(encode_prompt(x->out, embeds, NULL, x->encoders, text));
    TRY(add(x, CACHE_PROMPT, prompt, x->out));
    return add(x, CACHE_POOLED, pooled, embeds);
}

static err add_picture(encoding *x, const float *values, const cache_key *key)
{
    TRY(encode_picture(x->out, x->encoders, values));
    return add(x, CACHE_PICTURE, key, x->out);
}

static err add_latent(encoding *x, const float *values, const prepare_item *t)
{
    const target_frame *frame = &t->view.frame;
    cache_form f = sample_form(CACHE_LATENT, &x->origin, frame);
    float *deviation = x->out + cache_form_count(&f) / 2;
    err e = encode_latent(x->out, deviation, x->encoders, values, frame->crop_height, frame->crop_width);
    return e == OK ? cache_add(x->store, &t->keys.latent, &f, x->out) : err_prefix(e, "%s", t->view.image);
}

static err add_item(encoding *x, const prepare_item *t, const pixels *s)
{
    if (t->latent)
        TRY(add_latent(x, s->values, t));
    if (t->text)
        TRY(add_text(x, t->view.text, &t->keys.prompt, &t->keys.pooled));
    for (int j = 0; j < t->view.subjects; j++) {
        if (t->phrase[j]) {
            TRY(encode_phrase(x->out, x->encoders, t->view.subject[j].words));
            TRY(add(x, CACHE_PHRASE, &t->keys.phrase[j], x->out));
        }
        if (t->picture[j])
            TRY(add_picture(x, reference_at(x, s, j), &t->keys.picture[j]));
    }
    return OK;
}

static err add_replacements(encoding *x)
{
    cache_key prompt, pooled, colour;
    sample_keys_empty(&prompt, &pooled, &x->origin);
    sample_keys_mean_colour(&colour, &x->origin);
    if (x->plan->empty)
        TRY(add_text(x, "", &prompt, &pooled));
    if (!x->plan->mean_colour)
        return OK;
    memset(x->slot[0].values, 0, (size_t)picture_floats(x) * sizeof(float));
    return add_picture(x, x->slot[0].values, &colour);
}

/* The parts of the item that other samples may share are made by those that ask next time. */
static err note_bad(encoding *x, problems *found, const prepare_item *t, const pixels *s)
{
    if (s->failed != E_IO && s->failed != E_FORMAT && s->failed != E_DATASET)
        return err_set(s->failed, "%s", s->message);
    if (s->failed != E_IO) /* a disk that fails today may read tomorrow; the content stays what it is */
        cache_add_unreadable(x->store, s->bad < 0 ? &t->keys.latent : &t->keys.picture[s->bad]);
    if (x->c->data.bad_samples == BAD_SAMPLES_SKIP)
        problems_warn(found, t->from->path, t->of->line, "%s", s->message);
    else
        problems_add(found, E_DATASET, t->from->path, t->of->line, "%s", s->message);
    return OK;
}

/* ---- all of them ---- */

static int64_t largest(const encoding *x)
{
    const cache_origin *o = &x->origin;
    bucket_size target = sample_view_largest(x->c);
    target_frame frame = {.crop_width = target.width, .crop_height = target.height};
    int64_t most = o->pooled_width + o->tokens * o->text_width;
    for (int k = 0; k < CACHE_KIND_COUNT; k++) {
        cache_form f = sample_form((cache_kind)k, o, &frame);
        most = cache_form_count(&f) > most ? cache_form_count(&f) : most;
    }
    return most;
}

static err encode_items(encoding *x, problems *found, ahead *reading, logger *log)
{
    const prepare_plan *p = x->plan;
    progress bar = progress_start(log, "prepare", "samples", p->samples - p->items, p->samples);
    double waited = 0;
    err e = OK;
    for (int64_t i = 0; i < p->items && e == OK; i++) {
        const pixels *s = &x->slot[ahead_take(&waited, reading)];
        ranks_phase(x->all, PHASE_FORWARD, i + 1);
        if (is_own(x, &p->item[i]))
            e = s->failed == OK ? add_item(x, &p->item[i], s) : note_bad(x, found, &p->item[i], s);
        ahead_give(reading);
        if (e == OK) {
            progress_update(&bar, p->samples - p->items + i + 1, NULL);
            e = interrupt_seen();
            if (e != OK)
                err_set(e, "interrupted: %lld of %lld samples are encoded; run `msd prepare` again to go on",
                        (long long)(p->samples - p->items + i + 1), (long long)p->samples);
        }
    }
    progress_end(&bar);
    return e;
}

err prepare_encode(const prepare_plan *p, problems *found, cache *store, encoders *e, const run_config *c,
                   int readers, ranks *all, logger *log)
{
    encoding x = {.plan = p, .c = c, .store = store, .encoders = e, .origin = *cache_get_origin(store), .all = all};
    int slots = readers + 2;
    x.out = heap_get((size_t)largest(&x) * sizeof *x.out);
    x.slot = heap_get((size_t)slots * sizeof *x.slot);
    size_t floats = (size_t)(target_floats(&x) + c->data.max_subjects * picture_floats(&x));
    for (int i = 0; i < slots; i++)
        x.slot[i] = (pixels){.values = heap_get(floats * sizeof(float))};
    err result = ranks_rank(all) == 0 ? add_replacements(&x) : OK;
    if (result == OK) {
        ahead *reading = ahead_start(readers, slots, 0, read_item, &x);
        result = encode_items(&x, found, reading, log);
        ahead_stop(reading);
    }
    for (int i = 0; i < slots; i++) {
        free(x.slot[i].values);
        arena_free(&x.slot[i].texts);
    }
    free(x.slot);
    free(x.out);
    return result;
}
