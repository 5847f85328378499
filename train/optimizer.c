#include "train/optimizer.h"

#include <math.h>

static err make_moments(optimizer *o, arena *owner, int i)
{
    tensor *t = o->param[i].t;
    CHECK(t->type == DT_F32 && t->needs_grad && tensor_contiguous(t), "%s is not an f32 trainable", o->param[i].name);
    TRY(tensor_new(&t->grad, owner, o->dev, LIFE_STATE, o->param[i].name, DT_F32, t->ndim, t->dim));
    TRY(tensor_new(&o->m[i], owner, o->dev, LIFE_STATE, o->param[i].name, DT_F32, t->ndim, t->dim));
    TRY(tensor_new(&o->v[i], owner, o->dev, LIFE_STATE, o->param[i].name, DT_F32, t->ndim, t->dim));
    TRY(o->dev->p->fill(o->dev, o->m[i], 0.0f));
    return o->dev->p->fill(o->dev, o->v[i], 0.0f);
}

err optimizer_new(optimizer **out, arena *owner, device *dev, const parameter *param, int count, adamw how)
{
    optimizer *o = ARENA_NEW(owner, optimizer);
    *o = (optimizer){.dev = dev, .param = param, .count = count, .how = how,
                     .m = ARENA_ARRAY(owner, tensor *, count), .v = ARENA_ARRAY(owner, tensor *, count)};
    err e = OK;
    for (int i = 0; i < count && e == OK; i++)
        e = make_moments(o, owner, i);
    if (e != OK) {
        optimizer_free(o);
        return e;
    }
    optimizer_begin(o);
    *out = o;
    return OK;
}

void optimizer_free(optimizer *o)
{
    for (int i = 0; o && i < o->count; i++) {
        tensor_release(o->param[i].t->grad);
        o->param[i].t->grad = NULL;
        tensor_release(o->m[i]);
        tensor_release(o->v[i]);
    }
}

void optimizer_begin(optimizer *o)
{
    for (int i = 0; i < o->count; i++)
        o->param[i].t->grad_fresh = true;
}

err optimizer_norm(double *norm, const optimizer *o)
{
    double sum = 0;
    for (int i = 0; i < o->count; i++) {
        if (o->param[i].t->grad_fresh)
            continue;
        double part = 0;
        TRY(o->dev->p->sum_squares(o->dev, &part, o->param[i].t->grad));
        sum += part;
    }
    *norm = sqrt(sum);
    return OK;
}

err optimizer_update(optimizer *o, double norm, double max_norm, double lr)
{
    double clip = max_norm > 0 ? max_norm / (norm + 1e-6) : 1;
    float factor = clip < 1 ? (float)clip : 1.0f;
    o->updates++;
    for (int i = 0; i < o->count; i++) {
        tensor *t = o->param[i].t;
        TRY(o->dev->p->adamw(o->dev, t, o->m[i], o->v[i], NULL, t->grad_fresh ? NULL : t->grad, factor, lr,
                             o->how.beta1, o->how.beta2, o->how.eps, o->how.weight_decay, o->updates));
    }
    return OK;
}
