#include "train/sample_keys.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "data/component_hash.h"
#include "data/weights.h"
#include "train/parameters.h"
#include "train/sample_source.h"

/* Part of every key: to be raised when the arithmetic before the encoders (preprocessing) changes. */
static const int32_t KEY_VERSION = 1;

static hash_state *begin(cache_kind kind, const cache_origin *o)
{
    const char *name = cache_kind_name(kind), *type = stored_type_name(o->type);
    hash_state *h = hash_start();
    hash_add(h, &KEY_VERSION, sizeof KEY_VERSION);
    hash_add(h, name, strlen(name) + 1);
    hash_add(h, type, strlen(type) + 1);
    return h;
}

static void add_text(hash_state *h, const char *text)
{
    hash_add(h, text, strlen(text) + 1);
}

static void prompt_keys(cache_key *prompt, cache_key *pooled, const char *text, const cache_origin *o)
{
    cache_key *key[2] = {prompt, pooled};
    for (int i = 0; i < 2; i++) {
        hash_state *h = begin(i ? CACHE_POOLED : CACHE_PROMPT, o);
        add_text(h, o->encoder[CACHE_TEXT_ENCODER]);
        add_text(h, o->encoder[CACHE_TEXT_ENCODER_2]);
        add_text(h, text);
        hash_end(key[i]->hex, h);
    }
}

static void phrase_key(cache_key *out, const char *words, const cache_origin *o)
{
    hash_state *h = begin(CACHE_PHRASE, o);
    add_text(h, o->encoder[CACHE_TEXT_ENCODER]);
    add_text(h, words);
    hash_end(out->hex, h);
}

static void latent_key(cache_key *out, const char *content, const target_frame *f, const cache_origin *o)
{
    const int32_t place[] = {f->original_width, f->original_height, f->width, f->height, f->left, f->top, f->crop_width,
                             f->crop_height};
    hash_state *h = begin(CACHE_LATENT, o);
    add_text(h, o->encoder[CACHE_VAE]);
    add_text(h, content);
    hash_add(h, place, sizeof place);
    hash_end(out->hex, h);
}

static void picture_key(cache_key *out, const char *content, const char *mask, const box *crop, int64_t resolution,
                        const cache_origin *o)
{
    const double place[] = {crop->x0, crop->y0, crop->x1, crop->y1};
    hash_state *h = begin(CACHE_PICTURE, o);
    add_text(h, o->encoder[CACHE_IMAGE_ENCODER]);
    add_text(h, content);
    add_text(h, mask);
    hash_add(h, place, sizeof place);
    hash_add(h, &resolution, sizeof resolution);
    hash_end(out->hex, h);
}

void sample_keys_mean_colour(cache_key *out, const cache_origin *o)
{
    picture_key(out, "mean colour", "", &(box){0}, 0, o);
}

void sample_keys_empty(cache_key *prompt, cache_key *pooled, const cache_origin *o)
{
    prompt_keys(prompt, pooled, "", o);
}

err sample_keys_make(sample_keys *out, arena *memory, const sample_view *v, const run_config *c, const cache_origin *o,
                     file_stamps *stamps)
{
    char target[65], content[65], mask[65];
    *out = (sample_keys){.phrase = ARENA_ARRAY(memory, cache_key, v->subjects + 1),
                         .picture = ARENA_ARRAY(memory, cache_key, v->subjects + 1)};
    TRY(file_stamps_hash(target, stamps, v->image));
    latent_key(&out->latent, target, &v->frame, o);
    prompt_keys(&out->prompt, &out->pooled, v->text, o);
    for (int j = 0; j < v->subjects; j++) {
        const subject_view *u = &v->subject[j];
        memcpy(content, target, sizeof content);
        mask[0] = 0;
        if (!u->own)
            TRY(file_stamps_hash(content, stamps, u->picture));
        if (u->mask)
            TRY(file_stamps_hash(mask, stamps, u->mask));
        phrase_key(&out->phrase[j], u->words, o);
        picture_key(&out->picture[j], content, mask, &u->crop, c->data.resolution, o);
    }
    return OK;
}

/* ---- what made them ---- */

static err encoder_hash(char hex[65], const char *folder, const char *component, const char *words, file_stamps *stamps)
{
    hex[0] = 0;
    char *place = path_join(folder, component ? component : "");
    bool there = folder_exists(place);
    free(place);
    return there ? component_hash(hex, stamps, folder, component, words) : OK;
}

err sample_keys_origin(cache_origin *out, const run_config *c, file_stamps *stamps)
{
    *out = (cache_origin){.type = sample_source_type(c), .computed = parameters_type(c) == DT_BF16 ? STORED_BF16 : STORED_F32};
    TRY(encoder_hash(out->encoder[CACHE_VAE], c->model.base, "vae", NULL, stamps));
    TRY(encoder_hash(out->encoder[CACHE_TEXT_ENCODER], c->model.base, "text_encoder", "tokenizer", stamps));
    TRY(encoder_hash(out->encoder[CACHE_TEXT_ENCODER_2], c->model.base, "text_encoder_2", "tokenizer_2", stamps));
    return encoder_hash(out->encoder[CACHE_IMAGE_ENCODER], c->model.image_encoder, NULL, NULL, stamps);
}

void sample_keys_put_sizes(cache_origin *o, const encoder_sizes *z)
{
    o->tokens = z->tokens;
    o->text_width = z->text_width;
    o->pooled_width = z->pooled_width;
    o->phrase_width = z->phrase_width;
    o->picture_side = z->picture_side;
    o->picture_tokens = z->picture_tokens;
    o->picture_width = z->picture_width;
    o->latent_channels = z->latent_channels;
    o->latent_factor = z->latent_factor;
    o->scaling_factor = z->scaling_factor;
}

encoder_sizes sample_keys_sizes(const cache_origin *o)
{
    return (encoder_sizes){.tokens = o->tokens, .text_width = o->text_width, .pooled_width = o->pooled_width,
                           .phrase_width = o->phrase_width, .picture_side = o->picture_side,
                           .picture_tokens = o->picture_tokens, .picture_width = o->picture_width,
                           .latent_channels = o->latent_channels, .latent_factor = o->latent_factor,
                           .scaling_factor = o->scaling_factor};
}

cache_form sample_form(cache_kind kind, const cache_origin *o, const target_frame *frame)
{
    cache_form f = {.kind = kind, .type = o->type, .ndim = 1};
    switch (kind) {
    case CACHE_LATENT:
        return (cache_form){kind, o->type, 4,
                            {2, frame->crop_height / o->latent_factor, frame->crop_width / o->latent_factor, o->latent_channels}};
    case CACHE_PROMPT: return (cache_form){kind, o->type, 2, {o->tokens, o->text_width}};
    case CACHE_PICTURE: return (cache_form){kind, o->type, 2, {o->picture_tokens, o->picture_width}};
    case CACHE_POOLED: f.dim[0] = o->pooled_width; break;
    case CACHE_PHRASE: f.dim[0] = o->phrase_width; break;
    case CACHE_KIND_COUNT: break;
    }
    return f;
}
