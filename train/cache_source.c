/* Samples out of the cache: every one is found at the start, so that nothing is missing later; the slot holds the
 * entries, read and converted by the threads. No encoder is loaded: its files are only hashed, and not even that when
 * their stamps are those that `msd prepare` saw. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/sample_keys.h"
#include "train/sample_source.h"

typedef struct found_sample {
    sample_view view;
    sample_keys keys;
    const char *bad; /* why it cannot be used; NULL: it can */
} found_sample;

typedef struct cache_source {
    sample_source base; /* first: a sample_source * is one of these */
    cache        *store;
    arena         memory;
    int           crops;
    found_sample *found; /* (samples, crops) */
} cache_source;

static cache_source *of(sample_source *s)
{
    return (cache_source *)(void *)s;
}

/* ---- opening ---- */

/* What was prepared by other encoders, or in another type, is stale. A component that this machine does not have at all
 * cannot have changed; its absence is said. */
static err check_origin(const cache_origin *now, const cache_origin *then, const run_config *c, logger *log)
{
    arena text = {0};
    const char *changed = "", *absent = "";
    for (int i = 0; i < CACHE_ENCODER_COUNT; i++) {
        const char *name = cache_encoder_name((cache_encoder)i);
        if (!now->encoder[i][0])
            absent = arena_print(&text, "%s%s%s", absent, absent[0] ? ", " : "", name);
        else if (strcmp(now->encoder[i], then->encoder[i]))
            changed = arena_print(&text, "%s%s%s", changed, changed[0] ? ", " : "", name);
    }
    err e = OK;
    if (changed[0])
        e = err_set(E_CACHE, "%s: stale: changed since `msd prepare`: %s; run `msd prepare` again", c->data.cache, changed);
    else if (now->type != then->type)
        e = err_set(E_CACHE, "%s: stale: data.cache_dtype: holds %s, this run wants %s; run `msd prepare` again", c->data.cache,
                    stored_type_name(then->type), stored_type_name(now->type));
    else if (then->computed == STORED_BF16 && now->computed == STORED_F32)
        e = err_set(E_CACHE, "%s: stale: device.dtype: was computed in bf16, this run computes in f32; run `msd prepare` again "
                             "into another data.cache", c->data.cache);
    else if (absent[0])
        log_warning(log, "%s: not compared with the files of %s, which are not here", c->data.cache, absent);
    arena_free(&text);
    return e;
}

/* The first entry of the sample that is not there, or NULL; *unreadable: a picture of it could not be decoded. */
static const char *lacking(bool *unreadable, const cache *store, const sample_keys *k, int subjects)
{
    *unreadable = cache_unreadable(store, &k->latent);
    for (int j = 0; j < subjects; j++)
        *unreadable = *unreadable || cache_unreadable(store, &k->picture[j]);
    if (*unreadable)
        return NULL;
    if (!cache_has(store, &k->latent))
        return "image";
    if (!cache_has(store, &k->prompt) || !cache_has(store, &k->pooled))
        return "text";
    for (int j = 0; j < subjects; j++)
        if (!cache_has(store, &k->phrase[j]))
            return "phrase";
    for (int j = 0; j < subjects; j++)
        if (!cache_has(store, &k->picture[j]))
            return "reference";
    return NULL;
}

static void find_one(found_sample *f, const char **lacks, cache_source *s, int64_t i, int crop,
                     const cache_origin *o, file_stamps *stamps)
{
    const sample *m = &s->base.dataset->sample[i];
    bool unreadable = false;
    err e = sample_view_make(&f->view, &s->memory, m, s->base.config, crop);
    if (e == OK)
        e = sample_keys_make(&f->keys, &s->memory, &f->view, s->base.config, o, stamps);
    *lacks = NULL;
    if (e == OK)
        *lacks = lacking(&unreadable, s->store, &f->keys, m->subjects);
    if (e != OK)
        f->bad = arena_copy_string(&s->memory, err_message());
    else if (unreadable)
        f->bad = arena_print(&s->memory, "%s: a picture of this sample could not be decoded by `msd prepare`", m->image);
}

static err find_all(cache_source *s, const cache_origin *o, file_stamps *stamps)
{
    const manifest *d = s->base.dataset;
    const run_config *c = s->base.config;
    int64_t missing = 0, bad = 0, first_missing = 0, first_bad = 0;
    const char *first_lack = NULL;
    s->crops = sample_view_crops(c);
    s->found = ARENA_ARRAY(&s->memory, found_sample, d->count * s->crops + 1);
    for (int64_t i = 0; i < d->count; i++) {
        bool lacks_any = false;
        for (int crop = 0; crop < s->crops; crop++) {
            const char *lacks;
            find_one(&s->found[i * s->crops + crop], &lacks, s, i, crop, o, stamps);
            if (lacks && !missing && !lacks_any) {
                first_lack = lacks;
                first_missing = i;
            }
            lacks_any = lacks_any || lacks;
        }
        missing += lacks_any;
        if (s->found[i * s->crops].bad && bad++ == 0)
            first_bad = i;
    }
    if (missing)
        return err_set(E_CACHE, "%s: lacks %" PRId64 " of %" PRId64 " samples, first %s:%" PRId64 " (its %s); run `msd prepare`",
                       c->data.cache, missing, d->count, d->path, d->sample[first_missing].line, first_lack);
    if (bad && c->data.bad_samples == BAD_SAMPLES_FATAL)
        return err_set(E_DATASET, "%s:%" PRId64 ": %s%s; mend it, or set data.bad_samples: skip", d->path,
                       d->sample[first_bad].line, s->found[first_bad * s->crops].bad, bad > 1 ? " (the first of several)" : "");
    return OK;
}

static err read_replacements(cache_source *s, const cache_origin *o)
{
    cache_key prompt, pooled, colour;
    cache_form text_form = sample_form(CACHE_PROMPT, o, NULL), pooled_form = sample_form(CACHE_POOLED, o, NULL);
    cache_form picture_form = sample_form(CACHE_PICTURE, o, NULL);
    sample_keys_empty(&prompt, &pooled, o);
    sample_keys_mean_colour(&colour, o);
    TRY(cache_read(s->base.empty_text, s->store, &prompt, &text_form));
    TRY(cache_read(s->base.empty_pooled, s->store, &pooled, &pooled_form));
    return cache_read(s->base.mean_colour, s->store, &colour, &picture_form);
}

/* ---- reading ---- */

/* Where the parts of a sample lie in a slot's values. */
static encoded_sample layout(const sample_source *s, float *values)
{
    const encoder_sizes *z = &s->sizes;
    encoded_sample at = {.latent = values};
    at.text = at.latent + 2 * s->latent;
    at.pooled = at.text + z->tokens * z->text_width;
    at.phrases = at.pooled + z->pooled_width;
    at.image_hidden = at.phrases + s->config->data.max_subjects * z->phrase_width;
    return at;
}

static err read_entries(sample_source *s, sample_slot *slot, int64_t index, int crop)
{
    cache_source *c = of(s);
    const found_sample *f = &c->found[index * c->crops + crop];
    const encoder_sizes *z = &s->sizes;
    const cache_origin *o = cache_get_origin(c->store);
    if (f->bad)
        return err_set(E_DATASET, "%s", f->bad);
    slot->view = f->view;
    encoded_sample at = layout(s, slot->values);
    cache_form form[CACHE_KIND_COUNT];
    for (int k = 0; k < CACHE_KIND_COUNT; k++)
        form[k] = sample_form((cache_kind)k, o, &f->view.frame);
    TRY(cache_read(at.latent, c->store, &f->keys.latent, &form[CACHE_LATENT]));
    TRY(cache_read(at.text, c->store, &f->keys.prompt, &form[CACHE_PROMPT]));
    TRY(cache_read(at.pooled, c->store, &f->keys.pooled, &form[CACHE_POOLED]));
    for (int j = 0; j < f->view.subjects; j++) {
        TRY(cache_read(at.phrases + j * z->phrase_width, c->store, &f->keys.phrase[j], &form[CACHE_PHRASE]));
        TRY(cache_read(at.image_hidden + j * z->picture_tokens * z->picture_width, c->store, &f->keys.picture[j],
                       &form[CACHE_PICTURE]));
    }
    return OK;
}

static void copy(float *to, const float *from, int64_t count)
{
    if (to)
        memcpy(to, from, (size_t)count * sizeof *to);
}

static err encode_entries(encoded_sample *out, sample_source *s, const sample_slot *slot)
{
    const encoder_sizes *z = &s->sizes;
    const encoded_sample at = layout(s, slot->values);
    int64_t subjects = slot->view.subjects;
    copy(out->latent, at.latent, 2 * sample_source_latent(s, &slot->view));
    copy(out->text, at.text, z->tokens * z->text_width);
    copy(out->pooled, at.pooled, z->pooled_width);
    copy(out->phrases, at.phrases, subjects * z->phrase_width);
    copy(out->image_hidden, at.image_hidden, subjects * z->picture_tokens * z->picture_width);
    return OK;
}

static void close_source(sample_source *s)
{
    cache_close(of(s)->store);
    arena_free(&of(s)->memory);
    sample_source_release(s);
    free(s);
}

static err open_source(cache_source *s, const run_config *c, const manifest *dataset, file_stamps *stamps, logger *log)
{
    cache_origin now;
    TRY(cache_open(&s->store, c->data.cache));
    const cache_origin *then = cache_get_origin(s->store);
    TRY(sample_keys_origin(&now, c, stamps));
    TRY(check_origin(&now, then, c, log));
    s->base.sizes = sample_keys_sizes(then);
    TRY(sample_source_start(&s->base, c, dataset));
    const encoder_sizes *z = &s->base.sizes;
    s->base.slot_floats = 2 * s->base.latent + z->tokens * z->text_width + z->pooled_width +
                          c->data.max_subjects * (z->phrase_width + z->picture_tokens * z->picture_width);
    TRY(find_all(s, then, stamps));
    return read_replacements(s, then);
}

err cache_source_open(sample_source **out, const run_config *c, const manifest *dataset, logger *log)
{
    cache_source *s = heap_get(sizeof *s);
    *s = (cache_source){.base = {.read = read_entries, .encode = encode_entries, .close = close_source}};
    char *table = path_join(c->data.cache, "files");
    file_stamps *stamps = file_stamps_open(table);
    err e = open_source(s, c, dataset, stamps, log);
    file_stamps_close(stamps);
    free(table);
    if (e != OK) {
        close_source(&s->base);
        s = NULL;
    }
    *out = s ? &s->base : NULL;
    return e;
}
