/* layer_norm: x (...,C), w (C)?, b (C)? -> y like x
 *     y = (x - mean) rstd w + b over the last dimension, biased variance (torch.nn.LayerNorm)
 *     dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy w;  dw = sum dy xhat;  db = sum dy */
#include "autograd/op.h"

static err layer_norm_shape(const op_call *c, tensor *out)
{
    const tensor *x = c->in[0];
    if (x->ndim < 1)
        return op_shape_error(c, "a scalar has no last dimension");
    for (int i = 1; i < 3; i++)
        if (c->in[i] && (c->in[i]->ndim != 1 || c->in[i]->dim[0] != x->dim[x->ndim - 1]))
            return op_shape_error(c, "weight or bias do not fit the last dimension");
    return shape_like_first(c, out);
}

static err layer_norm_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor x = op_rows(c->in[0]), y = op_rows(c->out), *mean = NULL, *rstd = NULL;
    if (c->records) {
        op_save(c, 0, c->in[0]);
        op_save(c, 3, c->in[1]);
        TRY(op_extra(g, c, 1, "layer_norm.mean", DT_F32, DIMS(x.dim[0]), &mean));
        TRY(op_extra(g, c, 2, "layer_norm.rstd", DT_F32, DIMS(x.dim[0]), &rstd));
    }
    return d->p->layer_norm(d, &y, mean, rstd, &x, c->in[1], c->in[2], c->p.norm.eps);
}

static err layer_norm_backward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor x = op_rows(c->saved[0]), dy = op_rows(c->out->grad), *grad, *dw, *db;
    bool add, add_w, add_b;
    TRY(op_grad(g, c, 0, &grad, &add));
    if (grad) {
        tensor dx = op_rows(grad);
        TRY(d->p->layer_norm_dx(d, &dx, &dy, &x, c->saved[3], c->saved[1], c->saved[2], add));
    }
    TRY(op_grad(g, c, 1, &dw, &add_w));
    TRY(op_grad(g, c, 2, &db, &add_b));
    if (!dw && !db)
        return OK;
    return d->p->layer_norm_dwb(d, dw, db, &dy, &x, c->saved[1], c->saved[2], add_w, add_b);
}

const op op_layer_norm = {
    .name = "layer_norm", .signature = "(...,C) (C)? (C)? -> (...,C)", .inputs = 3, .optional = 1u << 1 | 1u << 2,
    .shape = layer_norm_shape, .forward = layer_norm_forward, .backward = layer_norm_backward,
};

tensor *ag_layer_norm(ag *g, tensor *x, tensor *w, tensor *b, float eps)
{
    return ag_apply(g, (op_call){.op = &op_layer_norm, .in = {x, w, b}, .p.norm = {.eps = eps}});
}
