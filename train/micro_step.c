#include "train/micro_step.h"

#include <string.h>

#include "base/memory_size.h"
#include "base/text.h"

typedef struct micro_step {
    run    *r;
    int64_t parts;
    double  loss;
} micro_step;

/* As planned.h asks: without data it leaves the gradients' marks as they were. */
static err run_once(ag *g, void *user)
{
    micro_step *s = user;
    run        *r = s->r;
    step_models models = {.unet = &r->unet, .adapter = run_adapter(r), .schedule = r->schedule, .recompute = r->recompute,
                          .min_snr = r->config->train.min_snr};
    if (!ag_device(g)->dataless)
        return train_step(&s->loss, NULL, g, &models, &r->batches.batch, s->parts);
    bool *fresh = ARENA_ARRAY(&r->memory, bool, r->optimizer->count);
    optimizer_marks(fresh, r->optimizer);
    err e = train_step(&s->loss, NULL, g, &models, &r->batches.batch, s->parts);
    optimizer_set_marks(r->optimizer, fresh);
    return e;
}

enum { KEYS = 7 };

static void key_of(int64_t key[KEYS], const run *r, int64_t parts)
{
    const batch *b = &r->batches.batch;
    const int64_t numbers[KEYS] = {b->B, b->S, b->h, b->w, b->T, parts > 1, r->recompute};
    memcpy(key, numbers, sizeof numbers);
}

err micro_step_run(double *loss, run *r, int64_t parts)
{
    int64_t    key[KEYS];
    micro_step s = {.r = r, .parts = parts};
    key_of(key, r, parts);
    TRY(planned_run(r->steps, key, KEYS, run_once, &s));
    *loss = s.loss;
    return OK;
}

/* ---- before the first one ---- */

/* Bytes of the largest micro-batch: all subjects that a sample may have. */
static err foresee(size_t *bytes, run *r)
{
    batch     *b = &r->batches.batch, before = *b;
    int64_t    key[KEYS], parts = r->config->train.accumulation;
    micro_step s = {.r = r, .parts = parts};
    b->S = r->config->data.max_subjects;
    memset(b->timesteps, 0, (size_t)b->B * sizeof *b->timesteps);
    memset(b->drop_grounding, 0, (size_t)b->B * sizeof *b->drop_grounding);
    key_of(key, r, parts);
    err e = planned_foresee(bytes, r->steps, key, KEYS, run_once, &s);
    *b = before;
    return e;
}

static err choose(size_t *bytes, run *r, uint64_t limit)
{
    int how = r->config->train.activation_checkpointing;
    uint64_t taken = r->dev->memory->total;
    r->recompute = how == RECOMPUTE_ON;
    TRY(foresee(bytes, r));
    if (how != RECOMPUTE_AUTO || taken + *bytes <= limit)
        return OK;
    r->recompute = true;
    return foresee(bytes, r);
}

err micro_step_plan(run *r)
{
    const run_config *c = r->config;
    uint64_t taken = r->dev->memory->total, left = memory_available();
    uint64_t limit = c->train.memory ? (uint64_t)c->train.memory : left ? taken + left : UINT64_MAX;
    char     text[3][32];
    size_t   bytes;
    TRY(planned_open(&r->steps, r->dev));
    TRY(choose(&bytes, r, limit));
    log_info(r->log, "memory: %s of weights and state, %s a step%s", text_bytes(text[0], taken), text_bytes(text[1], bytes),
             r->recompute ? " (activation checkpointing)" : "");
    if (taken + bytes <= limit)
        return OK;
    return err_set(E_MEMORY, "the run needs %s, %s; lower train.batch_size, data.resolution or data.max_subjects%s",
                   text_bytes(text[0], taken + bytes),
                   arena_print(&r->memory, c->train.memory ? "train.memory allows %s" : "this machine has %s left for it",
                               text_bytes(text[2], limit)),
                   r->recompute ? "" : ", or set train.activation_checkpointing to auto");
}
