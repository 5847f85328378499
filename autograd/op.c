#include "autograd/op.h"

#include <string.h>

#define X(n) &op_##n,
const op *const op_all[] = {OP_LIST(X)};
#undef X
const int op_count = sizeof op_all / sizeof *op_all;

tensor op_flat(const tensor *x, int ndim, const int64_t *dim)
{
    CHECK(tensor_contiguous(x), "%s: flat view of a strided tensor", x->name);
    tensor flat = *x;
    tensor_set_shape(&flat, ndim, dim);
    CHECK(tensor_count(&flat) == tensor_count(x), "%s: flat view changes the number of elements", x->name);
    return flat;
}

tensor op_rows(const tensor *x)
{
    int64_t last = x->dim[x->ndim - 1];
    return op_flat(x, DIMS(last ? tensor_count(x) / last : 0, last));
}

err shape_like_first(const op_call *c, tensor *out)
{
    out->type = c->in[0]->type;
    tensor_set_shape(out, c->in[0]->ndim, c->in[0]->dim);
    return OK;
}

err shape_broadcast(const op_call *c, tensor *out)
{
    const tensor *a = c->in[0], *b = c->in[1];
    for (int i = 1; i <= b->ndim; i++)
        if (i > a->ndim || (b->dim[b->ndim - i] != a->dim[a->ndim - i] && b->dim[b->ndim - i] != 1))
            return op_shape_error(c, "the second does not broadcast to the first");
    return shape_like_first(c, out);
}

err op_shape_error(const op_call *c, const char *what)
{
    arena text = {0};
    const char *shapes = "";
    for (int i = 0; i < c->op->inputs; i++)
        if (c->in[i])
            shapes = arena_print(&text, "%s %s%s", shapes, c->in[i]->name, tensor_shape_text(&text, c->in[i]));
    err e = err_set(E_SHAPE, "%s: %s: got%s, the rule is %s", c->op->name, what, shapes, c->op->signature);
    arena_free(&text);
    return e;
}
