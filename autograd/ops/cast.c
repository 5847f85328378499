/* cast: x (...), strided or not -> y (...), contiguous, of another or the same type. Gradient: dy, cast back. */
#include "autograd/op.h"

static err cast_shape(const op_call *c, tensor *out)
{
    TRY(shape_like_first(c, out));
    out->type = c->p.type;
    return OK;
}

static err cast_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    return d->p->copy(d, c->out, c->in[0], false);
}

static err cast_backward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor *dx;
    bool    add;
    TRY(op_grad(g, c, 0, &dx, &add));
    return d->p->copy(d, dx, c->out->grad, add);
}

const op op_cast = {
    .name = "cast",
    .signature = "(...) -> (...)",
    .inputs = 1,
    .shape = cast_shape,
    .forward = cast_forward,
    .backward = cast_backward,
};

tensor *ag_cast(ag *g, tensor *x, dtype type)
{
    return ag_apply(g, (op_call){.op = &op_cast, .in = {x}, .p.type = type});
}

tensor *ag_to_type(ag *g, tensor *x, dtype type)
{
    return x && x->type == type ? x : ag_cast(g, x, type);
}
