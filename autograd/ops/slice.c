/* slice: x (..,n,..) -> the view (..,length,..) of the places start..start+length-1 along one dimension.
 * Gradient: dy into that part of dx, 0 elsewhere; nothing to do where it was written there (op_grad_strided). */
#include "autograd/op.h"

static err slice_shape(const op_call *c, tensor *out)
{
    const tensor *x = c->in[0];
    int           along = c->p.slice.dim;
    int64_t       start = c->p.slice.start, length = c->p.slice.length;
    if (along < 0 || along >= x->ndim)
        return op_shape_error(c, "no such dimension");
    if (start < 0 || length < 0 || start > x->dim[along] || length > x->dim[along] - start)
        return op_shape_error(c, "the slice leaves the tensor");
    tensor_set_shape(out, x->ndim, x->dim);
    out->dim[along] = length;
    return OK;
}

/* Narrows the view `part` of a tensor to the slice. */
static void narrow(const op_call *c, tensor *part)
{
    int along = c->p.slice.dim;
    part->dim[along] = c->p.slice.length;
    part->data = (char *)part->data + (size_t)(c->p.slice.start * part->stride[along]) * dtype_bytes(part->type);
}

static err slice_forward(ag *g, op_call *c)
{
    (void)g;
    for (int i = 0; i < c->out->ndim; i++)
        c->out->stride[i] = c->in[0]->stride[i];
    narrow(c, c->out);
    return OK;
}

static err slice_backward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor *dx;
    bool    add;
    if (op_grad_shared(c))
        return OK;
    TRY(op_grad_strided(g, c, 0, &dx, &add));
    if (!add)
        TRY(d->p->fill(d, dx, 0.0f));
    tensor part = *dx;
    narrow(c, &part);
    return d->p->copy(d, &part, c->out->grad, true);
}

const op op_slice = {
    .name = "slice",
    .signature = "(..,n,..) -> (..,length,..)",
    .inputs = 1,
    .view = true,
    .shape = slice_shape,
    .forward = slice_forward,
    .backward = slice_backward,
};

tensor *ag_slice(ag *g, tensor *x, int dim, int64_t start, int64_t length)
{
    return ag_apply(g, (op_call){.op = &op_slice, .in = {x}, .p.slice = {dim, start, length}});
}
