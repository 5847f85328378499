#include "infer/conditioning.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/image.h"
#include "data/preprocess.h"

static err encode_texts(conditioning *c, arena *memory, encoders *e, const job *j, logger *log)
{
    size_t cut = 0;
    c->text = ARENA_ARRAY(memory, float, c->T * c->X);
    c->pooled = ARENA_ARRAY(memory, float, c->P);
    c->no_text = ARENA_ARRAY(memory, float, c->T * c->X);
    c->no_pooled = ARENA_ARRAY(memory, float, c->P);
    TRY(encode_prompt(c->text, c->pooled, &cut, e, j->prompt));
    if (cut)
        log_warning(log, "the prompt is longer than %d tokens: its last %zu are cut off", (int)c->T, cut);
    return encode_prompt(c->no_text, c->no_pooled, NULL, e, j->negative_prompt);
}

/* Black where the mask is below 128. */
static err apply_mask(image *picture, const char *path)
{
    grey_image mask;
    TRY(err_as(grey_image_load(&mask, path, NULL), E_DATASET));
    err e = OK;
    if (mask.width != picture->width || mask.height != picture->height)
        e = err_set(E_DATASET, "%s: the mask is %d x %d, its picture %d x %d; they have to be equal", path, mask.width,
                    mask.height, picture->width, picture->height);
    for (int64_t i = 0; e == OK && i < (int64_t)mask.width * mask.height; i++)
        if (mask.grey[i] < 128)
            memset(picture->rgb + 3 * i, 0, 3);
    grey_image_free(&mask);
    return e;
}

static err encode_reference(float *hidden, encoders *e, const job_subject *s)
{
    image picture;
    int64_t side = encoders_sizes(e)->picture_side;
    TRY(err_as(image_load(&picture, s->image, NULL), E_DATASET));
    float *pixels = heap_get((size_t)(3 * side * side) * sizeof *pixels);
    err result = s->mask ? apply_mask(&picture, s->mask) : OK;
    if (result == OK)
        result = preprocess_generate_reference(pixels, &picture, (int)side);
    if (result == OK)
        result = encode_picture(hidden, e, pixels);
    free(pixels);
    image_free(&picture);
    return result;
}

/* subject_scales as soon as one subject has its own; the others take the job's. */
static void set_scales(conditioning *c, arena *memory, const job *j)
{
    bool any = false;
    for (int i = 0; i < j->subjects; i++)
        any |= isfinite(j->subject[i].scale);
    if (!any)
        return;
    c->scales = ARENA_ARRAY(memory, float, c->S);
    for (int i = 0; i < j->subjects; i++)
        c->scales[i] = (float)(isfinite(j->subject[i].scale) ? j->subject[i].scale : j->scale);
}

static err encode_subjects(conditioning *c, arena *memory, encoders *e, const job *j)
{
    c->image_hidden = ARENA_ARRAY(memory, float, c->S * c->L * c->D);
    c->phrases = ARENA_ARRAY(memory, float, c->S * c->E);
    c->boxes = ARENA_ARRAY(memory, float, c->S * 4);
    for (int i = 0; i < j->subjects; i++) {
        for (int k = 0; k < 4; k++)
            c->boxes[4 * i + k] = (float)job_box_clipped(j->subject[i].box[k]);
        TRY(encode_phrase(c->phrases + i * c->E, e, j->subject[i].phrase));
        TRY(encode_reference(c->image_hidden + i * c->L * c->D, e, &j->subject[i]));
    }
    set_scales(c, memory, j);
    return OK;
}

err conditioning_encode(conditioning *out, arena *memory, encoders *e, const job *j, logger *log)
{
    const encoder_sizes *z = encoders_sizes(e);
    *out = (conditioning){.T = z->tokens,
                          .X = z->text_width,
                          .P = z->pooled_width,
                          .S = j->subjects,
                          .L = z->picture_tokens,
                          .D = z->picture_width,
                          .E = z->phrase_width};
    TRY(encode_texts(out, memory, e, j, log));
    return j->subjects ? encode_subjects(out, memory, e, j) : OK;
}
