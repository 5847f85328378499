/* add: a (...), b broadcast to a (aligned at the innermost dimension, each extent a's or 1) -> y like a
 *     y = a + b;  da = dy;  db = dy summed over the broadcast dimensions */
#include "autograd/op.h"

static err add_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    return d->p->add(d, c->out, c->in[0], c->in[1]);
}

static err add_backward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor *grad;
    bool add;
    TRY(op_grad(g, c, 0, &grad, &add));
    if (grad)
        TRY(d->p->copy(d, grad, c->out->grad, add));
    TRY(op_grad(g, c, 1, &grad, &add));
    return grad ? d->p->reduce_to(d, grad, c->out->grad, NULL, add) : OK;
}

const op op_add = {
    .name = "add", .signature = "(...) (broadcast) -> (...)", .inputs = 2,
    .shape = shape_broadcast, .forward = add_forward, .backward = add_backward,
};

tensor *ag_add(ag *g, tensor *a, tensor *b)
{
    return ag_apply(g, (op_call){.op = &op_add, .in = {a, b}});
}
