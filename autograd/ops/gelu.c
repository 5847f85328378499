/* gelu: x (...) -> y (...)
 *     y = x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2;  dx = dy (Phi(x) + x phi(x)) */
#include "autograd/op.h"

static err gelu_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    op_save(c, 0, c->in[0]);
    return d->p->unary(d, c->out, c->in[0], UNARY_GELU);
}

static err gelu_backward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor *grad;
    bool add;
    TRY(op_grad(g, c, 0, &grad, &add));
    return grad ? d->p->unary_dx(d, grad, c->out->grad, c->saved[0], UNARY_GELU, add) : OK;
}

const op op_gelu = {
    .name = "gelu", .signature = "(...) -> (...)", .inputs = 1,
    .shape = shape_like_first, .forward = gelu_forward, .backward = gelu_backward,
};

tensor *ag_gelu(ag *g, tensor *x)
{
    return ag_apply(g, (op_call){.op = &op_gelu, .in = {x}});
}
