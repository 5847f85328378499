#include "train/prepare_plan.h"

#include <stdlib.h>

/* Whether the entry is to be made, and by whom asks first. */
static bool want(prepare_plan *p, cache_kind kind, const cache_key *key, const cache *store)
{
    bool first = cache_index_add(&p->referenced, key->hex, (cache_place){0});
    bool wanted = first && !cache_has(store, key);
    p->wanted[kind] += wanted;
    return wanted;
}

static bool want_text(prepare_plan *p, const cache_key *prompt, const cache_key *pooled, const cache *store)
{
    bool hidden = want(p, CACHE_PROMPT, prompt, store), embeds = want(p, CACHE_POOLED, pooled, store);
    return hidden || embeds;
}

/* A picture that could not be decoded before has the same content now. */
static bool want_picture(prepare_plan *p, cache_kind kind, const cache_key *key, const cache *store)
{
    return !cache_unreadable(store, key) && want(p, kind, key, store);
}

static bool plan_item(prepare_plan *p, prepare_item *t, arena *memory, const cache *store)
{
    int subjects = t->view.subjects;
    t->phrase = ARENA_ARRAY(memory, bool, subjects + 1);
    t->picture = ARENA_ARRAY(memory, bool, subjects + 1);
    t->latent = want_picture(p, CACHE_LATENT, &t->keys.latent, store);
    p->latent_pixels += t->latent ? (int64_t)t->view.frame.crop_width * t->view.frame.crop_height : 0;
    t->text = want_text(p, &t->keys.prompt, &t->keys.pooled, store);
    bool any = t->latent || t->text;
    for (int j = 0; j < subjects; j++) {
        t->phrase[j] = want(p, CACHE_PHRASE, &t->keys.phrase[j], store);
        t->picture[j] = want_picture(p, CACHE_PICTURE, &t->keys.picture[j], store);
        any = any || t->phrase[j] || t->picture[j];
    }
    return any;
}

static void keep_item(prepare_plan *p, const prepare_item *t)
{
    if (p->items == p->room) {
        p->room = p->room ? 2 * p->room : 256;
        p->item = heap_grow(p->item, (size_t)p->room * sizeof *p->item);
    }
    p->item[p->items++] = *t;
}

static bool known_bad(const cache *store, const prepare_item *t)
{
    bool bad = cache_unreadable(store, &t->keys.latent);
    for (int j = 0; j < t->view.subjects; j++)
        bad = bad || cache_unreadable(store, &t->keys.picture[j]);
    return bad;
}

static void plan_sample(prepare_plan *p, problems *found, arena *memory, const manifest *m, const sample *of, const run_config *c,
                        const cache_origin *o, const cache *store, file_stamps *stamps)
{
    bool skip = c->data.bad_samples == BAD_SAMPLES_SKIP;
    for (int crop = 0; crop < sample_view_crops(c); crop++) {
        prepare_item t = {.from = m, .of = of};
        err e = sample_view_make(&t.view, memory, of, c, crop);
        if (e == OK)
            e = sample_keys_make(&t.keys, memory, &t.view, c, o, stamps);
        if (e == OK && crop == 0 && known_bad(store, &t))
            e = err_set(E_DATASET, "%s: a picture of this sample could not be decoded before", of->image);
        p->samples++;
        if (e == OK) {
            if (plan_item(p, &t, memory, store))
                keep_item(p, &t);
        } else if (crop == 0 && skip) {
            problems_warn(found, m->path, of->line, "%s", err_message());
        } else if (crop == 0) {
            problems_add_error(found, E_DATASET, m->path, of->line);
        }
    }
}

void prepare_plan_add(prepare_plan *p, problems *found, arena *memory, const manifest *m, const run_config *c,
                      const cache_origin *o, const cache *store, file_stamps *stamps)
{
    for (int64_t i = 0; i < m->count; i++)
        plan_sample(p, found, memory, m, &m->sample[i], c, o, store, stamps);
}

void prepare_plan_add_replacements(prepare_plan *p, const cache_origin *o, const cache *store)
{
    cache_key prompt, pooled, colour;
    sample_keys_empty(&prompt, &pooled, o);
    sample_keys_mean_colour(&colour, o);
    p->empty = want_text(p, &prompt, &pooled, store);
    p->mean_colour = want(p, CACHE_PICTURE, &colour, store);
}

int64_t prepare_plan_bytes(const prepare_plan *p, const cache_origin *o)
{
    int64_t bytes = p->wanted[CACHE_LATENT] * CACHE_KEY_LENGTH, cell = o->latent_factor * o->latent_factor;
    bytes += 2 * p->latent_pixels / cell * o->latent_channels * (int64_t)stored_type_bytes(o->type);
    for (int k = 0; k < CACHE_KIND_COUNT; k++) {
        if (k == CACHE_LATENT)
            continue;
        cache_form f = sample_form((cache_kind)k, o, NULL);
        bytes += p->wanted[k] * (int64_t)(cache_form_bytes(&f) + CACHE_KEY_LENGTH);
    }
    return bytes;
}

void prepare_plan_free(prepare_plan *p)
{
    free(p->item);
    cache_index_free(&p->referenced);
    *p = (prepare_plan){0};
}
