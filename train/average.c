#include "train/average.h"

err average_new(average **out, arena *owner, device *dev, const parameter *param, int count, double decay)
{
    average *a = ARENA_NEW(owner, average);
    *a = (average){.dev = dev, .param = param, .count = count, .mean = ARENA_ARRAY(owner, tensor *, count), .decay = decay};
    err e = OK;
    for (int i = 0; i < count && e == OK; i++)
        e = tensor_new(&a->mean[i], owner, dev, LIFE_STATE, param[i].name, DT_F32, param[i].t->ndim, param[i].t->dim);
    if (e == OK)
        e = average_start(a);
    if (e != OK) {
        average_free(a);
        return e;
    }
    *out = a;
    return OK;
}

void average_free(average *a)
{
    for (int i = 0; a && i < a->count; i++)
        tensor_release(a->mean[i]);
}

err average_start(average *a)
{
    for (int i = 0; i < a->count; i++)
        TRY(a->dev->p->copy(a->dev, a->mean[i], a->param[i].t, false));
    return OK;
}

err average_update(average *a)
{
    float keep = (float)a->decay, rest = (float)(1.0 - a->decay);
    for (int i = 0; i < a->count; i++) {
        TRY(a->dev->p->scale(a->dev, a->mean[i], a->mean[i], keep, false));
        TRY(a->dev->p->scale(a->dev, a->mean[i], a->param[i].t, rest, true));
    }
    return OK;
}

tensor *average_of(const average *a, tensor *t)
{
    for (int i = 0; i < a->count; i++)
        if (a->param[i].t == t)
            return a->mean[i];
    return t;
}

static err swap_one(average *a, int i, tensor *spare)
{
    const primitives *p = a->dev->p;
    tensor *weight = a->param[i].t, *mean = a->mean[i];
    tensor_set_shape(spare, mean->ndim, mean->dim);
    TRY(p->copy(a->dev, spare, weight, false));
    TRY(p->copy(a->dev, weight, mean, false));
    return p->copy(a->dev, mean, spare, false);
}

err average_swap(average *a)
{
    arena memory = {0};
    tensor *spare = NULL;
    int64_t most = 1;
    for (int i = 0; i < a->count; i++)
        most = tensor_count(a->mean[i]) > most ? tensor_count(a->mean[i]) : most;
    err e = tensor_new(&spare, &memory, a->dev, LIFE_STATE, "averaged weights", DT_F32, 1, &most);
    for (int i = 0; i < a->count && e == OK; i++)
        e = swap_one(a, i, spare);
    tensor_release(spare);
    arena_free(&memory);
    return e;
}
