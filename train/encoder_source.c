/* Samples by the encoders: the slot holds pixels. */
#include <stdlib.h>
#include <string.h>

#include "train/sample_source.h"

typedef struct encoder_source {
    sample_source base; /* first: a sample_source * is one of these */
    encoders     *encoders;
} encoder_source;

static encoder_source *of(sample_source *s)
{
    return (encoder_source *)(void *)s;
}

static int64_t picture_floats(const sample_source *s)
{
    return 3 * s->sizes.picture_side * s->sizes.picture_side;
}

static int64_t target_floats(const sample_source *s)
{
    bucket_size most = sample_view_largest(s->config);
    return 3 * (int64_t)most.width * most.height;
}

/* All pictures are read, whatever is dropped: whether a sample is good must not depend on its draws. */
static err read_pixels(sample_source *s, sample_slot *slot, int64_t index, int crop)
{
    const sample *m = &s->dataset->sample[index];
    TRY(sample_view_make(&slot->view, &slot->memory, m, s->config, crop));
    if (slot->step)
        sample_view_augment(&slot->view, s->config, slot->step, slot->place);
    float **references = ARENA_ARRAY(&slot->memory, float *, m->subjects + 1);
    for (int j = 0; j < m->subjects; j++)
        references[j] = slot->values + target_floats(s) + j * picture_floats(s);
    int bad;
    return sample_view_load(slot->values, references, &bad, &slot->view, s->config, (int)s->sizes.picture_side);
}

static err encode_subjects(encoded_sample *out, sample_source *s, const sample_slot *slot)
{
    encoders *e = of(s)->encoders;
    const encoder_sizes *z = &s->sizes;
    int64_t tokens = z->picture_tokens * z->picture_width;
    for (int j = 0; j < slot->view.subjects; j++) {
        if (out->phrases)
            TRY(encode_phrase(out->phrases + j * z->phrase_width, e, slot->view.subject[j].words));
        if (out->image_hidden)
            TRY(encode_picture(out->image_hidden + j * tokens, e, slot->values + target_floats(s) + j * picture_floats(s)));
    }
    if (out->phrases)
        sample_source_round(out->phrases, slot->view.subjects * z->phrase_width, s->type);
    if (out->image_hidden)
        sample_source_round(out->image_hidden, slot->view.subjects * tokens, s->type);
    return OK;
}

static err encode_text(float *text, float *pooled, sample_source *s, const char *prompt)
{
    const encoder_sizes *z = &s->sizes;
    TRY(encode_prompt(text, pooled, NULL, of(s)->encoders, prompt));
    sample_source_round(text, z->tokens * z->text_width, s->type);
    sample_source_round(pooled, z->pooled_width, s->type);
    return OK;
}

static err encode_pixels(encoded_sample *out, sample_source *s, const sample_slot *slot)
{
    if (out->latent) {
        const target_frame *f = &slot->view.frame;
        int64_t count = sample_source_latent(s, &slot->view);
        err e = encode_latent(out->latent, out->latent + count, of(s)->encoders, slot->values, f->crop_height, f->crop_width);
        if (e != OK)
            return err_prefix(e, "%s", slot->view.image);
        sample_source_round(out->latent, 2 * count, s->type);
    }
    if (out->text)
        TRY(encode_text(out->text, out->pooled, s, slot->view.text));
    return encode_subjects(out, s, slot);
}

static err encode_replacements(sample_source *s)
{
    float *black = heap_get((size_t)picture_floats(s) * sizeof *black);
    memset(black, 0, (size_t)picture_floats(s) * sizeof *black);
    err e = encode_text(s->empty_text, s->empty_pooled, s, "");
    if (e == OK)
        e = encode_picture(s->mean_colour, of(s)->encoders, black);
    sample_source_round(s->mean_colour, s->sizes.picture_tokens * s->sizes.picture_width, s->type);
    free(black);
    return e;
}

static void close_source(sample_source *s)
{
    sample_source_release(s);
    free(s);
}

err encoder_source_open(sample_source **out, const run_config *c, const manifest *dataset, encoders *e)
{
    encoder_source *s = heap_get(sizeof *s);
    *s = (encoder_source){.base = {.sizes = *encoders_sizes(e), .read = read_pixels, .encode = encode_pixels,
                                   .close = close_source},
                          .encoders = e};
    err result = sample_source_start(&s->base, c, dataset);
    if (result == OK) {
        s->base.slot_floats = target_floats(&s->base) + c->data.max_subjects * picture_floats(&s->base);
        result = encode_replacements(&s->base);
    }
    if (result != OK) {
        close_source(&s->base);
        s = NULL;
    }
    *out = s ? &s->base : NULL;
    return result;
}
