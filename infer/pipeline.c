#include "infer/pipeline.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/planned.h"
#include "base/progress.h"
#include "data/adapter_file.h"
#include "data/fingerprint.h"
#include "data/hf_folder.h"
#include "infer/conditioning.h"
#include "infer/load_unet.h"
#include "infer/sampler.h"
#include "infer/torch_noise.h"

struct pipeline {
    device          *dev;
    dtype            type;         /* of the UNet and the adapter */
    planned         *steps;        /* of denoising */
    ag              *graph, *kept; /* of one network call; of the contexts, for all steps and pictures of a job */
    logger          *log;
    pipeline_files   files;
    char            *adapter_path; /* the file that files.adapter stands for */
    char             adapter_hash[65];
    const char      *model_name;
    unet_config      config;
    scheduler_config scheduler;
    int64_t          factor;       /* pixels a latent side */
    adapter_file_sizes sizes;      /* of the adapter's file */
    bool             with_adapter;
    bool             loaded;       /* unet and adapter */
    bool             borrowed;     /* they are somebody else's */
    encoders        *encoders;     /* somebody else's, or NULL */
    unet             unet;
    ms_adapter       adapter;
    encoders        *decoder;      /* the VAE, from the first picture on; own */
    conditioning     cond;
    float           *tokens;       /* (S*N, text_width) of the encoded job */
    int64_t          token_count;
    unet_context     context[2];   /* in `kept`: without and with the prompt and the subjects */
    int64_t          context_h, context_w; /* of the latents that they were made for; 0: none */
    arena            memory, words; /* for good; for the encoded job */
};

/* ---- opening ---- */

static const char *last_part(arena *memory, const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    return arena_print(memory, "%.*s", (int)(end - start), path + start);
}

/* The adapter's name and sizes, held against the UNet before anything is loaded. */
static err look_at_adapter(pipeline *p)
{
    adapter_file  *a = NULL;
    const int64_t *channels;
    TRY(adapter_find(&p->adapter_path, p->files.adapter));
    TRY(adapter_file_open(&a, p->adapter_path));
    fingerprint(p->adapter_hash, &a->tensors);
    p->sizes = a->sizes;
    adapter_file_close(a);
    int64_t pairs = adapter_channels(&channels, &p->memory, &p->config);
    if (p->sizes.cross_width != p->config.text_width || p->sizes.pairs != pairs)
        return err_set(E_MODEL,
                       "%s: found %" PRId64 " cross-attentions of width %" PRId64 ", the UNet of %s has %" PRId64
                       " of width %" PRId64 "; give the base model that the adapter was trained with",
                       p->adapter_path, p->sizes.pairs, p->sizes.cross_width, p->files.model, pairs,
                       p->config.text_width);
    return OK;
}

static err read_factor(pipeline *p)
{
    json_t    *config = NULL;
    vae_config parsed;
    TRY(hf_config(&config, p->files.model, "vae"));
    char *where = hf_path(p->files.model, "vae", "config.json");
    err   e = vae_config_parse(&parsed, config, where);
    if (e == OK && parsed.latent_channels != p->config.in_channels)
        e = err_set(E_MODEL, "%s: latent_channels: found %" PRId64 ", the UNet's in_channels is %" PRId64, where,
                    parsed.latent_channels, p->config.in_channels);
    p->factor = e == OK ? vae_factor(&parsed) : 0;
    free(where);
    json_decref(config);
    return e;
}

static err open_configs(pipeline *p)
{
    TRY(load_unet_config(&p->config, p->files.model));
    TRY(scheduler_config_load(&p->scheduler, p->files.model));
    return read_factor(p);
}

static pipeline *pipeline_new(device *dev, const pipeline_files *files, logger *log)
{
    pipeline *p = heap_get(sizeof *p);
    *p = (pipeline){.dev = dev, .type = files->type, .graph = ag_new(dev), .kept = ag_new(dev), .log = log, .files = *files};
    p->model_name = last_part(&p->memory, files->model);
    return p;
}

static err open_steps(pipeline *p)
{
    TRY(planned_open(&p->steps, p->dev));
    planned_log(p->steps, p->log);
    return OK;
}

err pipeline_open(pipeline **out, device *dev, const pipeline_files *files, logger *log)
{
    if (files->adapter && !files->image_encoder)
        return err_set(E_USAGE,
                       "--adapter needs --image-encoder: the folder of the picture encoder it was trained with");
    pipeline *p = pipeline_new(dev, files, log);
    p->with_adapter = files->adapter != NULL;
    err e = open_steps(p);
    if (e == OK)
        e = open_configs(p);
    if (e == OK && files->adapter)
        e = look_at_adapter(p);
    if (e != OK) {
        pipeline_close(p);
        return e;
    }
    *out = p;
    return OK;
}

err pipeline_open_with(pipeline **out, device *dev, const pipeline_files *files, const pipeline_networks *networks, logger *log)
{
    pipeline *p = pipeline_new(dev, files, log);
    const resampler_sizes *z = &networks->adapter->image_proj.sizes;
    p->with_adapter = p->loaded = p->borrowed = true;
    p->unet = *networks->unet;
    p->adapter = *networks->adapter;
    p->encoders = networks->encoders;
    p->sizes.image_width = z->image_width;
    p->sizes.phrase_width = z->phrase_width;
    memcpy(p->adapter_hash, networks->adapter_hash, sizeof p->adapter_hash);
    err e = open_steps(p);
    if (e == OK)
        e = open_configs(p);
    if (e != OK) {
        pipeline_close(p);
        return e;
    }
    *out = p;
    return OK;
}

void pipeline_close(pipeline *p)
{
    if (!p)
        return;
    encoders_close(p->decoder);
    if (p->steps)
        planned_tell(p->steps, p->log);
    planned_close(p->steps);
    ag_free(p->graph);
    ag_free(p->kept);
    if (!p->borrowed) {
        adapter_release(&p->adapter);
        unet_release(&p->unet);
    }
    free(p->adapter_path);
    arena_free(&p->words);
    arena_free(&p->memory);
    free(p);
}

const char *pipeline_adapter_hash(const pipeline *p)
{
    return p->adapter_hash;
}

const char *pipeline_model_name(const pipeline *p)
{
    return p->model_name;
}

static err open_decoder(pipeline *p)
{
    return p->encoders || p->decoder ? OK : encoders_open(&p->decoder, p->dev, p->type, p->files.model, NULL, ENCODE_LATENT);
}

err pipeline_complete(const pipeline *p, job *j)
{
    int64_t factor = p->factor;
    if (!j->width)
        j->width = p->config.sample_width ? p->config.sample_width * factor : 1024;
    if (!j->height)
        j->height = p->config.sample_height ? p->config.sample_height * factor : 1024;
    if (j->width % factor || j->height % factor)
        return err_set(E_USAGE, "width, height: %" PRId64 " x %" PRId64 ": both have to be multiples of %" PRId64
                       ", the VAE's factor", j->width, j->height, factor);
    if (j->steps > p->scheduler.train_timesteps)
        return err_set(E_USAGE,
                       "steps: %" PRId64 " is more than %" PRId64 ", the steps that the model was trained with",
                       j->steps, p->scheduler.train_timesteps);
    if (j->subjects && !p->with_adapter)
        return err_set(E_USAGE, "--subject needs --adapter FILE and --image-encoder DIR");
    if (p->with_adapter && !p->borrowed && !j->subjects)
        log_warning(p->log, "no --subject: the adapter has nothing to do, this is plain SDXL");
    return OK;
}

/* ---- encoding ---- */

err pipeline_encode(pipeline *p, const job *j)
{
    double started = clock_seconds();
    arena_reset(&p->words);
    p->tokens = NULL;
    p->context_h = p->context_w = 0;
    encoders *e = p->encoders;
    unsigned which = ENCODE_TEXT | (j->subjects ? ENCODE_PHRASE | ENCODE_PICTURE : 0);
    if (!e) {
        TRY(encoders_open(&e, p->dev, p->type, p->files.model, p->files.image_encoder, which));
        log_info(p->log, "loaded the encoders in %.1f s", clock_seconds() - started);
    }
    started = clock_seconds();
    err result = j->subjects ? encoders_check_adapter(e, p->sizes.image_width, p->sizes.phrase_width) : OK;
    if (result == OK)
        result = conditioning_encode(&p->cond, &p->words, e, j, p->log);
    if (e != p->encoders)
        encoders_close(e);
    if (result == OK)
        log_info(p->log, "encoded prompt and %d reference%s in %.1f s", j->subjects, j->subjects == 1 ? "" : "s",
                 clock_seconds() - started);
    return result;
}

static err load_networks(pipeline *p)
{
    if (p->loaded)
        return OK;
    double started = clock_seconds();
    load_target to = {.owner = &p->memory, .dev = p->dev, .type = p->type, .forward_only = true};
    TRY(load_unet(&p->unet, &to, p->files.model));
    TRY(unet_lay_out_text(&p->unet));
    if (p->adapter_path)
        TRY(load_adapter(&p->adapter, &to, p->adapter_path, &p->config, false));
    p->loaded = true;
    log_info(p->log, "loaded the UNet%s in %.1f s", p->adapter_path ? " and the adapter" : "",
             clock_seconds() - started);
    return OK;
}

static err check_widths(const pipeline *p)
{
    const conditioning *c = &p->cond;
    if (c->X != p->config.text_width || c->P != p->config.pooled_width)
        return err_set(E_MODEL,
                       "%s: the text encoders give %" PRId64 " and pooled %" PRId64 " channels, the UNet takes %" PRId64
                       " and %" PRId64,
                       p->files.model, c->X, c->P, p->config.text_width, p->config.pooled_width);
    return OK;
}

/* The subjects' tokens, once for all steps and pictures of the job. */
static err make_tokens(pipeline *p, const job *j)
{
    const conditioning *c = &p->cond;
    if (!c->S || p->tokens)
        return OK;
    ag *g = p->graph;
    ag_silence(g); /* the networks may be a trainer's */
    int32_t *drop = ARENA_ARRAY(&p->words, int32_t, c->S);
    for (int64_t i = 0; i < c->S; i++)
        drop[i] = j->drop_grounding;
    tensor *tokens = resampler_forward(
        g, &p->adapter.image_proj, ag_input(g, "image_hidden", DT_F32, DIMS(c->S, c->L, c->D), c->image_hidden, DT_F32),
        ag_input(g, "phrase_embeds", DT_F32, DIMS(c->S, c->E), c->phrases, DT_F32),
        ag_input(g, "boxes", DT_F32, DIMS(c->S, 4), c->boxes, DT_F32),
        ag_input(g, "drop_grounding_tokens", DT_I32, DIMS(c->S), drop, DT_I32), false);
    err e = ag_status(g);
    if (e == OK) {
        p->token_count = tokens->dim[0] * tokens->dim[1];
        p->tokens = ARENA_ARRAY(&p->words, float, tensor_count(tokens));
        e = tensor_download(p->tokens, DT_F32, tokens);
    }
    ag_reset(g);
    return e;
}

/* ---- denoising ---- */

typedef struct grid {
    int64_t h, w, C, width, height; /* of latents and picture */
} grid;

/* What the UNet's cross-attentions read of the prompt (with the subjects) or of the negative prompt (without). */
static err make_context(pipeline *p, const job *j, grid s, bool conditional)
{
    ag *g = p->kept;
    const conditioning *c = &p->cond;
    adapter_inputs subjects = {.adapter = &p->adapter, .scale = (float)j->scale};
    bool with_subjects = conditional && c->S;
    if (with_subjects) {
        subjects.ip_tokens = ag_input(g, "ip_tokens", DT_F32, DIMS(1, p->token_count, c->X), p->tokens, DT_F32);
        subjects.boxes = ag_input(g, "boxes", DT_F32, DIMS(1, c->S, 4), c->boxes, DT_F32);
        if (c->scales)
            subjects.subject_scales = ag_input(g, "subject_scales", DT_F32, DIMS(c->S), c->scales, DT_F32);
    }
    tensor *text = ag_input(g, "encoder_hidden_states", DT_F32, DIMS(1, c->T, c->X), conditional ? c->text : c->no_text,
                            DT_F32);
    return unet_context_make(&p->context[conditional], g, &p->unet, text, with_subjects ? &subjects : NULL, s.h, s.w);
}

static err make_contexts(pipeline *p, const job *j, grid s)
{
    if (p->context_h == s.h && p->context_w == s.w)
        return OK;
    p->context_h = p->context_w = 0;
    ag_reset(p->kept);
    ag_silence(p->kept);
    TRY(make_context(p, j, s, true));
    if (j->cfg_scale > 1)
        TRY(make_context(p, j, s, false));
    p->context_h = s.h;
    p->context_w = s.w;
    return OK;
}

typedef struct prediction {
    pipeline    *p;
    float       *noise, *other; /* with the prompt; without, or NULL */
    const float *latents;
    float        timestep;
    grid         s;
} prediction;

static err predict_half(float *noise, ag *g, const prediction *a, bool conditional)
{
    pipeline           *p = a->p;
    const conditioning *c = &p->cond;
    grid s = a->s;
    float ids[6] = {(float)s.height, (float)s.width, 0, 0, (float)s.height, (float)s.width};
    unet_inputs in = {
        .sample = ag_input(g, "sample", DT_F32, DIMS(1, s.h, s.w, s.C), a->latents, DT_F32),
        .timestep = ag_input(g, "timestep", DT_F32, DIMS(1), &a->timestep, DT_F32),
        .text_embeds =
            ag_input(g, "text_embeds", DT_F32, DIMS(1, c->P), conditional ? c->pooled : c->no_pooled, DT_F32),
        .time_ids = ag_input(g, "time_ids", DT_F32, DIMS(1, 6), ids, DT_F32),
    };
    tensor *out = unet_forward(g, &p->unet, &in, &p->context[conditional]);
    TRY(ag_status(g));
    return tensor_download(noise, DT_F32, out);
}

static err predict_step(ag *g, void *user)
{
    const prediction *a = user;
    ag_silence(g); /* the networks may be a trainer's */
    TRY(predict_half(a->noise, g, a, true));
    return a->other ? predict_half(a->other, g, a, false) : OK;
}

/* The UNet's answers (h,w,C), in planned memory. */
static err predict(prediction a)
{
    const pipeline *p = a.p;
    const int64_t key[] = {a.s.h, a.s.w, p->cond.T, p->cond.S, p->cond.S ? p->token_count : 0, a.other != NULL};
    return planned_replay(p->steps, key, sizeof key / sizeof *key, predict_step, &a);
}

static err guided(float *noise, float *other, pipeline *p, const job *j, const float *latents, float timestep, grid s)
{
    bool both = j->cfg_scale > 1;
    TRY(predict((prediction){p, noise, both ? other : NULL, latents, timestep, s}));
    if (!both)
        return OK;
    float guidance = (float)j->cfg_scale;
    for (int64_t i = 0; i < s.h * s.w * s.C; i++)
        noise[i] = other[i] + guidance * (noise[i] - other[i]);
    return OK;
}

/* torch draws (1,C,h,w). */
static void start_noise(float *x, uint64_t seed, grid s, float *nchw)
{
    int64_t plane = s.h * s.w;
    torch_generator g;
    torch_generator_seed(&g, seed);
    torch_randn(nchw, (size_t)(plane * s.C), &g);
    for (int64_t c = 0; c < s.C; c++)
        for (int64_t k = 0; k < plane; k++)
            x[k * s.C + c] = nchw[c * plane + k];
}

static err denoise(float *x, pipeline *p, const job *j, sampler *s, grid size, uint64_t seed)
{
    int64_t n = size.h * size.w * size.C;
    float *buffer = heap_get((size_t)(3 * n) * sizeof *buffer), *in = buffer, *noise = buffer + n,
          *other = buffer + 2 * n;
    start_noise(x, seed, size, in);
    sampler_start(s, x);
    int64_t calls = sampler_calls(s);
    progress bar = progress_start(p->log, "generate", "steps", 0, calls);
    err e = OK;
    for (int64_t i = 0; i < calls && e == OK; i++) {
        sampler_input(in, s, x);
        e = guided(noise, other, p, j, in, sampler_timesteps(s)[i], size);
        if (e == OK)
            sampler_step(s, x, noise, NULL);
        progress_update(&bar, i + 1, NULL);
    }
    planned_rest(p->steps); /* the decoder comes next */
    progress_end(&bar);
    free(buffer);
    for (int64_t k = 0; k < n && e == OK; k++)
        if (!isfinite(x[k]))
            e = err_set(E_NUMERIC,
                        "the latents are not finite after %" PRId64 " steps; is the model damaged, or --cfg-scale too "
                        "large?",
                        j->steps);
    return e;
}

/* ---- the picture ---- */

/* As diffusers: (x / 2 + 0.5) clamped to 0..1, times 255, rounded to even. */
static void to_bytes(uint8_t *rgb, const float *x, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        float v = x[i] / 2 + 0.5f;
        v = v < 0 ? 0 : v > 1 ? 1 : v;
        rgb[i] = (uint8_t)rintf(v * 255.0f);
    }
}

static err decode(image *out, pipeline *p, const float *latents, grid s)
{
    double started = clock_seconds();
    int64_t count = s.width * s.height * 3;
    TRY(open_decoder(p));
    float *x = heap_get((size_t)count * sizeof *x);
    err e = decode_latent(x, p->encoders ? p->encoders : p->decoder, latents, s.h, s.w);
    if (e == OK)
        e = image_new(out, (int)s.width, (int)s.height);
    if (e == OK) {
        to_bytes(out->rgb, x, count);
        log_info(p->log, "decoded in %.1f s", clock_seconds() - started);
    }
    free(x);
    return e;
}

err pipeline_draw(image *out, pipeline *p, const job *j, uint64_t seed)
{
    grid s = {.h = j->height / p->factor, .w = j->width / p->factor, .C = p->config.in_channels, .width = j->width,
              .height = j->height};
    sampler *steps = NULL;
    TRY(load_networks(p));
    TRY(check_widths(p));
    TRY(make_tokens(p, j));
    TRY(make_contexts(p, j, s));
    TRY(sampler_open(&steps, j->sampling_method, j->scheduler, &p->scheduler, j->steps, s.h * s.w * s.C));
    float *x = heap_get((size_t)(s.h * s.w * s.C) * sizeof *x);
    err e = denoise(x, p, j, steps, s, seed);
    if (e == OK)
        e = decode(out, p, x, s);
    free(x);
    sampler_close(steps);
    return e;
}
