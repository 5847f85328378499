/* quick_gelu: x (...) -> y (...)
 *     y = x s, s = 1 / (1 + exp(-1.702 x)) (CLIP's);  dx = dy s (1 + 1.702 x (1 - s)) */
#include "autograd/op.h"

static err quick_gelu_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    op_save(c, 0, c->in[0]);
    return d->p->unary(d, c->out, c->in[0], UNARY_QUICK_GELU);
}

static err quick_gelu_backward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor *grad;
    bool add;
    TRY(op_grad(g, c, 0, &grad, &add));
    return grad ? d->p->unary_dx(d, grad, c->out->grad, c->saved[0], UNARY_QUICK_GELU, add) : OK;
}

const op op_quick_gelu = {
    .name = "quick_gelu", .signature = "(...) -> (...)", .inputs = 1,
    .shape = shape_like_first, .forward = quick_gelu_forward, .backward = quick_gelu_backward,
};

tensor *ag_quick_gelu(ag *g, tensor *x)
{
    return ag_apply(g, (op_call){.op = &op_quick_gelu, .in = {x}});
}
