/* embedding: table (v,c), ids i32 (...) -> y (...,c), y[i] = table[ids[i]]. An id outside the table is E_SHAPE.
 * Gradient to the table: rows of dy are added in the order of the ids. */
#include "autograd/op.h"

static err embedding_shape(const op_call *c, tensor *out)
{
    const tensor *table = c->in[0], *ids = c->in[1];
    if (table->ndim != 2 || ids->ndim >= TENSOR_MAX_DIM || ids->type != DT_I32)
        return op_shape_error(c, "the table needs two dimensions, ids are i32");
    int64_t dim[TENSOR_MAX_DIM];
    for (int i = 0; i < ids->ndim; i++)
        dim[i] = ids->dim[i];
    dim[ids->ndim] = table->dim[1];
    tensor_set_shape(out, ids->ndim + 1, dim);
    return OK;
}

static err embedding_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    op_save(c, 0, c->in[1]);
    return d->p->embedding(d, c->out, c->in[0], c->in[1]);
}

static err embedding_backward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    tensor *dtable;
    bool    add;
    TRY(op_grad(g, c, 0, &dtable, &add));
    return dtable ? d->p->embedding_dtable(d, dtable, c->out->grad, c->saved[0], add) : OK;
}

const op op_embedding = {
    .name = "embedding",
    .signature = "(v,c) (...) -> (...,c)",
    .inputs = 2,
    .shape = embedding_shape,
    .forward = embedding_forward,
    .backward = embedding_backward,
};

tensor *ag_embedding(ag *g, tensor *table, tensor *ids)
{
    return ag_apply(g, (op_call){.op = &op_embedding, .in = {table, ids}});
}
