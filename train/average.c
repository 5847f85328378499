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
