/* geglu: x (...,2m) = [a|b] -> y (...,m)
 *     y = a gelu(b);  da = dy gelu(b);  db = dy a gelu'(b)   (Shazeer, "GLU variants improve transformer") */
#include "autograd/op.h"

static err geglu_shape(const op_call *c, tensor *out)
{
    const tensor *x = c->in[0];
    if (x->ndim < 1 || x->dim[x->ndim - 1] % 2)
        return op_shape_error(c, "the last dimension is not even");
    shape_like_first(c, out);
    out->dim[out->ndim - 1] /= 2;
    return OK;
}

static err geglu_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    op_save(c, 0, c->in[0]);
    return d->p->geglu(d, c->out, c->in[0]);
}

static err geglu_backward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor *grad;
    bool add;
    TRY(op_grad(g, c, 0, &grad, &add));
    return grad ? d->p->geglu_dx(d, grad, c->out->grad, c->saved[0], add) : OK;
}

const op op_geglu = {
    .name = "geglu", .signature = "(...,2m) -> (...,m)", .inputs = 1,
    .shape = geglu_shape, .forward = geglu_forward, .backward = geglu_backward,
};

tensor *ag_geglu(ag *g, tensor *x)
{
    return ag_apply(g, (op_call){.op = &op_geglu, .in = {x}});
}
