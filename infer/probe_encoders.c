/* Probe modules of the frozen encoders: text_encoder, text_encoder_2, image_encoder, vae_encode, vae_decode. */
#include "infer/load_encoders.h"
#include "infer/probe.h"

static load_target target(probe *p)
{
    const probe_options *o = probe_given(p);
    return (load_target){.owner = probe_memory(p), .dev = o->dev, .type = o->type, .forward_only = true};
}

/* ---- text ---- */

static const probe_input text_rows[] = {{"input_ids", "B,T", PROBE_IDS, PROBE_REQUIRED}, {0}};

static err encode_ids(probe *p, const clip_text *m, bool second)
{
    int32_t         *ids;
    clip_text_output out;
    unsigned         wanted = CLIP_TEXT_PENULTIMATE | CLIP_TEXT_LAST;
    TRY(probe_i32(&ids, p, "input_ids"));
    TRY(clip_text_forward(&out, probe_graph(p), m, ids, probe_size(p, "B"), probe_size(p, "T"),
                          wanted | (second ? CLIP_TEXT_EMBEDS : CLIP_TEXT_POOLED)));
    TRY(probe_put(p, "hidden_states_penultimate", out.penultimate));
    TRY(probe_put(p, "last_hidden_state", out.last));
    return second ? probe_put(p, "text_embeds", out.embeds) : probe_put(p, "pooler_output", out.pooled);
}

static err run_text(probe *p, bool second)
{
    load_target to = target(p);
    clip_text   m;
    TRY(load_text_encoder(&m, &to, probe_given(p)->model, second));
    err e = encode_ids(p, &m, second);
    clip_text_release(&m);
    return e;
}

static err run_text_encoder(probe *p)
{
    return run_text(p, false);
}

static err run_text_encoder_2(probe *p)
{
    return run_text(p, true);
}

const probe_module probe_module_text_encoder = {"text_encoder", PROBE_MODEL, text_rows, NULL, run_text_encoder};
const probe_module probe_module_text_encoder_2 = {"text_encoder_2", PROBE_MODEL, text_rows, NULL, run_text_encoder_2};

/* ---- pictures ---- */

static const probe_input picture_rows[] = {{"pixel_values", "B,C,H,W", PROBE_IMAGE, PROBE_REQUIRED}, {0}};

static err run_image_encoder(probe *p)
{
    load_target        to = target(p);
    clip_vision        m;
    clip_vision_output out;
    TRY(load_image_encoder(&m, &to, probe_given(p)->image_encoder, true));
    tensor *pixels = probe_tensor(p, "pixel_values");
    err     e = clip_vision_forward(&out, probe_graph(p), &m, pixels, true);
    if (e == OK)
        e = probe_put(p, "hidden_states_penultimate", out.penultimate);
    if (e == OK)
        e = probe_put(p, "image_embeds", out.embeds);
    clip_vision_release(&m);
    return e;
}

const probe_module probe_module_image_encoder = {"image_encoder", PROBE_IMAGE_ENCODER, picture_rows, NULL,
                                                 run_image_encoder};

/* ---- the VAE ---- */

static const probe_input sample_rows[] = {{"sample", "B,C,H,W", PROBE_IMAGE, PROBE_REQUIRED}, {0}};
static const probe_input latent_rows[] = {{"latent", "B,C,h,w", PROBE_IMAGE, PROBE_REQUIRED}, {0}};

static err put_posterior(probe *p, const tensor *moments)
{
    int64_t channels = moments->dim[3] / 2, places = tensor_count(moments) / moments->dim[3];
    int64_t shape[4] = {moments->dim[0], moments->dim[1], moments->dim[2], channels};
    float  *both = ARENA_ARRAY(probe_memory(p), float, 2 * places * channels);
    float  *mean = ARENA_ARRAY(probe_memory(p), float, places * channels);
    float  *logvar = ARENA_ARRAY(probe_memory(p), float, places * channels);
    TRY(tensor_download(both, DT_F32, moments));
    vae_posterior(mean, logvar, both, places, channels);
    TRY(probe_put_image(p, "mean", ag_input(probe_graph(p), "mean", DT_F32, 4, shape, mean, DT_F32)));
    return probe_put_image(p, "logvar", ag_input(probe_graph(p), "logvar", DT_F32, 4, shape, logvar, DT_F32));
}

static err run_vae_encode(probe *p)
{
    load_target to = target(p);
    vae         m;
    tensor     *moments;
    TRY(load_vae(&m, &to, probe_given(p)->model));
    err e = vae_encode(&moments, probe_graph(p), &m, probe_tensor(p, "sample"));
    if (e == OK)
        e = put_posterior(p, moments);
    vae_release(&m);
    return e;
}

static err run_vae_decode(probe *p)
{
    load_target to = target(p);
    vae         m;
    tensor     *sample;
    TRY(load_vae(&m, &to, probe_given(p)->model));
    err e = vae_decode(&sample, probe_graph(p), &m, probe_tensor(p, "latent"));
    if (e == OK)
        e = probe_put_image(p, "sample", sample);
    vae_release(&m);
    return e;
}

const probe_module probe_module_vae_encode = {"vae_encode", PROBE_MODEL, sample_rows, NULL, run_vae_encode};
const probe_module probe_module_vae_decode = {"vae_decode", PROBE_MODEL, latent_rows, NULL, run_vae_decode};
