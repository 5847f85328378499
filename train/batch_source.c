#include "train/batch_source.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/philox.h"
#include "data/phrase.h"
#include "data/preprocess.h"
#include "data/safetensors.h"

static float *floats(int64_t count)
{
    return heap_get((size_t)count * sizeof(float));
}

/* ---- opening ---- */

static void take_sizes(batch_source *s)
{
    const encoder_sizes *z = encoders_sizes(s->encoders);
    int64_t side = s->config->data.resolution / z->latent_factor, B = s->config->train.batch_size;
    int64_t S = s->config->data.max_subjects;
    s->batch = (batch){.B = B, .S = S, .h = side, .w = side, .C = z->latent_channels, .T = z->tokens, .X = z->text_width,
                       .P = z->pooled_width, .L = z->picture_tokens, .D = z->picture_width, .E = z->phrase_width};
    batch *b = &s->batch;
    int64_t plane = side * side * b->C, resolution = s->config->data.resolution;
    b->latents = floats(B * plane);
    b->noise = floats(B * plane);
    b->timesteps = floats(B);
    b->text = floats(B * b->T * b->X);
    b->pooled = floats(B * b->P);
    b->time_ids = floats(B * 6);
    b->image_hidden = floats(B * S * b->L * b->D);
    b->phrases = floats(B * S * b->E);
    b->boxes = floats(B * S * 4);
    b->drop_grounding = heap_get((size_t)B * sizeof *b->drop_grounding);
    int64_t picture = z->picture_side > resolution ? z->picture_side : resolution;
    s->pixels = floats(3 * picture * picture);
    s->latent = floats(2 * plane);
    s->empty_text = floats(b->T * b->X);
    s->empty_pooled = floats(b->P);
    s->mean_colour = floats(b->L * b->D);
    s->drops = heap_get((size_t)B * sizeof *s->drops);
    s->chosen = heap_get((size_t)B * sizeof *s->chosen);
}

static err encode_replacements(batch_source *s)
{
    int64_t side = encoders_sizes(s->encoders)->picture_side;
    TRY(encode_prompt(s->empty_text, s->empty_pooled, NULL, s->encoders, ""));
    memset(s->pixels, 0, (size_t)(3 * side * side) * sizeof(float));
    return encode_picture(s->mean_colour, s->encoders, s->pixels);
}

err batch_source_open(batch_source *s, const run_config *c, const manifest *dataset, encoders *e, int64_t timesteps)
{
    *s = (batch_source){.config = c, .dataset = dataset, .encoders = e, .timesteps = timesteps};
    const encoder_sizes *z = encoders_sizes(e);
    if (c->data.resolution % z->latent_factor)
        return err_set(E_CONFIG, "data.resolution: %" PRId64 " is not a multiple of %" PRId64 ", the VAE's factor; give e.g. %" PRId64,
                       c->data.resolution, z->latent_factor, c->data.resolution / z->latent_factor * z->latent_factor);
    sample_order_open(&s->order, (uint64_t)c->train.seed, dataset->count);
    take_sizes(s);
    err result = encode_replacements(s);
    if (result != OK)
        batch_source_close(s);
    return result;
}

void batch_source_close(batch_source *s)
{
    batch *b = &s->batch;
    void *owned[] = {b->latents, b->noise, b->timesteps, b->text, b->pooled, b->time_ids, b->image_hidden, b->phrases,
                     b->boxes, b->drop_grounding, s->pixels, s->latent, s->empty_text, s->empty_pooled, s->mean_colour,
                     s->drops, s->chosen};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        free(owned[i]);
    sample_order_close(&s->order);
    *s = (batch_source){0};
}

/* ---- one sample ---- */

/* The error of a sample names its place in the manifest. */
static err of_sample(const batch_source *s, const sample *m, err e)
{
    return e == OK ? OK : err_prefix(err_as(e, E_DATASET), "%s:%" PRId64, s->dataset->path, m->line);
}

static err encode_target(batch_source *s, const sample *m, const image *picture, const target_frame *frame, int64_t i,
                         draw_key draw)
{
    batch *b = &s->batch;
    int64_t plane = b->h * b->w * b->C, side = frame->side;
    TRY(preprocess_target(s->pixels, picture, frame));
    err e = encode_latent(s->latent, s->latent + plane, s->encoders, s->pixels, side, side);
    if (e != OK)
        return err_prefix(e, "%s", m->image);
    float *to = b->latents + i * plane;
    draw.purpose = DRAW_POSTERIOR;
    draw_normals(to, (size_t)plane, draw);
    float factor = (float)encoders_sizes(s->encoders)->scaling_factor;
    for (int64_t k = 0; k < plane; k++)
        to[k] = (s->latent[k] + s->latent[plane + k] * to[k]) * factor;
    draw_noise(b->noise + i * plane, draw.seed, (int64_t)draw.step, (int64_t)draw.sample, b->h * b->w, b->C,
               s->config->train.noise_offset);
    target_time_ids(b->time_ids + 6 * i, frame);
    return OK;
}

static err encode_text(batch_source *s, const sample *m, int64_t i)
{
    batch *b = &s->batch;
    float *text = b->text + i * b->T * b->X, *pooled = b->pooled + i * b->P;
    if (!s->drops[i].text)
        return encode_prompt(text, pooled, NULL, s->encoders, m->text);
    memcpy(text, s->empty_text, (size_t)(b->T * b->X) * sizeof(float));
    memcpy(pooled, s->empty_pooled, (size_t)b->P * sizeof(float));
    return OK;
}

static box in_pixels(const double from[4], box_units units, const image *picture)
{
    float unit[4];
    box_fit(unit, from, units, picture->width, picture->height);
    return (box){(double)unit[0] * picture->width, (double)unit[1] * picture->height, (double)unit[2] * picture->width,
                 (double)unit[3] * picture->height};
}

static err load_mask(grey_image *mask, const subject *u, const image *cut)
{
    TRY(grey_image_load(mask, u->mask, NULL));
    if (mask->width == cut->width && mask->height == cut->height)
        return OK;
    err e = err_set(E_DATASET, "%s: the mask is %d x %d, the picture it cuts is %d x %d", u->mask, mask->width, mask->height,
                    cut->width, cut->height);
    grey_image_free(mask);
    return e;
}

/* The subject's reference in s->pixels, as CLIP takes it. */
static err prepare_reference(batch_source *s, const sample *m, const subject *u, const image *target)
{
    image own = {0};
    grey_image mask = {0};
    if (u->reference)
        TRY(image_load(&own, u->reference, NULL));
    const image *from = u->reference ? &own : target;
    box crop = {0, 0, from->width, from->height};
    if (!u->reference)
        crop = in_pixels(u->box, m->units, from);
    else if (u->has_reference_box)
        crop = in_pixels(u->reference_box, m->units, from);
    err e = u->mask ? load_mask(&mask, u, from) : OK;
    if (e == OK)
        e = preprocess_train_reference(s->pixels, from, u->mask ? &mask : NULL, crop, (int)s->config->data.resolution,
                                       (int)encoders_sizes(s->encoders)->picture_side);
    if (mask.grey)
        grey_image_free(&mask);
    image_free(&own);
    return e;
}

/* The encoder gets the words of the prompt that the phrase matches: "bull-dog" for "dog". */
static err encode_phrases(batch_source *s, const sample *m, int64_t i)
{
    batch *b = &s->batch;
    arena memory = {0};
    const char **phrase = ARENA_ARRAY(&memory, const char *, m->subjects);
    phrase_match *match = ARENA_ARRAY(&memory, phrase_match, m->subjects);
    for (int j = 0; j < m->subjects; j++)
        phrase[j] = m->subject[j].phrase;
    err e = phrase_find(match, &memory, encoders_tokenizer(s->encoders), m->text, phrase, m->subjects);
    for (int j = 0; j < m->subjects && e == OK; j++)
        e = encode_phrase(b->phrases + (i * b->S + j) * b->E, s->encoders, match[j].words);
    arena_free(&memory);
    return e;
}

static err encode_subject(batch_source *s, const sample *m, const subject *u, const image *target, const target_frame *frame,
                          int64_t i, int64_t j)
{
    batch *b = &s->batch;
    int64_t at = i * b->S + j, tokens = b->L * b->D;
    target_box(b->boxes + 4 * at, in_pixels(u->box, m->units, target), frame);
    if (s->drops[i].image) {
        memcpy(b->image_hidden + at * tokens, s->mean_colour, (size_t)tokens * sizeof(float));
        return OK;
    }
    TRY(prepare_reference(s, m, u, target));
    return encode_picture(b->image_hidden + at * tokens, s->encoders, s->pixels);
}

static err encode_sample(batch_source *s, const sample *m, int64_t i, draw_key draw)
{
    image picture;
    TRY(image_load(&picture, m->image, NULL));
    target_frame frame = target_frame_center(picture.width, picture.height, (int)s->config->data.resolution);
    err e = encode_target(s, m, &picture, &frame, i, draw);
    if (e == OK)
        e = encode_text(s, m, i);
    if (e == OK)
        e = encode_phrases(s, m, i);
    for (int j = 0; j < m->subjects && e == OK; j++)
        e = encode_subject(s, m, &m->subject[j], &picture, &frame, i, j);
    image_free(&picture);
    return e;
}

/* ---- a batch ---- */

static void clear_subjects(batch *b)
{
    int64_t R = b->B * b->S;
    memset(b->image_hidden, 0, (size_t)(R * b->L * b->D) * sizeof(float));
    memset(b->phrases, 0, (size_t)(R * b->E) * sizeof(float));
    memset(b->boxes, 0, (size_t)(R * 4) * sizeof(float));
}

err batch_source_make(batch_source *s, int64_t step, int64_t micro)
{
    const run_config *c = s->config;
    uint64_t seed = (uint64_t)c->train.seed;
    batch *b = &s->batch;
    int64_t first = micro * b->B, per_step = b->B * c->train.accumulation;
    int64_t low = c->train.timesteps[0], high = c->train.timesteps[1] ? c->train.timesteps[1] : s->timesteps;
    b->S = 0;
    for (int64_t i = 0; i < b->B; i++) {
        s->chosen[i] = &s->dataset->sample[sample_order_at(&s->order, (step - 1) * per_step + first + i)];
        b->S = s->chosen[i]->subjects > b->S ? s->chosen[i]->subjects : b->S;
    }
    clear_subjects(b);
    for (int64_t i = 0; i < b->B; i++) {
        draw_key draw = {.seed = seed, .step = (uint64_t)step, .sample = (uint64_t)(first + i)};
        s->drops[i] = draw_drops(seed, step, first + i, c->data.drop);
        b->drop_grounding[i] = s->drops[i].grounding;
        b->timesteps[i] = (float)(low + draw_timestep(seed, step, first + i, high - low));
        TRY(of_sample(s, s->chosen[i], encode_sample(s, s->chosen[i], i, draw)));
    }
    return OK;
}

/* ---- dumps ---- */

typedef struct dumped {
    const char  *name;
    const float *values;
    int          ndim;
    int64_t      dim[4];
} dumped;

static float *nchw(const float *nhwc, const batch *b)
{
    int64_t plane = b->h * b->w;
    float *to = floats(b->B * b->C * plane);
    for (int64_t i = 0; i < b->B; i++)
        for (int64_t c = 0; c < b->C; c++)
            for (int64_t k = 0; k < plane; k++)
                to[(i * b->C + c) * plane + k] = nhwc[(i * plane + k) * b->C + c];
    return to;
}

static err write_dump(const char *path, const dumped *item, int count)
{
    safetensors_writer *w = NULL;
    TRY(safetensors_create(&w, path));
    for (int i = 0; i < count; i++)
        safetensors_declare(w, item[i].name, STORED_F32, item[i].ndim, item[i].dim);
    for (int i = 0; i < count; i++) {
        err e = safetensors_write_f32(w, item[i].values);
        if (e != OK) {
            safetensors_discard(w);
            return e;
        }
    }
    return safetensors_publish(w);
}

err batch_source_dump(const batch_source *s, const char *folder, int64_t step, int64_t micro)
{
    const batch *b = &s->batch;
    float *latents = nchw(b->latents, b), *noise = nchw(b->noise, b), *drop = floats(b->B);
    for (int64_t i = 0; i < b->B; i++)
        drop[i] = (float)b->drop_grounding[i];
    const dumped item[] = {
        {"latents", latents, 4, {b->B, b->C, b->h, b->w}},
        {"noise", noise, 4, {b->B, b->C, b->h, b->w}},
        {"timesteps", b->timesteps, 1, {b->B}},
        {"encoder_hidden_states", b->text, 3, {b->B, b->T, b->X}},
        {"text_embeds", b->pooled, 2, {b->B, b->P}},
        {"time_ids", b->time_ids, 2, {b->B, 6}},
        {"image_hidden", b->image_hidden, 4, {b->B, b->S, b->L, b->D}},
        {"phrase_embeds", b->phrases, 3, {b->B, b->S, b->E}},
        {"boxes", b->boxes, 3, {b->B, b->S, 4}},
        {"drop_grounding_tokens", drop, 1, {b->B}},
    };
    char name[64];
    snprintf(name, sizeof name, "step-%06" PRId64 "-%" PRId64 ".safetensors", step, micro);
    char *path = path_join(folder, name);
    err e = write_dump(path, item, sizeof item / sizeof *item);
    free(path);
    free(latents);
    free(noise);
    free(drop);
    return e;
}
