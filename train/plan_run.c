#include "train/plan_run.h"

#include "data/cache.h"
#include "infer/load_unet.h"
#include "train/parameters.h"
#include "train/sample_keys.h"
#include "train/sample_view.h"

static err open_adapter(benchmark *b, const load_target *to)
{
    const run_config    *c = b->options->config;
    const encoder_sizes *z = &b->sizes;
    resampler_sizes sizes = {
        .dim = c->adapter.dim, .depth = c->adapter.depth, .heads = c->adapter.heads, .queries = c->adapter.queries,
        .image_width = z->picture_width, .phrase_width = z->phrase_width, .hidden_width = 4 * c->adapter.dim,
        .out_width = b->unet.config.text_width,
    };
    if (!c->model.adapter)
        return adapter_new(&b->adapter, &b->memory, b->dev, &sizes, &b->unet, (uint64_t)c->train.seed);
    TRY(load_adapter(&b->adapter, to, c->model.adapter, &b->unet.config, true));
    const resampler_sizes *s = &b->adapter.image_proj.sizes;
    return encoder_sizes_check_adapter(z, s->image_width, s->phrase_width);
}

static void make_batch(benchmark *b)
{
    const run_config    *c = b->options->config;
    const encoder_sizes *z = &b->sizes;
    arena  *a = &b->memory;
    int64_t B = c->train.batch_size, S = c->data.max_subjects, h, w;
    bucket_size most = sample_view_largest(c);
    h = most.height / z->latent_factor;
    w = most.width / z->latent_factor;
    batch  *t = &b->batch;
    *t = (batch){.B = B, .S = S, .h = h, .w = w, .C = z->latent_channels, .T = z->tokens, .X = z->text_width,
                 .P = z->pooled_width, .L = z->picture_tokens, .D = z->picture_width, .E = z->phrase_width};
    t->latents = ARENA_ARRAY(a, float, B * h * w * t->C);
    t->noise = ARENA_ARRAY(a, float, B * h * w * t->C);
    t->timesteps = ARENA_ARRAY(a, float, B);
    t->text = ARENA_ARRAY(a, float, B * t->T * t->X);
    t->pooled = ARENA_ARRAY(a, float, B * t->P);
    t->time_ids = ARENA_ARRAY(a, float, B * 6);
    t->image_hidden = ARENA_ARRAY(a, float, B * S * t->L * t->D);
    t->phrases = ARENA_ARRAY(a, float, B * S * t->E);
    t->boxes = ARENA_ARRAY(a, float, B * S * 4);
    t->drop_grounding = ARENA_ARRAY(a, int32_t, B);
}

/* The sizes of what is trained on, from a cache that is there; else from the encoders, which a run with a cache gives back
 * before it begins. */
static err open_encoders(benchmark *b)
{
    const run_config *c = b->options->config;
    cache            *store = NULL;
    if (c->data.cache && cache_open(&store, c->data.cache) == OK) {
        b->sizes = sample_keys_sizes(cache_get_origin(store));
        cache_close(store);
        if (b->sizes.picture_tokens && b->sizes.tokens)
            return OK;
    }
    TRY(encoders_open(&b->encoders, b->dev, parameters_type(c), c->model.base, c->model.image_encoder,
                      ENCODE_TEXT | ENCODE_PHRASE | ENCODE_PICTURE | ENCODE_LATENT));
    b->sizes = *encoders_sizes(b->encoders);
    if (c->data.cache) {
        encoders_close(b->encoders);
        b->encoders = NULL;
    }
    return OK;
}

static err open_run(benchmark *b)
{
    const run_config *c = b->options->config;
    load_target       to = {.owner = &b->memory, .dev = b->dev, .type = parameters_type(c)};
    scheduler_config  scheduler;
    parameters        list;
    TRY(scheduler_config_load(&scheduler, c->model.base));
    TRY(open_encoders(b));
    TRY(load_unet(&b->unet, &to, c->model.base));
    TRY(open_adapter(b, &to));
    b->models = (step_models){.unet = &b->unet, .adapter = &b->adapter, .min_snr = c->train.min_snr,
                              .recompute = c->train.activation_checkpointing == RECOMPUTE_ON};
    noise_schedule_make(&b->models.schedule, &b->memory, &scheduler);
    make_batch(b);
    parameters_list(&list, &b->memory, &b->adapter, c);
    TRY(benchmark_copy_adapter(b, &list));
    adamw how = parameters_adamw(c);
    how.passing = c->train.accumulation == 1 && b->options->ranks <= 1;
    TRY(optimizer_new(&b->optimizer, &b->memory, b->dev, list.trained, list.trained_count, how));
    if (!(c->train.ema > 0))
        return OK;
    return average_new(&b->average, &b->memory, b->dev, b->optimizer->param, b->optimizer->count, c->train.ema);
}

static err encode_subject(benchmark *b, const float *pixels, int64_t row)
{
    const batch *t = &b->batch;
    TRY(encode_picture(t->image_hidden + row * t->L * t->D, b->encoders, pixels));
    return encode_phrase(t->phrases + row * t->E, b->encoders, "a subject");
}

/* As a run without cache encodes: one sample at a time. */
static err encode_batch(benchmark *b)
{
    const encoder_sizes *z = encoders_sizes(b->encoders);
    const batch *t = &b->batch;
    bucket_size size = sample_view_largest(b->options->config);
    int64_t latent = t->h * t->w * t->C;
    float  *picture = ARENA_ARRAY(&b->memory, float, 3 * (int64_t)size.width * size.height);
    float  *pixels = ARENA_ARRAY(&b->memory, float, 3 * z->picture_side * z->picture_side);
    float  *mean = ARENA_ARRAY(&b->memory, float, latent), *deviation = ARENA_ARRAY(&b->memory, float, latent);
    for (int64_t i = 0; i < t->B; i++) {
        size_t cut;
        TRY(encode_prompt(t->text + i * t->T * t->X, t->pooled + i * t->P, &cut, b->encoders, "a prompt"));
        TRY(encode_latent(mean, deviation, b->encoders, picture, size.height, size.width));
        for (int64_t s = 0; s < t->S; s++)
            TRY(encode_subject(b, pixels, i * t->S + s));
    }
    return OK;
}

static err update(benchmark *b)
{
    double length;
    TRY(optimizer_norm(&length, b->optimizer));
    TRY(optimizer_update(b->optimizer, length, b->options->config->train.max_grad_norm, 1e-4));
    return b->average ? average_update(b->average) : OK;
}

static err accumulate(benchmark *b, ag *g)
{
    float   loss;
    int64_t parts = b->options->config->train.accumulation;
    for (int64_t micro = 0; micro < parts; micro++) {
        if (b->encoders)
            TRY(encode_batch(b));
        if (b->whole && micro == parts - 1)
            ag_watch(g, b->whole, b->whole_user);
        optimizer_expect(b->optimizer, g);
        err e = train_step(&loss, NULL, g, &b->models, &b->batch, parts);
        optimizer_take(b->optimizer);
        TRY(e);
    }
    return OK;
}

static err run_run(benchmark *b, ag *g)
{
    optimizer_begin(b->optimizer);
    err e = accumulate(b, g);
    if (e == OK)
        e = update(b);
    optimizer_drop(b->optimizer);
    return e;
}

const benchmark_part plan_run[] = {
    {"training step", " run ", open_run, run_run, .times = 0},
    {0},
};
