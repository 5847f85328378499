#include "train/optimizer.h"

#include <math.h>

#include "autograd/moment_code.h"

static err make_zeros(tensor **out, optimizer *o, arena *owner, int i, dtype type, int ndim, const int64_t *dim)
{
    TRY(tensor_new(out, owner, o->dev, LIFE_STATE, o->param[i].name, type, ndim, dim));
    return o->dev->p->fill(o->dev, *out, 0.0f);
}

static tensor *read_of(const parameter *p)
{
    return p->copy ? p->copy : p->t;
}

tensor *parameter_whole(const parameter *p)
{
    tensor *read = read_of(p);
    return read->base ? read->base : read;
}

const tensor *parameter_gradient(const parameter *p)
{
    const tensor *whole = parameter_whole(p);
    return whole->grad_fresh || !whole->grad ? NULL : read_of(p)->grad;
}

static err make_gradient(optimizer *o, arena *owner, int i)
{
    tensor *read = read_of(&o->param[i]), *whole = parameter_whole(&o->param[i]);
    if (!whole->grad)
        TRY(tensor_new(&whole->grad, owner, o->dev, LIFE_STATE, whole->name, DT_F32, whole->ndim, whole->dim));
    if (read != whole)
        read->grad = tensor_grad_view(owner, read);
    return OK;
}

static void free_gradient(const parameter *p)
{
    tensor *read = read_of(p), *whole = parameter_whole(p);
    tensor_release(read->grad);
    read->grad = NULL;
    tensor_release(whole->grad);
    whole->grad = NULL;
}

static err make_state(optimizer *o, arena *owner, int i)
{
    tensor *t = o->param[i].t;
    CHECK(t->type == DT_F32 && t->needs_grad && tensor_contiguous(t), "%s is not an f32 trainable", o->param[i].name);
    bool eight_bits = o->how.eight_bits && tensor_count(t) >= OPTIMIZER_SMALL;
    dtype type = eight_bits ? DT_U8 : DT_F32;
    if (!o->how.passing)
        TRY(make_gradient(o, owner, i));
    if (o->how.elsewhere)
        return OK;
    TRY(make_zeros(&o->m[i], o, owner, i, type, t->ndim, t->dim));
    TRY(make_zeros(&o->v[i], o, owner, i, type, t->ndim, t->dim));
    if (!eight_bits)
        return OK;
    int64_t blocks = moment_blocks(tensor_count(t));
    TRY(make_zeros(&o->m_absmax[i], o, owner, i, DT_F32, DIMS(blocks)));
    return make_zeros(&o->v_absmax[i], o, owner, i, DT_F32, DIMS(blocks));
}

err optimizer_new(optimizer **out, arena *owner, device *dev, const parameter *param, int count, adamw how)
{
    optimizer *o = ARENA_NEW(owner, optimizer);
    *o = (optimizer){.dev = dev, .param = param, .count = count, .how = how,
                     .m = ARENA_ARRAY(owner, tensor *, count), .v = ARENA_ARRAY(owner, tensor *, count),
                     .m_absmax = ARENA_ARRAY(owner, tensor *, count), .v_absmax = ARENA_ARRAY(owner, tensor *, count)};
    err e = OK;
    for (int i = 0; i < count && e == OK; i++)
        e = make_state(o, owner, i);
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
        free_gradient(&o->param[i]);
        tensor_release(o->m[i]);
        tensor_release(o->v[i]);
        tensor_release(o->m_absmax[i]);
        tensor_release(o->v_absmax[i]);
    }
    if (o)
        arena_free(&o->room);
}

void optimizer_expect(optimizer *o, ag *g)
{
    if (o->how.passing)
        ag_keep_gradients(g, &o->room);
}

void optimizer_take(optimizer *o)
{
    for (int i = 0; o->how.passing && i < o->count; i++) {
        tensor *read = read_of(&o->param[i]), *whole = parameter_whole(&o->param[i]);
        if (read != whole && whole->grad && !read->grad)
            read->grad = tensor_grad_view(&o->room, read);
    }
}

void optimizer_drop(optimizer *o)
{
    if (!o->how.passing)
        return;
    for (int i = 0; i < o->count; i++)
        free_gradient(&o->param[i]);
    arena_reset(&o->room);
    optimizer_begin(o);
}

void optimizer_begin(optimizer *o)
{
    for (int i = 0; i < o->count; i++)
        parameter_whole(&o->param[i])->grad_fresh = true;
}

void optimizer_marks(bool *fresh, const optimizer *o)
{
    for (int i = 0; i < o->count; i++)
        fresh[i] = parameter_whole(&o->param[i])->grad_fresh;
}

void optimizer_set_marks(optimizer *o, const bool *fresh)
{
    for (int i = 0; i < o->count; i++)
        parameter_whole(&o->param[i])->grad_fresh = fresh[i];
}

err optimizer_norm(double *norm, const optimizer *o)
{
    double sum = 0;
    for (int i = 0; i < o->count; i++) {
        const tensor *gradient = parameter_gradient(&o->param[i]);
        if (!gradient)
            continue;
        double part = 0;
        TRY(o->dev->p->sum_squares(o->dev, &part, gradient));
        sum += part;
    }
    *norm = sqrt(sum);
    return OK;
}

static err update_one(optimizer *o, int i, float factor, double lr)
{
    const parameter *p = &o->param[i];
    const adamw *how = &o->how;
    const tensor *gradient = parameter_gradient(p);
    double rate = lr * p->rate, decay = p->no_decay ? 0 : how->weight_decay;
    if (o->m_absmax[i])
        return o->dev->p->adamw8(o->dev, p->t, o->m[i], o->m_absmax[i], o->v[i], o->v_absmax[i], p->copy, gradient, factor,
                                 rate, how->beta1, how->beta2, how->eps, decay, o->updates);
    return o->dev->p->adamw(o->dev, p->t, o->m[i], o->v[i], p->copy, gradient, factor, rate, how->beta1, how->beta2, how->eps,
                            decay, o->updates);
}

float optimizer_clip(double norm, double max_norm)
{
    double clip = max_norm > 0 ? max_norm / (norm + 1e-6) : 1;
    return clip < 1 ? (float)clip : 1.0f;
}

err optimizer_update(optimizer *o, double norm, double max_norm, double lr)
{
    float factor = optimizer_clip(norm, max_norm);
    o->updates++;
    for (int i = 0; i < o->count; i++)
        TRY(update_one(o, i, factor, lr));
    return OK;
}
