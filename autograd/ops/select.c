/* select: pick i32 (B), a (1 or B,...), b (B,...) -> y (B,...), y[i] = pick[i] ? a[i] : b[i]; a of one row
 * serves every sample. Gradients to a (summed over samples if it has one row) and b. */
#include "autograd/op.h"

static err select_shape(const op_call *c, tensor *out)
{
    const tensor *pick = c->in[0], *a = c->in[1], *b = c->in[2];
    if (pick->ndim != 1 || pick->type != DT_I32 || b->ndim < 1 || pick->dim[0] != b->dim[0])
        return op_shape_error(c, "pick needs one i32 for each sample");
    if (a->ndim != b->ndim || a->type != b->type || (a->dim[0] != 1 && a->dim[0] != b->dim[0]))
        return op_shape_error(c, "a needs one row or as many as b");
    for (int i = 1; i < b->ndim; i++)
        if (a->dim[i] != b->dim[i])
            return op_shape_error(c, "a and b differ");
    out->type = b->type;
    tensor_set_shape(out, b->ndim, b->dim);
    return OK;
}

static err select_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    op_save(c, 0, c->in[0]);
    return d->p->select(d, c->out, c->in[0], c->in[1], c->in[2]);
}

static err select_backward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor *da, *db;
    bool    add_a, add_b;
    TRY(op_grad(g, c, 1, &da, &add_a));
    TRY(op_grad(g, c, 2, &db, &add_b));
    return d->p->select_backward(d, da, db, c->out->grad, c->saved[0], add_a, add_b);
}

const op op_select = {
    .name = "select",
    .signature = "(B) (1|B,...) (B,...) -> (B,...)",
    .inputs = 3,
    .shape = select_shape,
    .forward = select_forward,
    .backward = select_backward,
};

tensor *ag_select(ag *g, tensor *pick, tensor *a, tensor *b)
{
    return ag_apply(g, (op_call){.op = &op_select, .in = {pick, a, b}});
}
