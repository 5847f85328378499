/* silu: x (...) -> y (...)
 *     y = x s, s = 1 / (1 + exp(-x));  dx = dy s (1 + x (1 - s)) */
#include "autograd/op.h"

static err silu_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    op_save(c, 0, c->in[0]);
    return d->p->unary(d, c->out, c->in[0], UNARY_SILU);
}

static err silu_backward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor *grad;
    bool add;
    TRY(op_grad(g, c, 0, &grad, &add));
    return grad ? d->p->unary_dx(d, grad, c->out->grad, c->saved[0], UNARY_SILU, add) : OK;
}

const op op_silu = {
    .name = "silu", .signature = "(...) -> (...)", .inputs = 1,
    .shape = shape_like_first, .forward = silu_forward, .backward = silu_backward,
};

tensor *ag_silu(ag *g, tensor *x)
{
    return ag_apply(g, (op_call){.op = &op_silu, .in = {x}});
}
