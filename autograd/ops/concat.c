/* concat: a (..,m,..), b (..,n,..) -> y (..,m+n,..) along one dimension; the others are equal. a and b may be
 * strided. Gradients: the two parts of dy. */
#include "autograd/op.h"

static err concat_shape(const op_call *c, tensor *out)
{
    const tensor *a = c->in[0], *b = c->in[1];
    int           along = c->p.slice.dim;
    if (a->ndim != b->ndim || a->type != b->type || along < 0 || along >= a->ndim)
        return op_shape_error(c, "dimensions or types differ");
    for (int i = 0; i < a->ndim; i++)
        if (i != along && a->dim[i] != b->dim[i])
            return op_shape_error(c, "only the dimension of the concatenation may differ");
    tensor_set_shape(out, a->ndim, a->dim);
    out->dim[along] += b->dim[along];
    tensor_set_shape(out, out->ndim, out->dim);
    return OK;
}

/* The places [start, start + length) of y's concatenated dimension. */
static tensor part_of(const op_call *c, const tensor *y, int64_t start, int64_t length)
{
    tensor part = *y;
    part.dim[c->p.slice.dim] = length;
    part.data = (char *)y->data + (size_t)(start * y->stride[c->p.slice.dim]) * dtype_bytes(y->type);
    return part;
}

static err concat_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    for (int i = 0; i < 2; i++) {
        int64_t start = i ? c->in[0]->dim[c->p.slice.dim] : 0;
        tensor  part = part_of(c, c->out, start, c->in[i]->dim[c->p.slice.dim]);
        TRY(d->p->copy(d, &part, c->in[i], false));
    }
    return OK;
}

static err concat_backward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    for (int i = 0; i < 2; i++) {
        tensor *dx;
        bool    add;
        TRY(op_grad(g, c, i, &dx, &add));
        if (!dx)
            continue;
        int64_t start = i ? c->in[0]->dim[c->p.slice.dim] : 0;
        tensor  part = part_of(c, c->out->grad, start, dx->dim[c->p.slice.dim]);
        TRY(d->p->copy(d, dx, &part, add));
    }
    return OK;
}

const op op_concat = {
    .name = "concat",
    .signature = "(..,m,..) (..,n,..) -> (..,m+n,..)",
    .inputs = 2,
    .shape = concat_shape,
    .forward = concat_forward,
    .backward = concat_backward,
};

tensor *ag_concat(ag *g, tensor *a, tensor *b, int dim)
{
    return ag_apply(g, (op_call){.op = &op_concat, .in = {a, b}, .p.slice.dim = dim});
}
