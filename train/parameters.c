#include "train/parameters.h"

#include <string.h>

typedef struct listing {
    parameters       *to;
    arena            *owner;
    const run_config *config;
} listing;

static void count_one(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    (void)slot, (void)path, (void)kind, (void)ndim, (void)dim;
    ++*(int *)bind_user(b);
}

static void apply(parameter *p, const run_config *c)
{
    bool is_resampler = !strncmp(p->name, "image_proj.", strlen("image_proj."));
    double own = is_resampler ? c->optimizer.lr_resampler : c->optimizer.lr_kv;
    if (c->train.part != TRAIN_ALL && is_resampler != (c->train.part == TRAIN_RESAMPLER))
        p->t->needs_grad = false;
    p->rate = own > 0 ? own / c->optimizer.lr : 1;
    p->no_decay = !c->optimizer.decay_norms && p->t->ndim == 1;
}

static void list_one(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    listing *l = bind_user(b);
    (void)kind, (void)ndim, (void)dim;
    parameter p = {.name = arena_copy_string(l->owner, path), .t = *slot, .rate = 1};
    if (l->config)
        apply(&p, l->config);
    l->to->all[l->to->count++] = p;
    if (p.t->needs_grad)
        l->to->trained[l->to->trained_count++] = p;
}

void parameters_list(parameters *out, arena *owner, ms_adapter *a, const run_config *c)
{
    int count = 0;
    adapter_walk(a, count_one, &count);
    *out = (parameters){.all = ARENA_ARRAY(owner, parameter, count), .trained = ARENA_ARRAY(owner, parameter, count)};
    adapter_walk(a, list_one, &(listing){out, owner, c});
}

adamw parameters_adamw(const run_config *c)
{
    return (adamw){.beta1 = c->optimizer.betas[0], .beta2 = c->optimizer.betas[1], .eps = c->optimizer.eps,
                   .weight_decay = c->optimizer.weight_decay, .eight_bits = c->optimizer.kind == OPTIMIZER_ADAMW8BIT};
}

const char *parameters_device(const run_config *c)
{
    if (c->device.kind == CONFIG_DEVICE_AUTO)
        return device_has_cuda() ? "cuda" : "cpu";
    return c->device.kind == CONFIG_DEVICE_CUDA ? "cuda" : "cpu";
}

err parameters_open_device(device **out, const run_config *c, const ranks *all, int threads)
{
    const char *kind = parameters_device(c);
    if (strcmp(kind, "cuda") || !all)
        TRY(device_open(out, kind, threads));
    else
        TRY(device_open_cuda(out, device_cuda_cards() == 1 ? 0 : ranks_local(all)));
    if (!c->device.graphs)
        (*out)->capture = NULL;
    return OK;
}

dtype parameters_type(const run_config *c)
{
    bool bf16 = c->device.dtype == CONFIG_BF16 || (c->device.dtype == CONFIG_AUTO && !strcmp(parameters_device(c), "cuda"));
    return bf16 ? DT_BF16 : DT_F32;
}

typedef struct copies {
    parameters *of;
    int         at, trained_at;
} copies;

static void set_one(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    copies *c = bind_user(b);
    parameter *p = &c->of->all[c->at++];
    (void)path, (void)kind, (void)ndim, (void)dim;
    p->copy = *slot;
    p->copy->needs_grad = p->t->needs_grad;
    if (p->t->needs_grad)
        c->of->trained[c->trained_at++].copy = p->copy;
}

void parameters_set_copies(parameters *p, ms_adapter *running)
{
    adapter_walk(running, set_one, &(copies){.of = p});
}

err parameters_refresh_copies(const parameters *p)
{
    for (int i = 0; i < p->count; i++)
        if (p->all[i].copy)
            TRY(p->all[i].t->dev->p->copy(p->all[i].t->dev, p->all[i].copy, p->all[i].t, false));
    return OK;
}
