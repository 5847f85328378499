/* Whole networks: one call each, on random inputs. */
#include <string.h>

#include "data/counter.h"
#include "infer/load_unet.h"
#include "infer/random_networks.h"
#include "train/benchmark.h"
#include "train/parameters.h"

enum { TOKENS = 77, SUBJECTS = 2, QUERIES = 16, PHRASE_WIDTH = 768 /* CLIP-L */ };

static load_target target(benchmark *b)
{
    return (load_target){.owner = &b->memory, .dev = b->dev, .type = b->options->type, .forward_only = true};
}

/* ---- the UNet ---- */

static err load_any_unet(benchmark *b, bool trains)
{
    load_target to = target(b);
    to.forward_only = !trains;
    return b->options->model ? load_unet(&b->unet, &to, b->options->model)
                             : random_unet(&b->unet, &to, b->options->random);
}

static err open_unet_of(benchmark *b, int64_t samples)
{
    TRY(load_any_unet(b, false));
    const unet_config *c = &b->unet.config;
    int64_t            side = b->options->size / 8;
    TRY(benchmark_input(b, "sample", DIMS(samples, side, side, c->in_channels)));
    TRY(benchmark_input(b, "timestep", DIMS(samples)));
    TRY(benchmark_input(b, "encoder_hidden_states", DIMS(samples, TOKENS, c->text_width)));
    TRY(benchmark_input(b, "text_embeds", DIMS(samples, c->pooled_width)));
    return benchmark_input(b, "time_ids", DIMS(samples, 6));
}

static err open_unet(benchmark *b)
{
    TRY(open_unet_of(b, 1));
    return unet_lay_out_text(&b->unet);
}

static unet_inputs inputs_of(const benchmark *b)
{
    return (unet_inputs){.sample = b->input[0], .timestep = b->input[1], .text_embeds = b->input[3],
                         .time_ids = b->input[4]};
}

/* One forward and its context, which sampling makes once a picture. */
static err run_unet_with(benchmark *b, ag *g, const adapter_inputs *subjects)
{
    unet_inputs  in = inputs_of(b);
    unet_context context;
    TRY(unet_context_make(&context, g, &b->unet, b->input[2], subjects, in.sample->dim[1], in.sample->dim[2]));
    unet_forward(g, &b->unet, &in, &context);
    return ag_status(g);
}

static err run_unet(benchmark *b, ag *g)
{
    return run_unet_with(b, g, NULL);
}

static err new_adapter(benchmark *b)
{
    resampler_sizes sizes = {.dim = 1280, .depth = 4, .heads = 20, .queries = QUERIES, .image_width = 1664,
                             .phrase_width = PHRASE_WIDTH, .hidden_width = 5120,
                             .out_width = b->unet.config.text_width};
    return adapter_new(&b->adapter, &b->memory, b->dev, &sizes, &b->unet, 0);
}

/* Two overlapping boxes, as one picture's subjects. */
static const float boxes[SUBJECTS * 4] = {0.05f, 0.2f, 0.55f, 0.95f, 0.45f, 0.1f, 0.95f, 0.9f};

static void freeze_visit(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    (void)b, (void)path, (void)kind, (void)ndim, (void)dim;
    (*slot)->needs_grad = false;
}

static err open_guided(benchmark *b)
{
    TRY(open_unet_of(b, 2));
    TRY(new_adapter(b));
    TRY(unet_lay_out_text(&b->unet));
    adapter_walk(&b->adapter, freeze_visit, NULL);
    TRY(benchmark_copy_adapter(b, NULL));
    TRY(benchmark_input(b, "ip_tokens", DIMS(1, SUBJECTS * QUERIES, b->unet.config.text_width)));
    TRY(benchmark_input(b, "boxes", DIMS(1, SUBJECTS, 4)));
    return tensor_upload(b->input[6], boxes, DT_F32);
}

static err run_guided(benchmark *b, ag *g)
{
    const ms_adapter *adapter = b->running.pair ? &b->running : &b->adapter;
    adapter_inputs subjects = {.adapter = adapter, .ip_tokens = b->input[5], .boxes = b->input[6], .scale = 0.6f};
    return run_unet_with(b, g, &subjects);
}

/* ---- the VAE, the picture encoder ---- */

static err open_vae(benchmark *b)
{
    load_target to = target(b);
    TRY(b->options->model ? load_vae(&b->vae, &to, b->options->model) : random_vae(&b->vae, &to, b->options->random));
    int64_t side = b->options->size / vae_factor(&b->vae.config);
    return benchmark_input(b, "latent", DIMS(1, side, side, b->vae.config.latent_channels));
}

static err run_vae(benchmark *b, ag *g)
{
    tensor *sample;
    return vae_decode(&sample, g, &b->vae, b->input[0]);
}

static err open_encode(benchmark *b)
{
    load_target to = target(b);
    TRY(b->options->model ? load_vae(&b->vae, &to, b->options->model) : random_vae(&b->vae, &to, b->options->random));
    return benchmark_input(b, "picture", DIMS(1, b->options->size, b->options->size, b->vae.config.in_channels));
}

static err run_encode(benchmark *b, ag *g)
{
    tensor *moments;
    return vae_encode(&moments, g, &b->vae, b->input[0]);
}

static err open_text(benchmark *b, bool second)
{
    load_target to = target(b);
    return b->options->model ? load_text_encoder(&b->text, &to, b->options->model, second)
                             : random_text_encoder(&b->text, &to, b->options->random, second);
}

static err open_text_1(benchmark *b)
{
    return open_text(b, false);
}

static err open_text_2(benchmark *b)
{
    return open_text(b, true);
}

static err run_text(benchmark *b, ag *g)
{
    static const int32_t ids[TOKENS] = {0};
    clip_text_output     out;
    unsigned wanted = CLIP_TEXT_PENULTIMATE | (b->text.projection.w ? CLIP_TEXT_EMBEDS : 0u);
    return clip_text_forward(&out, g, &b->text, ids, 1, TOKENS, wanted);
}

static err open_vision(benchmark *b)
{
    load_target to = target(b);
    const benchmark_options *o = b->options;
    const char *folder = o->image_encoder ? o->image_encoder
                                          : o->model ? arena_print(&b->memory, "%s/image_encoder", o->model) : NULL;
    TRY(folder ? load_image_encoder(&b->vision, &to, folder, true) : random_image_encoder(&b->vision, &to, o->random));
    const clip_vision_config *c = &b->vision.config;
    return benchmark_input(b, "pixel_values", DIMS(1, c->image_size, c->image_size, c->channels));
}

static err run_vision(benchmark *b, ag *g)
{
    clip_vision_output out;
    return clip_vision_forward(&out, g, &b->vision, b->input[0], true);
}

/* ---- training ---- */

static float *numbers(benchmark *b, const char *name, int64_t count)
{
    float *out = ARENA_ARRAY(&b->memory, float, count);
    counter_uniform(out, name, 0, count);
    return out;
}

static void fill_batch(benchmark *b)
{
    const unet_config *c = &b->unet.config;
    int64_t            side = b->options->size / 8, L = 257, D = 1664, B = b->options->batch;
    batch *t = &b->batch;
    *t = (batch){.B = B, .S = SUBJECTS, .h = side, .w = side, .C = c->in_channels, .T = TOKENS, .X = c->text_width,
                 .P = c->pooled_width, .L = L, .D = D, .E = PHRASE_WIDTH};
    t->latents = numbers(b, "latents", B * side * side * t->C);
    t->noise = numbers(b, "noise", B * side * side * t->C);
    t->text = numbers(b, "text", B * TOKENS * t->X);
    t->pooled = numbers(b, "pooled", B * t->P);
    t->time_ids = numbers(b, "time_ids", B * 6);
    t->image_hidden = numbers(b, "image_hidden", B * SUBJECTS * L * D);
    t->phrases = numbers(b, "phrases", B * SUBJECTS * t->E);
    t->boxes = ARENA_ARRAY(&b->memory, float, B * SUBJECTS * 4);
    t->timesteps = ARENA_ARRAY(&b->memory, float, B);
    t->drop_grounding = ARENA_ARRAY(&b->memory, int32_t, B);
    for (int64_t i = 0; i < B; i++) {
        memcpy(t->boxes + i * SUBJECTS * 4, boxes, sizeof boxes);
        t->timesteps[i] = 500.0f;
        t->drop_grounding[i] = 0;
    }
}

static err open_train(benchmark *b)
{
    scheduler_config scheduler;
    parameters       list;
    adamw            how = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .passing = true};
    TRY(load_any_unet(b, true));
    TRY(new_adapter(b));
    TRY(scheduler_config_load(&scheduler, NULL));
    b->models = (step_models){.unet = &b->unet, .adapter = &b->adapter, .recompute = b->options->recompute};
    noise_schedule_make(&b->models.schedule, &b->memory, &scheduler);
    fill_batch(b);
    parameters_list(&list, &b->memory, &b->adapter, NULL);
    TRY(benchmark_copy_adapter(b, &list));
    return optimizer_new(&b->optimizer, &b->memory, b->dev, list.trained, list.trained_count, how);
}

static err run_train(benchmark *b, ag *g)
{
    optimizer_begin(b->optimizer);
    optimizer_expect(b->optimizer, g);
    err e = train_step(&b->loss, NULL, g, &b->models, &b->batch, 1);
    optimizer_take(b->optimizer);
    if (e != OK || (ag_device(g)->dataless && !b->dev->dataless)) /* no update follows */
        optimizer_drop(b->optimizer);
    return e;
}

static err update(benchmark *b)
{
    double length;
    err e = optimizer_norm(&length, b->optimizer);
    if (e == OK)
        e = optimizer_update(b->optimizer, length, 1.0, 1e-4);
    optimizer_drop(b->optimizer);
    return e;
}

const benchmark_part benchmark_networks[] = {
    {"UNet forward, batch 1", " unet ", open_unet, run_unet, .replays = true},
    {"UNet forward with guidance and 2 subjects", " denoise generate ", open_guided, run_guided,
     .times = PART_EACH_STEP, .replays = true},
    {"VAE decode", " vae generate ", open_vae, run_vae, .times = 1},
    {"VAE encode", " encode ", open_encode, run_encode, .times = 0},
    {"text encoder 1, 77 tokens", " text ", open_text_1, run_text, .times = 2 + SUBJECTS}, /* and phrases */
    {"text encoder 2, 77 tokens", " text ", open_text_2, run_text, .times = 2},
    {"image encoder, 1 picture", " vision generate ", open_vision, run_vision, .times = SUBJECTS},
    {"training step, 2 subjects, encoder outputs given", " train ", open_train, run_train, .replays = true,
     .after = update},
    {0},
};
