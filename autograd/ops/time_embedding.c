/* time_embedding: t f32 (...) -> y f32 (...,dim), dim even.
 *   y = [cos(t f_0) .. cos(t f_{dim/2-1}) | sin(t f_0) ..],  f_k = 10000^(-k/(dim/2))
 * (diffusers' get_timestep_embedding with flip_sin_to_cos and shift 0, in its f32 steps). Not differentiable. */
#include "autograd/op.h"

static err time_embedding_shape(const op_call *c, tensor *out)
{
    const tensor *t = c->in[0];
    int64_t       size = c->p.embedding.size, dim[TENSOR_MAX_DIM];
    if (t->type != DT_F32 || t->ndim >= TENSOR_MAX_DIM || size < 2 || size % 2)
        return op_shape_error(c, "t is f32, dim is even");
    for (int i = 0; i < t->ndim; i++)
        dim[i] = t->dim[i];
    dim[t->ndim] = size;
    tensor_set_shape(out, t->ndim + 1, dim);
    return OK;
}

static err time_embedding_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    return d->p->time_embedding(d, c->out, c->in[0]);
}

const op op_time_embedding = {
    .name = "time_embedding",
    .signature = "(...) -> (...,dim)",
    .inputs = 1,
    .shape = time_embedding_shape,
    .forward = time_embedding_forward,
};

tensor *ag_time_embedding(ag *g, tensor *t, int64_t dim)
{
    return ag_apply(g, (op_call){.op = &op_time_embedding, .in = {t}, .p.embedding.size = dim});
}
