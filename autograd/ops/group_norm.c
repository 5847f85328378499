/* group_norm: x (B,...,C), vec (B,C)?, w (C), b (C) -> y like x
 *     z = x + vec;  y = (z - mean) rstd w + b, over each sample's positions and each group of C/groups channels;
 *     then y = silu(y) where asked. Variance is the biased one (torch.nn.GroupNorm).
 *     dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy' w;  dvec = sum of dx over the positions.
 * w and b are frozen here. */
#include "autograd/op.h"

static err group_norm_shape(const op_call *c, tensor *out)
{
    const tensor *x = c->in[0], *vec = c->in[1], *w = c->in[2], *b = c->in[3];
    if (x->ndim < 2 || c->p.norm.groups < 1 || x->dim[x->ndim - 1] % c->p.norm.groups)
        return op_shape_error(c, "the number of groups does not divide the channels");
    int64_t channels = x->dim[x->ndim - 1];
    if (w->ndim != 1 || b->ndim != 1 || w->dim[0] != channels || b->dim[0] != channels)
        return op_shape_error(c, "weight and bias do not fit the channels");
    if (vec && (vec->ndim != 2 || vec->dim[0] != x->dim[0] || vec->dim[1] != channels))
        return op_shape_error(c, "the channel vector does not fit");
    CHECK(!w->needs_grad && !b->needs_grad, "group_norm: %s is trainable, group norms are frozen here", w->name);
    return shape_like_first(c, out);
}

static err group_norm_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor *mean, *rstd;
    op_save(c, 0, c->in[0]);
    if (c->in[1])
        op_save(c, 3, c->in[1]);
    op_save(c, 4, c->in[2]);
    op_save(c, 5, c->in[3]);
    TRY(op_extra(g, c, 1, "group_norm.mean", DT_F32, DIMS(c->in[0]->dim[0], c->p.norm.groups), &mean));
    TRY(op_extra(g, c, 2, "group_norm.rstd", DT_F32, DIMS(c->in[0]->dim[0], c->p.norm.groups), &rstd));
    return d->p->group_norm(d, c->out, mean, rstd, c->in[0], c->in[1], c->in[2], c->in[3], c->p.norm.groups,
                            c->p.norm.eps, c->p.norm.silu);
}

static err run_dx(device *d, op_call *c, tensor *dx, bool add)
{
    return d->p->group_norm_dx(d, dx, c->out->grad, c->saved[0], c->saved[3], c->saved[4], c->saved[5], c->saved[1],
                               c->saved[2], c->p.norm.groups, c->p.norm.silu, add);
}

/* dvec needs dx alone, before it is added to what x's gradient holds. */
static err group_norm_backward_vec(ag *g, op_call *c, tensor *dvec, bool add)
{
    device *d = ag_device(g);
    const tensor *x = c->saved[0];
    tensor *dx;
    TRY(tensor_new(&dx, ag_arena(g), d, LIFE_STEP, "group_norm.dx", x->type, x->ndim, x->dim));
    int64_t batch = x->dim[0], channels = x->dim[x->ndim - 1];
    tensor sums = op_flat(dvec, DIMS(batch, 1, channels));
    err e = run_dx(d, c, dx, false);
    if (e == OK) {
        tensor all = op_flat(dx, DIMS(batch, tensor_count(x) / (batch * channels), channels));
        e = d->p->reduce_to(d, &sums, &all, NULL, add);
    }
    tensor_release(dx);
    return e;
}

static err group_norm_backward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor *grad;
    bool add;
    TRY(op_grad(g, c, 0, &grad, &add));
    if (grad)
        TRY(run_dx(d, c, grad, add));
    TRY(op_grad(g, c, 1, &grad, &add));
    return grad ? group_norm_backward_vec(g, c, grad, add) : OK;
}

const op op_group_norm = {
    .name = "group_norm", .signature = "(B,...,C) (B,C)? (C) (C) -> (B,...,C)", .inputs = 4, .optional = 1u << 1,
    .shape = group_norm_shape, .forward = group_norm_forward, .backward = group_norm_backward,
};

tensor *ag_group_norm(ag *g, tensor *x, tensor *vec, tensor *w, tensor *b, int groups, float eps, bool silu)
{
    return ag_apply(g, (op_call){.op = &op_group_norm, .in = {x, vec, w, b}, .p.norm = {groups, eps, silu}});
}
