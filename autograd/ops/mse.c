/* mse: a, b of the same shape -> loss f32 (), mean((a - b)^2). Gradients: da = dloss * 2(a - b)/n, db = -da. */
#include "autograd/op.h"

static err mse_shape(const op_call *c, tensor *out)
{
    const tensor *a = c->in[0], *b = c->in[1];
    if (!tensor_same_shape(a, b) || a->type != b->type || tensor_count(a) < 1)
        return op_shape_error(c, "the two differ or are empty");
    out->type = DT_F32;
    tensor_set_shape(out, 0, NULL);
    return OK;
}

static err mse_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    op_save(c, 0, c->in[0]);
    op_save(c, 1, c->in[1]);
    return d->p->mse(d, c->out, c->in[0], c->in[1]);
}

static err mse_backward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    for (int i = 0; i < 2; i++) {
        tensor *dx;
        bool    add;
        TRY(op_grad(g, c, i, &dx, &add));
        if (dx)
            TRY(d->p->mse_backward(d, dx, c->out->grad, c->saved[0], c->saved[1], i ? -1.0f : 1.0f, add));
    }
    return OK;
}

const op op_mse = {
    .name = "mse",
    .signature = "(...) (...) -> ()",
    .inputs = 2,
    .shape = mse_shape,
    .forward = mse_forward,
    .backward = mse_backward,
};

tensor *ag_mse(ag *g, tensor *a, tensor *b)
{
    return ag_apply(g, (op_call){.op = &op_mse, .in = {a, b}});
}
