#include "infer/encode.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/planned.h"
#include "base/file.h"
#include "infer/load_encoders.h"

struct encoders {
    device       *dev;
    planned      *steps;
    ag           *graph; /* of the call under way */
    arena         memory;
    unsigned      which;
    encoder_sizes sizes;
    clip_text     text[2];
    tokenizer    *tokenizer[2];
    clip_vision   picture;
    vae           vae;
};

/* ---- opening ---- */

static err open_text(encoders *e, const load_target *to, const char *model, int i)
{
    TRY(load_text_encoder(&e->text[i], to, model, i == 1));
    if (e->text[i].config.positions < TOKENIZER_LENGTH)
        return err_set(E_MODEL, "%s: text encoder %d: max_position_embeddings: found %" PRId64 ", expected at least %d",
                       model, i + 1, e->text[i].config.positions, TOKENIZER_LENGTH);
    char *folder = path_join(model, i ? "tokenizer_2" : "tokenizer");
    err   result = err_as(tokenizer_open(&e->tokenizer[i], folder), E_MODEL);
    free(folder);
    TRY(result);
    int32_t tokens = tokenizer_size(e->tokenizer[i]);
    if (tokens > e->text[i].config.vocabulary)
        return err_set(E_MODEL, "%s: the tokenizer's largest id is %" PRId32 ", but vocab_size of its text encoder is %"
                       PRId64 "; they do not belong together", model, tokens - 1, e->text[i].config.vocabulary);
    return OK;
}

static err open_texts(encoders *e, const load_target *to, const char *model)
{
    TRY(open_text(e, to, model, 0));
    e->sizes.tokens = TOKENIZER_LENGTH;
    e->sizes.phrase_width = e->text[0].config.layers.hidden;
    if (!(e->which & ENCODE_TEXT))
        return OK;
    TRY(open_text(e, to, model, 1));
    e->sizes.text_width = e->sizes.phrase_width + e->text[1].config.layers.hidden;
    e->sizes.pooled_width = e->text[1].config.projection;
    return OK;
}

static err open_picture(encoders *e, const load_target *to, const char *folder)
{
    if (!folder)
        return err_set(E_USAGE, "no image encoder given; name the folder of the CLIP picture encoder (OpenCLIP "
                       "ViT-bigG/14)");
    TRY(load_image_encoder(&e->picture, to, folder, false));
    e->sizes.picture_side = e->picture.config.image_size;
    e->sizes.picture_tokens = e->picture.position_embedding->dim[0];
    e->sizes.picture_width = e->picture.config.layers.hidden;
    return OK;
}

static err open_vae(encoders *e, const load_target *to, const char *model)
{
    TRY(load_vae(&e->vae, to, model));
    e->sizes.latent_channels = e->vae.config.latent_channels;
    e->sizes.latent_factor = vae_factor(&e->vae.config);
    e->sizes.scaling_factor = e->vae.config.scaling_factor;
    if (e->vae.config.in_channels != 3 || e->vae.config.out_channels != 3)
        return err_set(E_MODEL, "%s: vae/config.json: in_channels, out_channels: found %" PRId64 ", %" PRId64
                       ", expected 3 (RGB)", model, e->vae.config.in_channels, e->vae.config.out_channels);
    return OK;
}

err encoders_open(encoders **out, device *dev, dtype type, const char *model, const char *image_encoder, unsigned which)
{
    encoders *e = heap_get(sizeof *e);
    *e = (encoders){.dev = dev, .which = which};
    load_target to = {.owner = &e->memory, .dev = dev, .type = type, .forward_only = true};
    err result = OK;
    TRY_GOTO(result, planned_open(&e->steps, dev), failed);
    if (which & (ENCODE_TEXT | ENCODE_PHRASE))
        TRY_GOTO(result, open_texts(e, &to, model), failed);
    if (which & ENCODE_PICTURE)
        TRY_GOTO(result, open_picture(e, &to, image_encoder), failed);
    if (which & ENCODE_LATENT)
        TRY_GOTO(result, open_vae(e, &to, model), failed);
    *out = e;
    return OK;
failed:
    encoders_close(e);
    *out = NULL;
    return result;
}

void encoders_close(encoders *e)
{
    if (!e)
        return;
    planned_close(e->steps);
    for (int i = 0; i < 2; i++) {
        clip_text_release(&e->text[i]);
        tokenizer_close(e->tokenizer[i]);
    }
    clip_vision_release(&e->picture);
    vae_release(&e->vae);
    arena_free(&e->memory);
    free(e);
}

const tokenizer *encoders_tokenizer(const encoders *e)
{
    return e->tokenizer[0];
}

const encoder_sizes *encoders_sizes(const encoders *e)
{
    return &e->sizes;
}

err encoder_sizes_check_adapter(const encoder_sizes *z, int64_t picture_width, int64_t phrase_width)
{
    if (picture_width && z->picture_width && z->picture_width != picture_width)
        return err_set(E_MODEL, "image encoder: hidden_size: found %" PRId64 ", the adapter's pictures have %" PRId64
                       "; give the image encoder that the adapter was trained with", z->picture_width, picture_width);
    if (phrase_width && z->phrase_width && z->phrase_width != phrase_width)
        return err_set(E_MODEL, "text_encoder/config.json: hidden_size: found %" PRId64 ", the adapter's phrases have %"
                       PRId64 "; give the base model that the adapter was trained with", z->phrase_width, phrase_width);
    return OK;
}

err encoders_check_adapter(const encoders *e, int64_t picture_width, int64_t phrase_width)
{
    if (picture_width && e->which & ENCODE_PICTURE)
        TRY(clip_vision_check_width(&e->picture.config, picture_width, "image encoder: config.json"));
    return encoder_sizes_check_adapter(&e->sizes, picture_width, phrase_width);
}

/* ---- encoding: each call in planned memory, which it leaves again ---- */

/* One call as autograd/planned.h runs it. */
typedef struct encoding {
    encoders   *e;
    const char *text;
    const float *in;
    float      *out, *out2;
    size_t     *cut;
    int64_t     height, width; /* of what goes in */
} encoding;

static err run_encoding(encoders *e, planned_step step, encoding c)
{
    const int64_t key[] = {c.height, c.width, c.cut != NULL};
    c.e = e;
    err result = planned_run(e->steps, key, 3, step, &c);
    planned_rest(e->steps);
    e->graph = NULL;
    return result;
}

static err check_finite(const float *x, int64_t count, const char *what)
{
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(x[i]))
            return err_set(E_NUMERIC, "%s: value %" PRId64 " is %g; the weights or the input are broken, or the type "
                           "overflows: run in f32", what, i, (double)x[i]);
    return OK;
}

/* text -> ids -> encoder i; what is wanted stays in the graph. */
static err run_text(clip_text_output *out, size_t *cut, encoders *e, int i, const char *text, unsigned wanted)
{
    int32_t ids[TOKENIZER_LENGTH];
    TRY(tokenizer_encode_padded(ids, cut, e->tokenizer[i], text, strlen(text)));
    return clip_text_forward(out, e->graph, &e->text[i], ids, 1, TOKENIZER_LENGTH, wanted);
}

/* hidden (T,text_width): columns [at, at + width) from x (1,T,width) */
static err put_columns(float *hidden, encoders *e, const tensor *x, int64_t at)
{
    int64_t width = x->dim[2];
    float  *values = ARENA_ARRAY(ag_arena(e->graph), float, e->sizes.tokens * width);
    TRY(tensor_download(values, DT_F32, x));
    for (int64_t t = 0; t < e->sizes.tokens; t++)
        memcpy(hidden + t * e->sizes.text_width + at, values + t * width, (size_t)width * sizeof *values);
    return OK;
}

static err encode_prompt_in_graph(float *hidden, float *pooled, size_t *cut, encoders *e, const char *text)
{
    clip_text_output first, second;
    TRY(run_text(&first, cut, e, 0, text, CLIP_TEXT_PENULTIMATE));
    TRY(put_columns(hidden, e, first.penultimate, 0));
    TRY(run_text(&second, NULL, e, 1, text, CLIP_TEXT_PENULTIMATE | CLIP_TEXT_EMBEDS));
    TRY(put_columns(hidden, e, second.penultimate, e->sizes.phrase_width));
    return tensor_download(pooled, DT_F32, second.embeds);
}

static err prompt_step(ag *g, void *user)
{
    encoding *c = user;
    c->e->graph = g;
    return encode_prompt_in_graph(c->out, c->out2, c->cut, c->e, c->text);
}

err encode_prompt(float *hidden, float *pooled, size_t *cut, encoders *e, const char *text)
{
    CHECK(e->which & ENCODE_TEXT, "encoders opened without ENCODE_TEXT (%u)", e->which);
    return run_encoding(e, prompt_step, (encoding){.text = text, .out = hidden, .out2 = pooled, .cut = cut});
}

static err phrase_step(ag *g, void *user)
{
    encoding        *c = user;
    clip_text_output out;
    c->e->graph = g;
    TRY(run_text(&out, NULL, c->e, 0, c->text, CLIP_TEXT_POOLED));
    return tensor_download(c->out, DT_F32, out.pooled);
}

err encode_phrase(float *pooled, encoders *e, const char *phrase)
{
    CHECK(e->which & (ENCODE_TEXT | ENCODE_PHRASE), "encoders opened without ENCODE_PHRASE (%u)", e->which);
    return run_encoding(e, phrase_step, (encoding){.text = phrase, .out = pooled});
}

/* (H,W,3) from (3,H,W), as an input of the graph */
static tensor *picture_input(encoders *e, const char *name, const float *picture, int64_t height, int64_t width)
{
    int64_t places = height * width;
    float  *values = malloc((size_t)places * 3 * sizeof *values);
    if (!values) {
        ag_fail(e->graph, err_set(E_MEMORY, "%s: no memory for a picture of %" PRId64 " x %" PRId64, name, width,
                                  height));
        return NULL;
    }
    for (int64_t i = 0; i < places; i++)
        for (int64_t c = 0; c < 3; c++)
            values[i * 3 + c] = picture[c * places + i];
    tensor *x = ag_input(e->graph, name, DT_F32, DIMS(1, height, width, 3), values, DT_F32);
    free(values);
    return x;
}

static err picture_step(ag *g, void *user)
{
    encoding          *c = user;
    clip_vision_output out;
    c->e->graph = g;
    tensor *x = picture_input(c->e, "pixel_values", c->in, c->height, c->width);
    TRY(clip_vision_forward(&out, g, &c->e->picture, x, false));
    return tensor_download(c->out, DT_F32, out.penultimate);
}

err encode_picture(float *hidden, encoders *e, const float *pixel_values)
{
    CHECK(e->which & ENCODE_PICTURE, "encoders opened without ENCODE_PICTURE (%u)", e->which);
    int64_t side = e->sizes.picture_side;
    return run_encoding(e, picture_step, (encoding){.in = pixel_values, .out = hidden, .height = side, .width = side});
}

static err encode_latent_in_graph(float *mean, float *deviation, encoders *e, const float *picture, int64_t height,
                                  int64_t width)
{
    tensor *moments;
    TRY(vae_encode(&moments, e->graph, &e->vae, picture_input(e, "picture", picture, height, width)));
    int64_t channels = e->sizes.latent_channels, places = tensor_count(moments) / (2 * channels);
    float  *values = ARENA_ARRAY(ag_arena(e->graph), float, places * 2 * channels);
    TRY(tensor_download(values, DT_F32, moments));
    TRY(check_finite(values, places * 2 * channels, "VAE encoder"));
    vae_posterior(mean, deviation, values, places, channels);
    for (int64_t i = 0; i < places * channels; i++)
        deviation[i] = expf(0.5f * deviation[i]);
    return OK;
}

static err latent_step(ag *g, void *user)
{
    encoding *c = user;
    c->e->graph = g;
    return encode_latent_in_graph(c->out, c->out2, c->e, c->in, c->height, c->width);
}

err encode_latent(float *mean, float *deviation, encoders *e, const float *picture, int64_t height, int64_t width)
{
    CHECK(e->which & ENCODE_LATENT, "encoders opened without ENCODE_LATENT (%u)", e->which);
    return run_encoding(e, latent_step,
                        (encoding){.in = picture, .out = mean, .out2 = deviation, .height = height, .width = width});
}

static err decode_latent_in_graph(float *picture, encoders *e, const float *latent, int64_t h, int64_t w)
{
    tensor *sample;
    int64_t count = h * w * e->sizes.latent_channels;
    float  *values = ARENA_ARRAY(ag_arena(e->graph), float, count);
    for (int64_t i = 0; i < count; i++)
        values[i] = latent[i] / (float)e->sizes.scaling_factor;
    tensor *x = ag_input(e->graph, "latent", DT_F32, DIMS(1, h, w, e->sizes.latent_channels), values, DT_F32);
    TRY(vae_decode(&sample, e->graph, &e->vae, x));
    TRY(tensor_download(picture, DT_F32, sample));
    return check_finite(picture, tensor_count(sample), "VAE decoder");
}

static err decode_step(ag *g, void *user)
{
    encoding *c = user;
    c->e->graph = g;
    return decode_latent_in_graph(c->out, c->e, c->in, c->height, c->width);
}

err decode_latent(float *picture, encoders *e, const float *latent, int64_t h, int64_t w)
{
    CHECK(e->which & ENCODE_LATENT, "encoders opened without ENCODE_LATENT (%u)", e->which);
    return run_encoding(e, decode_step, (encoding){.in = latent, .out = picture, .height = h, .width = w});
}
