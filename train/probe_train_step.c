#include "train/probe_train_step.h"

#include "infer/load_unet.h"
#include "train/parameters.h"
#include "train/step.h"

static const probe_input rows[] = {
    {"latents", "B,C,h,w", PROBE_IMAGE, PROBE_REQUIRED},
    {"noise", "B,C,h,w", PROBE_IMAGE, PROBE_REQUIRED},
    {"timesteps", "B", PROBE_IDS, PROBE_REQUIRED},
    {"encoder_hidden_states", "B,T,X", PROBE_PLAIN, PROBE_REQUIRED},
    {"text_embeds", "B,P", PROBE_PLAIN, PROBE_REQUIRED},
    {"time_ids", "B,6", PROBE_F32, PROBE_REQUIRED},
    {"image_hidden", "B,S?,L,D", PROBE_PLAIN, PROBE_REQUIRED},
    {"phrase_embeds", "B,S?,E", PROBE_PLAIN, PROBE_REQUIRED},
    {"boxes", "B,S?,4", PROBE_F32, PROBE_REQUIRED},
    {"drop_grounding_tokens", "B", PROBE_IDS, PROBE_REQUIRED},
    {0},
};

static const char *const settings[] = {"updates", "lr", "weight_decay", "beta1", "beta2", "max_grad_norm", NULL};

/* What --set says; the defaults are those of RUN.yaml. */
typedef struct recipe {
    int64_t updates; /* 0: gradients instead */
    double  lr, max_grad_norm;
    adamw   how;
} recipe;

typedef struct stage {
    probe       *p;
    arena       *memory;
    recipe       recipe;
    unet         unet;
    ms_adapter   adapter, running; /* running: its copy in bf16 */
    parameters   parameters;
    optimizer   *optimizer;
    step_models  models;
    batch        batch;
} stage;

/* ---- settings ---- */

static err positive(double *out, const probe *p, const char *key, double fallback, double below)
{
    TRY(probe_number(out, p, key, fallback));
    if (*out >= 0 && *out < below)
        return OK;
    return err_set(E_USAGE, "--set %s=%s: expected a number from 0 to below %g", key, probe_text(p, key, ""), below);
}

static err read_recipe(recipe *r, const probe *p)
{
    *r = (recipe){.how.eps = 1e-8};
    TRY(probe_whole(&r->updates, p, "updates", 0, 1, 1000000));
    for (int i = 1; settings[i] && !r->updates; i++)
        if (probe_text(p, settings[i], NULL))
            return err_set(E_USAGE, "--set %s=%s: only an update has it; add --set updates=1", settings[i],
                           probe_text(p, settings[i], NULL));
    TRY(positive(&r->lr, p, "lr", 1e-4, 1e6));
    TRY(positive(&r->how.weight_decay, p, "weight_decay", 0.01, 1e6));
    TRY(positive(&r->how.beta1, p, "beta1", 0.9, 1));
    TRY(positive(&r->how.beta2, p, "beta2", 0.999, 1));
    return positive(&r->max_grad_norm, p, "max_grad_norm", 1.0, 1e30);
}

/* ---- inputs ---- */

static err read_whole(float **as_float, int32_t **as_int, probe *p, const char *name, int64_t count)
{
    TRY(probe_i32(as_int, p, name));
    *as_float = ARENA_ARRAY(probe_memory(p), float, count);
    for (int64_t i = 0; i < count; i++)
        (*as_float)[i] = (float)(*as_int)[i];
    return OK;
}

static err read_batch(batch *b, probe *p)
{
    *b = (batch){.B = probe_size(p, "B"), .S = probe_size(p, "S"), .h = probe_size(p, "h"), .w = probe_size(p, "w"),
                 .C = probe_size(p, "C"), .T = probe_size(p, "T"), .X = probe_size(p, "X"), .P = probe_size(p, "P"),
                 .L = probe_size(p, "L"), .D = probe_size(p, "D"), .E = probe_size(p, "E")};
    b->latents = probe_nhwc(p, "latents");
    b->noise = probe_nhwc(p, "noise");
    TRY(probe_f32(&b->text, p, "encoder_hidden_states"));
    TRY(probe_f32(&b->pooled, p, "text_embeds"));
    TRY(probe_f32(&b->time_ids, p, "time_ids"));
    TRY(probe_f32(&b->image_hidden, p, "image_hidden"));
    TRY(probe_f32(&b->phrases, p, "phrase_embeds"));
    TRY(probe_f32(&b->boxes, p, "boxes"));
    int32_t *timesteps;
    float   *drop;
    TRY(read_whole(&b->timesteps, &timesteps, p, "timesteps", b->B));
    return read_whole(&drop, &b->drop_grounding, p, "drop_grounding_tokens", b->B);
}

static err load_models(stage *s)
{
    const probe_options *o = probe_given(s->p);
    load_target          to = {.owner = s->memory, .dev = o->dev, .type = o->type};
    scheduler_config     scheduler;
    TRY(scheduler_config_load(&scheduler, o->model));
    TRY(load_unet(&s->unet, &to, o->model));
    TRY(load_adapter(&s->adapter, &to, o->adapter, &s->unet.config, true));
    bool copied = o->type != DT_F32;
    s->models = (step_models){.unet = &s->unet, .adapter = copied ? &s->running : &s->adapter};
    noise_schedule_make(&s->models.schedule, s->memory, &scheduler);
    parameters_list(&s->parameters, s->memory, &s->adapter, NULL);
    if (copied) {
        TRY(adapter_copy(&s->running, s->memory, o->dev, &s->adapter, o->type));
        parameters_set_copies(&s->parameters, &s->running);
    }
    return optimizer_new(&s->optimizer, s->memory, o->dev, s->parameters.trained, s->parameters.trained_count,
                         s->recipe.how);
}

/* ---- outputs ---- */

static err put_noise(const stage *s, const float *nhwc)
{
    const batch *b = &s->batch;
    int64_t      plane = b->h * b->w;
    float       *out = ARENA_ARRAY(s->memory, float, b->B * b->C * plane);
    for (int64_t i = 0; i < b->B; i++)
        for (int64_t k = 0; k < plane; k++)
            for (int64_t c = 0; c < b->C; c++)
                out[(i * b->C + c) * plane + k] = *nhwc++;
    return probe_put_f32(s->p, "noise_pred", out, DIMS(b->B, b->C, b->h, b->w));
}

static err put_gradient(const stage *s, const parameter *trained)
{
    const tensor *grad = parameter_gradient(trained);
    const char   *name = arena_print(s->memory, "grad.%s", trained->name);
    if (grad)
        return probe_put(s->p, name, grad);
    const float *zeros = ARENA_ARRAY(s->memory, float, tensor_count(trained->t)); /* took no part */
    return probe_put_f32(s->p, name, zeros, trained->t->ndim, trained->t->dim);
}

static err run_gradients(stage *s)
{
    const batch *b = &s->batch;
    float       *noise_pred = ARENA_ARRAY(s->memory, float, b->B * b->h * b->w * b->C), value;
    TRY(train_step(&value, noise_pred, probe_graph(s->p), &s->models, b, 1));
    TRY(probe_put_f32(s->p, "loss", &value, 0, NULL));
    TRY(put_noise(s, noise_pred));
    for (int i = 0; i < s->parameters.trained_count; i++)
        TRY(put_gradient(s, &s->parameters.trained[i]));
    return OK;
}

static err run_updates(stage *s)
{
    const recipe *r = &s->recipe;
    float        *losses = ARENA_ARRAY(s->memory, float, r->updates);
    float        *norms = ARENA_ARRAY(s->memory, float, r->updates);
    for (int64_t i = 0; i < r->updates; i++) {
        double length;
        optimizer_begin(s->optimizer);
        TRY(train_step(&losses[i], NULL, probe_graph(s->p), &s->models, &s->batch, 1));
        TRY(optimizer_norm(&length, s->optimizer));
        TRY(optimizer_update(s->optimizer, length, r->max_grad_norm, r->lr));
        norms[i] = (float)length;
    }
    TRY(probe_put_f32(s->p, "loss", losses, DIMS(r->updates)));
    TRY(probe_put_f32(s->p, "grad_norm", norms, DIMS(r->updates)));
    for (int i = 0; i < s->parameters.trained_count; i++) {
        const parameter *trained = &s->parameters.trained[i];
        TRY(probe_put(s->p, arena_print(s->memory, "param.%s", trained->name), trained->t));
    }
    return OK;
}

static err run(probe *p)
{
    stage s = {.p = p, .memory = probe_memory(p)};
    TRY(read_recipe(&s.recipe, p));
    TRY(read_batch(&s.batch, p));
    err e = load_models(&s);
    if (e == OK)
        e = s.recipe.updates ? run_updates(&s) : run_gradients(&s);
    optimizer_free(s.optimizer);
    adapter_release(&s.running);
    adapter_release(&s.adapter);
    unet_release(&s.unet);
    return e;
}

const probe_module probe_module_train_step = {"train_step", PROBE_MODEL | PROBE_ADAPTER, rows, settings, run};
