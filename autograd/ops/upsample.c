/* upsample: x (B,h,w,C) -> y (B,H,W,C), nearest neighbour: y[i][j] = x[floor(i*h/H)][floor(j*w/W)]
 * (torch's interpolate(size=..., mode="nearest")). Gradient: each source sums the places it went to. */
#include "autograd/op.h"

static err upsample_shape(const op_call *c, tensor *out)
{
    const tensor *x = c->in[0];
    if (x->ndim != 4 || tensor_count(x) < 1 || c->p.grid.h < 1 || c->p.grid.w < 1)
        return op_shape_error(c, "x needs four dimensions and neither side may be empty");
    tensor_set_shape(out, DIMS(x->dim[0], c->p.grid.h, c->p.grid.w, x->dim[3]));
    return OK;
}

static err upsample_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    return d->p->upsample(d, c->out, c->in[0]);
}

static err upsample_backward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor *dx;
    bool    add;
    TRY(op_grad(g, c, 0, &dx, &add));
    return d->p->upsample_dx(d, dx, c->out->grad, add);
}

const op op_upsample = {
    .name = "upsample",
    .signature = "(B,h,w,C) -> (B,H,W,C)",
    .inputs = 1,
    .shape = upsample_shape,
    .forward = upsample_forward,
    .backward = upsample_backward,
};

tensor *ag_upsample(ag *g, tensor *x, int64_t h, int64_t w)
{
    return ag_apply(g, (op_call){.op = &op_upsample, .in = {x}, .p.grid = {h, w}});
}
