#include "infer/noise_schedule.h"

#include <math.h>
#include <string.h>

#include "base/json.h"
#include "data/hf_folder.h"

static const scheduler_config sdxl = {
    .train_timesteps = 1000, .beta_start = 0.00085, .beta_end = 0.012, .betas = BETA_SCALED_LINEAR,
    .spacing = SPACING_LEADING, .steps_offset = 1,
};
/* What diffusers' EulerDiscreteScheduler takes for keys that a file lacks. */
static const scheduler_config absent = {
    .train_timesteps = 1000, .beta_start = 0.0001, .beta_end = 0.02, .betas = BETA_LINEAR,
    .spacing = SPACING_LINSPACE, .steps_offset = 0,
};

static const char *const where = "scheduler/scheduler_config.json";

static err choice(int *out, const json_t *config, const char *key, const char *const *names, int count)
{
    if (!json_get_present(config, key))
        return OK;
    const char *text = NULL;
    TRY(err_as(json_get_text(&text, config, key, where), E_MODEL));
    for (int i = 0; i < count; i++) {
        if (!strcmp(text, names[i])) {
            *out = i;
            return OK;
        }
    }
    arena memory = {0};
    const char *list = names[0];
    for (int i = 1; i < count; i++)
        list = arena_print(&memory, "%s, %s", list, names[i]);
    err e = err_set(E_MODEL, "%s: %s: found \"%s\", this version supports: %s", where, key, text, list);
    arena_free(&memory);
    return e;
}

/* Keys of diffusers' schedulers that would change the result and are not computed here; false and null are fine. */
static err refuse_variants(const json_t *config)
{
    static const char *const keys[] = {"use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas",
                                       "rescale_betas_zero_snr", "trained_betas"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *value = json_object_get(config, keys[i]);
        char          text[96];
        if (json_get_present(config, keys[i]) && !json_is_false(value))
            return err_set(E_MODEL, "%s: %s: found %s, this version supports false or null", where, keys[i],
                           json_text_describe(text, value));
    }
    return OK;
}

static err parse(scheduler_config *out, const json_t *config)
{
    static const char *const betas[] = {"scaled_linear", "linear"};
    static const char *const spacings[] = {"leading", "trailing", "linspace"};
    static const char *const predictions[] = {"epsilon", "v_prediction"};
    static const char *const interpolations[] = {"linear"};
    static const char *const types[] = {"discrete"};
    static const char *const finals[] = {"zero"};
    *out = absent;
    int beta = (int)out->betas, spacing = (int)out->spacing, prediction = 0, interpolation = 0, type = 0, final = 0;
    TRY(choice(&beta, config, "beta_schedule", betas, 2));
    TRY(choice(&spacing, config, "timestep_spacing", spacings, 3));
    TRY(choice(&prediction, config, "prediction_type", predictions, 2));
    TRY(choice(&interpolation, config, "interpolation_type", interpolations, 1));
    TRY(choice(&type, config, "timestep_type", types, 1));
    TRY(choice(&final, config, "final_sigmas_type", finals, 1));
    TRY(refuse_variants(config));
    out->betas = (beta_schedule)beta;
    out->spacing = (timestep_spacing)spacing;
    out->prediction = (prediction_kind)prediction;
    if (json_get_present(config, "num_train_timesteps"))
        TRY(err_as(json_get_int(&out->train_timesteps, config, "num_train_timesteps", where, 2, 100000), E_MODEL));
    if (json_get_present(config, "steps_offset"))
        TRY(err_as(json_get_int(&out->steps_offset, config, "steps_offset", where, 0, 1000), E_MODEL));
    if (json_get_present(config, "beta_start"))
        TRY(err_as(json_get_number(&out->beta_start, config, "beta_start", where), E_MODEL));
    if (json_get_present(config, "beta_end"))
        TRY(err_as(json_get_number(&out->beta_end, config, "beta_end", where), E_MODEL));
    if (!(out->beta_start > 0 && out->beta_start <= out->beta_end && out->beta_end < 1))
        return err_set(E_MODEL, "%s: beta_start, beta_end: found %g, %g, expected 0 < start <= end < 1", where,
                       out->beta_start, out->beta_end);
    return OK;
}

err scheduler_config_load(scheduler_config *out, const char *model)
{
    *out = sdxl;
    if (!model)
        return OK;
    json_t *config = NULL;
    TRY(err_as(hf_json(&config, model, "scheduler", "scheduler_config.json", true), E_MODEL));
    if (!config)
        return OK;
    err e = parse(out, config);
    json_decref(config);
    return e;
}

/* torch.linspace in f32: from both ends, with fused multiply-add; to the bit. */
static float linspace(float start, float end, int64_t count, int64_t i)
{
    float step = (end - start) / (float)(count - 1);
    return i < count / 2 ? fmaf(step, (float)i, start) : fmaf(-step, (float)(count - 1 - i), end);
}

static float beta_at(const scheduler_config *c, int64_t i)
{
    if (c->betas == BETA_LINEAR)
        return linspace((float)c->beta_start, (float)c->beta_end, c->train_timesteps, i);
    float root = linspace((float)sqrt(c->beta_start), (float)sqrt(c->beta_end), c->train_timesteps, i);
    return root * root;
}

void noise_schedule_make(noise_schedule *out, arena *owner, const scheduler_config *c)
{
    int64_t n = c->train_timesteps;
    *out = (noise_schedule){.count = n, .prediction = c->prediction,
                            .alpha_bar = ARENA_ARRAY(owner, float, n),
                            .signal = ARENA_ARRAY(owner, float, n),
                            .noise = ARENA_ARRAY(owner, float, n)};
    double product = 1;
    for (int64_t i = 0; i < n; i++) {
        product *= (double)(1.0f - beta_at(c, i));
        out->alpha_bar[i] = (float)product;
        out->signal[i] = sqrtf(out->alpha_bar[i]);
        out->noise[i] = sqrtf(1.0f - out->alpha_bar[i]);
    }
}
