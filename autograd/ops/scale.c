/* scale: x (...) -> y (...)
 *     y = s x;  dx = s dy */
#include "autograd/op.h"

static err scale_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    return d->p->scale(d, c->out, c->in[0], c->p.factor, false);
}

static err scale_backward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor *grad;
    bool add;
    TRY(op_grad(g, c, 0, &grad, &add));
    return grad ? d->p->scale(d, grad, c->out->grad, c->p.factor, add) : OK;
}

const op op_scale = {
    .name = "scale", .signature = "(...) -> (...)", .inputs = 1,
    .shape = shape_like_first, .forward = scale_forward, .backward = scale_backward,
};

tensor *ag_scale(ag *g, tensor *x, float s)
{
    return ag_apply(g, (op_call){.op = &op_scale, .in = {x}, .p.factor = s});
}
