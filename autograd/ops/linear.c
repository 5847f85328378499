/* linear: x (...,k), w (m,k), bias (m)?, residual (...,m)? -> y (...,m)
 *     y = x w^T + bias + residual
 *     dx = dy w;  dw = dy^T x;  dbias = sum of dy over rows;  dresidual = dy */
#include "autograd/op.h"

static err linear_shape(const op_call *c, tensor *out)
{
    const tensor *x = c->in[0], *w = c->in[1], *bias = c->in[2], *residual = c->in[3];
    if (x->ndim < 1 || w->ndim != 2 || x->dim[x->ndim - 1] != w->dim[1])
        return op_shape_error(c, "inner dimensions differ");
    if (bias && (bias->ndim != 1 || bias->dim[0] != w->dim[0]))
        return op_shape_error(c, "the bias does not fit the weight");
    shape_like_first(c, out);
    out->dim[out->ndim - 1] = w->dim[0];
    if (residual && !tensor_same_shape(residual, out))
        return op_shape_error(c, "the residual does not have the output's shape");
    return OK;
}

static err linear_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor x = op_rows(c->in[0]), y = op_rows(c->out), residual;
    if (c->in[3])
        residual = op_rows(c->in[3]);
    if (c->in[1]->needs_grad)
        op_save(c, 0, c->in[0]);
    op_save(c, 1, c->in[1]); /* may be a view that its scope releases */
    if (c->spared)
        return OK;
    return d->p->linear(d, &y, &x, c->in[1], c->in[2], c->in[3] ? &residual : NULL);
}

/* Of weight and bias. */
static err linear_early(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor dy = op_rows(c->out->grad), *grad;
    bool add;
    TRY(op_grad(g, c, 1, &grad, &add));
    if (grad) {
        tensor x = op_rows(c->saved[0]);
        TRY(d->p->linear_dw(d, grad, &dy, &x, add));
    }
    TRY(op_grad(g, c, 2, &grad, &add));
    return grad ? d->p->sum_rows(d, grad, &dy, add) : OK;
}

static err linear_backward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor dy = op_rows(c->out->grad), *grad;
    bool add;
    TRY(op_grad(g, c, 0, &grad, &add));
    if (grad) {
        tensor dx = op_rows(grad);
        TRY(d->p->linear_dx(d, &dx, &dy, c->saved[1], add));
    }
    if (!c->early)
        TRY(linear_early(g, c));
    TRY(op_grad(g, c, 3, &grad, &add));
    return grad ? d->p->copy(d, grad, c->out->grad, add) : OK;
}

const op op_linear = {
    .name = "linear", .signature = "(...,k) (m,k) (m)? (...,m)? -> (...,m)", .inputs = 4, .optional = 1u << 2 | 1u << 3,
    .shape = linear_shape, .forward = linear_forward, .backward = linear_backward,
    .early = linear_early,
};

tensor *ag_linear(ag *g, tensor *x, tensor *w, tensor *bias, tensor *residual)
{
    return ag_apply(g, (op_call){.op = &op_linear, .in = {x, w, bias, residual}});
}
