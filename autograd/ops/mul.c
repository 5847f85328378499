/* mul: a (...), b broadcast to a (aligned at the innermost dimension, each extent a's or 1) -> y like a
 *     y = a b;  da = dy b;  db = dy a summed over the broadcast dimensions */
#include "autograd/op.h"

static err mul_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    if (c->in[1]->needs_grad)
        op_save(c, 0, c->in[0]);
    if (c->in[0]->needs_grad)
        op_save(c, 1, c->in[1]);
    return d->p->mul(d, c->out, c->in[0], c->in[1]);
}

/* da (+)= dy b, through a side buffer: the product primitive only overwrites. */
static err mul_backward_a(ag *g, op_call *c, tensor *da, bool add)
{
    device *d = ag_device(g);
    if (!add)
        return d->p->mul(d, da, c->out->grad, c->saved[1]);
    tensor *product;
    TRY(tensor_new(&product, ag_arena(g), d, LIFE_STEP, "mul.da", da->type, da->ndim, da->dim));
    err e = d->p->mul(d, product, c->out->grad, c->saved[1]);
    if (e == OK)
        e = d->p->copy(d, da, product, true);
    tensor_release(product);
    return e;
}

static err mul_backward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor *grad;
    bool add;
    TRY(op_grad(g, c, 0, &grad, &add));
    if (grad)
        TRY(mul_backward_a(g, c, grad, add));
    TRY(op_grad(g, c, 1, &grad, &add));
    return grad ? d->p->reduce_to(d, grad, c->out->grad, c->saved[0], add) : OK;
}

const op op_mul = {
    .name = "mul", .signature = "(...) (broadcast) -> (...)", .inputs = 2,
    .shape = shape_broadcast, .forward = mul_forward, .backward = mul_backward,
};

tensor *ag_mul(ag *g, tensor *a, tensor *b)
{
    return ag_apply(g, (op_call){.op = &op_mul, .in = {a, b}});
}
