/* reshape: x -> a view of the same elements, in the same order, with another shape. x may be strided where
 * the new shape can still be said in strides (torch's view); else ag_cast makes it contiguous first. */
#include "autograd/op.h"

/* Strides of x's data under the new shape. Runs of dimensions of x that lie densely in one another are
 * split or joined freely; a new dimension must not straddle two runs. False: no such strides. */
static bool view_strides(tensor *out, const tensor *x)
{
    int at = out->ndim - 1;
    for (int end = x->ndim - 1; end >= 0;) {
        int64_t step = x->stride[end], length = x->dim[end];
        int     i = end - 1;
        for (; i >= 0 && (x->dim[i] == 1 || length == 1 || x->stride[i] == step * length); i--) {
            if (length == 1)
                step = x->stride[i];
            length *= x->dim[i];
        }
        end = i;
        int64_t filled = 1;
        while (at >= 0 && (filled < length || out->dim[at] == 1)) {
            out->stride[at] = filled * step;
            filled *= out->dim[at--];
        }
        if (filled != length)
            return false;
    }
    for (; at >= 0; at--)
        out->stride[at] = 1; /* x is a scalar: what remains are ones */
    return true;
}

static err reshape_shape(const op_call *c, tensor *out)
{
    tensor_set_shape(out, c->p.shape.ndim, c->p.shape.dim);
    if (tensor_count(out) != tensor_count(c->in[0]))
        return op_shape_error(c, "the number of elements changes");
    if (tensor_count(out) > 0 && !view_strides(out, c->in[0]))
        return op_shape_error(c, "a strided tensor has no view of this shape");
    return OK;
}

static err reshape_forward(ag *g, op_call *c)
{
    (void)g;
    if (tensor_count(c->out) > 0)
        CHECK(view_strides(c->out, c->in[0]), "reshape: strides");
    return OK;
}

static err reshape_backward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor *dx;
    bool    add;
    if (op_grad_shared(c))
        return OK;
    TRY(op_grad_strided(g, c, 0, &dx, &add));
    tensor dy = op_flat(c->out->grad, dx->ndim, dx->dim);
    return d->p->copy(d, dx, &dy, add);
}

const op op_reshape = {
    .name = "reshape",
    .signature = "(...) -> (...), the same elements",
    .inputs = 1,
    .view = true,
    .shape = reshape_shape,
    .forward = reshape_forward,
    .backward = reshape_backward,
};

tensor *ag_reshape(ag *g, tensor *x, int ndim, const int64_t *dim)
{
    CHECK(ndim >= 0 && ndim <= TENSOR_MAX_DIM, "reshape to %d dimensions", ndim);
    op_call call = {.op = &op_reshape, .in = {x}, .p.shape.ndim = ndim};
    for (int i = 0; i < ndim; i++)
        call.p.shape.dim[i] = dim[i];
    return ag_apply(g, call);
}
