#include "train/step.h"

#include <inttypes.h>
#include <math.h>

/* (B,1,1,1) of a per-timestep coefficient, for broadcasting over the latents. */
static tensor *per_sample(ag *g, const char *name, const float *by_timestep, const batch *b)
{
    float *value = ARENA_ARRAY(ag_arena(g), float, b->B);
    for (int64_t i = 0; i < b->B; i++)
        value[i] = by_timestep[(int64_t)b->timesteps[i]];
    return ag_input(g, name, DT_F32, DIMS(b->B, 1, 1, 1), value, DT_F32);
}

static tensor *noisy_latents(ag *g, const noise_schedule *s, const batch *b, tensor *latents, tensor *noise)
{
    return ag_add(g, ag_mul(g, latents, per_sample(g, "sqrt(alpha_bar)", s->signal, b)),
                  ag_mul(g, noise, per_sample(g, "sqrt(1-alpha_bar)", s->noise, b)));
}

/* What the model is to answer: the noise, or v. */
static tensor *target_of(ag *g, const noise_schedule *s, const batch *b, tensor *latents, tensor *noise)
{
    if (s->prediction == PREDICT_EPSILON)
        return noise;
    tensor *share = ag_mul(g, latents, per_sample(g, "sqrt(1-alpha_bar)", s->noise, b));
    return ag_add(g, ag_mul(g, noise, per_sample(g, "sqrt(alpha_bar)", s->signal, b)), ag_scale(g, share, -1.0f));
}

/* The square root of a sample's weight: on both sides of the squared error. */
static tensor *root_weights(ag *g, const step_models *m, const batch *b)
{
    const noise_schedule *s = &m->schedule;
    float *root = ARENA_ARRAY(ag_arena(g), float, b->B);
    for (int64_t i = 0; i < b->B; i++) {
        double signal = (double)s->alpha_bar[(int64_t)b->timesteps[i]], snr = signal / (1 - signal);
        double weight = fmin(snr, m->min_snr) / (s->prediction == PREDICT_V ? snr + 1 : snr);
        root[i] = (float)sqrt(weight);
    }
    return ag_input(g, "sqrt(weight)", DT_F32, DIMS(b->B, 1, 1, 1), root, DT_F32);
}

static tensor *loss_of(ag *g, const step_models *m, const batch *b, tensor *answer, tensor *target)
{
    if (!(m->min_snr > 0))
        return ag_mse(g, answer, target);
    tensor *root = root_weights(g, m, b);
    return ag_mse(g, ag_mul(g, answer, root), ag_mul(g, target, root));
}

/* (B,S*N,X): the subjects' tokens, by the same resampler that generate runs. */
static tensor *subject_tokens(ag *g, const step_models *m, const batch *b)
{
    int64_t R = b->B * b->S;
    int32_t *drop = ARENA_ARRAY(ag_arena(g), int32_t, R);
    for (int64_t r = 0; r < R; r++)
        drop[r] = b->drop_grounding[r / b->S];
    tensor *tokens = resampler_forward(g, &m->adapter->image_proj,
                                       ag_input(g, "image_hidden", DT_F32, DIMS(R, b->L, b->D), b->image_hidden, DT_F32),
                                       ag_input(g, "phrase_embeds", DT_F32, DIMS(R, b->E), b->phrases, DT_F32),
                                       ag_input(g, "boxes", DT_F32, DIMS(R, 4), b->boxes, DT_F32),
                                       ag_input(g, "drop_grounding_tokens", DT_I32, DIMS(R), drop, DT_I32), m->recompute);
    return tokens ? ag_reshape(g, tokens, DIMS(b->B, b->S * tokens->dim[1], tokens->dim[2])) : NULL;
}

static tensor *ask_model(ag *g, const step_models *m, const batch *b, tensor *noisy)
{
    unet_context context;
    unet_inputs  in = {
        .sample = noisy,
        .timestep = ag_input(g, "timestep", DT_F32, DIMS(b->B), b->timesteps, DT_F32),
        .text_embeds = ag_input(g, "text_embeds", DT_F32, DIMS(b->B, b->P), b->pooled, DT_F32),
        .time_ids = ag_input(g, "time_ids", DT_F32, DIMS(b->B, 6), b->time_ids, DT_F32),
    };
    adapter_inputs subjects = {.adapter = m->adapter, .scale = 1.0f};
    if (b->S) {
        subjects.ip_tokens = subject_tokens(g, m, b);
        subjects.boxes = ag_input(g, "boxes", DT_F32, DIMS(b->B, b->S, 4), b->boxes, DT_F32);
    }
    tensor *text = ag_input(g, "encoder_hidden_states", DT_F32, DIMS(b->B, b->T, b->X), b->text, DT_F32);
    if (unet_context_make(&context, g, m->unet, text, b->S ? &subjects : NULL, b->h, b->w) != OK)
        return NULL;
    context.recompute = m->recompute;
    return unet_forward(g, m->unet, &in, &context);
}

static err check_batch(const step_models *m, const batch *b)
{
    for (int64_t i = 0; i < b->B; i++)
        if (!(b->timesteps[i] >= 0 && b->timesteps[i] < (float)m->schedule.count))
            return err_set(E_SHAPE, "timesteps: sample %" PRId64 " has %g, expected 0..%" PRId64, i, (double)b->timesteps[i],
                           m->schedule.count - 1);
    return OK;
}

/* The loss of a batch; *answer is the model's. */
static tensor *forward(tensor **answer, ag *g, const step_models *m, const batch *b)
{
    tensor *noise = ag_input(g, "noise", DT_F32, DIMS(b->B, b->h, b->w, b->C), b->noise, DT_F32);
    tensor *latents = ag_input(g, "latents", DT_F32, DIMS(b->B, b->h, b->w, b->C), b->latents, DT_F32);
    *answer = ask_model(g, m, b, noisy_latents(g, &m->schedule, b, latents, noise));
    return loss_of(g, m, b, *answer, target_of(g, &m->schedule, b, latents, noise));
}

err train_loss(float *loss, ag *g, const step_models *m, const batch *b)
{
    TRY(check_batch(m, b));
    ag_silence(g);
    tensor *answer, *mean = forward(&answer, g, m, b);
    err e = ag_status(g);
    if (e == OK)
        e = tensor_download(loss, DT_F32, mean);
    ag_reset(g);
    return e;
}

err train_step(float *loss, float *noise_pred, ag *g, const step_models *m, const batch *b, int64_t accumulation)
{
    TRY(check_batch(m, b));
    tensor *answer, *mean = forward(&answer, g, m, b);
    tensor *share = accumulation > 1 ? ag_scale(g, mean, 1.0f / (float)accumulation) : mean;
    err e = ag_status(g);
    if (e == OK)
        e = tensor_download(loss, DT_F32, mean);
    if (e == OK && noise_pred)
        e = tensor_download(noise_pred, DT_F32, answer);
    if (e == OK)
        e = ag_backward(g, share);
    ag_reset(g);
    return e;
}
