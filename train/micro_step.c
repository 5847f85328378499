#include "train/micro_step.h"

#include <string.h>

#include "base/memory_size.h"
#include "base/text.h"

typedef struct micro_step {
    run    *r;
    int64_t parts;
    bool    sends; /* gradients, as they become whole */
    float   loss;
} micro_step;

static step_models models_of(const run *r)
{
    return (step_models){.unet = &r->unet, .adapter = run_adapter(r), .schedule = r->schedule, .recompute = r->recompute,
                         .min_snr = r->config->train.min_snr};
}

static err pass_over(void *user, tensor *whole)
{
    (void)user, (void)whole;
    return OK;
}

/* As planned.h asks: without data it leaves the gradients' marks as they were, and sends nothing. */
static err run_once(ag *g, void *user)
{
    micro_step *s = user;
    run        *r = s->r;
    step_models models = models_of(r);
    if (s->sends)
        ag_watch(g, ag_device(g)->dataless ? pass_over : reduction_whole, r->reduction);
    optimizer_expect(r->optimizer, g);
    if (!ag_device(g)->dataless) {
        err e = train_step(&s->loss, NULL, g, &models, &r->batches.batch, s->parts);
        optimizer_take(r->optimizer);
        return e;
    }
    bool *fresh = ARENA_ARRAY(&r->memory, bool, r->optimizer->count);
    optimizer_marks(fresh, r->optimizer);
    err e = train_step(&s->loss, NULL, g, &models, &r->batches.batch, s->parts);
    optimizer_set_marks(r->optimizer, fresh);
    optimizer_drop(r->optimizer);
    return e;
}

/* Keys of validation are of another length. */
enum { KEYS = 9 };

static void key_of(int64_t key[KEYS], const micro_step *s)
{
    const batch *b = &s->r->batches.batch;
    const int64_t numbers[KEYS] = {b->B, b->S, b->h, b->w, b->T, s->parts > 1, s->r->recompute, s->sends, 0};
    memcpy(key, numbers, sizeof numbers);
}

err micro_step_run(double *loss, run *r, int64_t parts, bool last)
{
    int64_t    key[KEYS];
    micro_step s = {.r = r, .parts = parts, .sends = last && r->reduction};
    key_of(key, &s);
    /* Gradients are sent as the step's host side finds them whole: it has to run beside the device then. */
    TRY(s.sends ? planned_run(r->steps, key, KEYS, run_once, &s) : planned_replay(r->steps, key, KEYS, run_once, &s));
    *loss = (double)s.loss;
    return OK;
}

/* ---- before the first one ---- */

/* The largest micro-batch: all subjects that a sample may have. */
static void enlarge(batch *b, const run *r)
{
    b->S = r->config->data.max_subjects;
    memset(b->timesteps, 0, (size_t)b->B * sizeof *b->timesteps);
    memset(b->drop_grounding, 0, (size_t)b->B * sizeof *b->drop_grounding);
}

/* Its bytes, whether it sends gradients or not. */
static err foresee(size_t *bytes, run *r)
{
    batch  *b = &r->batches.batch, before = *b;
    int64_t key[KEYS], parts = r->config->train.accumulation * ranks_count(r->ranks);
    err     e = OK;
    enlarge(b, r);
    *bytes = 0;
    for (int sends = 0; sends <= (r->reduction != NULL) && e == OK; sends++) {
        micro_step s = {.r = r, .parts = parts, .sends = sends != 0};
        size_t     need = 0;
        key_of(key, &s);
        e = planned_foresee(&need, r->steps, key, KEYS, run_once, &s);
        *bytes = need > *bytes ? need : *bytes;
    }
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
    planned_log(r->steps, r->log);
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

/* ---- the order of gradients ---- */

typedef struct ordering {
    const parameters *of;
    tensor          **order;
    int               count;
} ordering;

static bool is_listed(const ordering *o, const tensor *whole)
{
    for (int i = 0; i < o->count; i++)
        if (o->order[i] == whole)
            return true;
    return false;
}

static err list_whole(void *user, tensor *whole)
{
    ordering *o = user;
    for (int i = 0; i < o->of->trained_count; i++)
        if (parameter_whole(&o->of->trained[i]) == whole && !is_listed(o, whole)) {
            o->order[o->count++] = whole;
            break;
        }
    return OK;
}

err micro_step_order(tensor ***order, int *count, run *r)
{
    const parameters *p = &r->parameters;
    ordering    o = {p, ARENA_ARRAY(&r->memory, tensor *, p->trained_count), 0};
    batch      *b = &r->batches.batch, before = *b;
    step_models models = models_of(r);
    device     *meta;
    float       loss;
    TRY(device_open_meta(&meta, NULL));
    ag *g = ag_new(meta);
    enlarge(b, r);
    ag_watch(g, list_whole, &o);
    err e = train_step(&loss, NULL, g, &models, b, 1);
    *b = before;
    ag_free(g);
    device_close(meta);
    for (int i = 0; i < p->trained_count; i++) /* what the graph does not reach */
        list_whole(&o, parameter_whole(&p->trained[i]));
    *order = o.order;
    *count = o.count;
    return e;
}
