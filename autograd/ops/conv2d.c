/* conv2d: x (B,H,W,I), w (O,KH,KW,I), bias (O)?, residual (B,OH,OW,O)? -> y (B,OH,OW,O)
 *     y[b,i,j,o] = sum over u, v, c of x[b, i*stride + u - top, j*stride + v - left, c] w[o,u,v,c] + bias[o] + residual
 *     OH = (H + top + bottom - KH) / stride + 1, cut off; OW likewise
 * Convolutions are frozen: gradients go to x and residual only, and neither needs the activation. */
#include "autograd/op.h"

static err conv2d_shape(const op_call *c, tensor *out)
{
    const tensor *x = c->in[0], *w = c->in[1], *bias = c->in[2], *residual = c->in[3];
    const conv_geometry *g = &c->p.conv;
    if (x->ndim != 4 || w->ndim != 4 || x->dim[3] != w->dim[3])
        return op_shape_error(c, "channels differ");
    if (bias && (bias->ndim != 1 || bias->dim[0] != w->dim[0]))
        return op_shape_error(c, "the bias does not fit the weight");
    CHECK(!w->needs_grad && !(bias && bias->needs_grad), "conv2d: %s is trainable, convolutions are frozen here",
          w->name);
    int64_t room_h = x->dim[1] + g->pad_top + g->pad_bottom - w->dim[1];
    int64_t room_w = x->dim[2] + g->pad_left + g->pad_right - w->dim[2];
    if (room_h < 0 || room_w < 0)
        return op_shape_error(c, "the picture is smaller than the kernel");
    tensor_set_shape(out, DIMS(x->dim[0], room_h / g->stride + 1, room_w / g->stride + 1, w->dim[0]));
    if (residual && !tensor_same_shape(residual, out))
        return op_shape_error(c, "the residual does not have the output's shape");
    return OK;
}

static err conv2d_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    op_save(c, 0, c->in[1]); /* may be a view that its scope releases */
    if (c->spared)
        return OK;
    return d->p->conv2d(d, c->out, c->in[0], c->in[1], c->in[2], c->in[3], &c->p.conv);
}

static err conv2d_backward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor *grad;
    bool add;
    TRY(op_grad(g, c, 0, &grad, &add));
    if (grad)
        TRY(d->p->conv2d_dx(d, grad, c->out->grad, c->saved[0], &c->p.conv, add));
    TRY(op_grad(g, c, 3, &grad, &add));
    return grad ? d->p->copy(d, grad, c->out->grad, add) : OK;
}

const op op_conv2d = {
    .name = "conv2d", .signature = "(B,H,W,I) (O,KH,KW,I) (O)? (B,OH,OW,O)? -> (B,OH,OW,O)", .inputs = 4,
    .optional = 1u << 2 | 1u << 3, .shape = conv2d_shape, .forward = conv2d_forward, .backward = conv2d_backward,
};

tensor *ag_conv2d(ag *g, tensor *x, tensor *w, tensor *bias, tensor *residual, conv_geometry geometry)
{
    return ag_apply(g, (op_call){.op = &op_conv2d, .in = {x, w, bias, residual}, .p.conv = geometry});
}
