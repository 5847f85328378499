/* box_embedding: boxes f32 (...,4), xyxy in [0,1] -> y f32 (...,8*freqs).
 *   for each frequency f_k = 100^(k/freqs): sin(f_k x) of the 4 coordinates, then cos(f_k x) of the 4
 * (the reference's FourierEmbedder; no 2 pi). Not differentiable. */
#include "autograd/op.h"

static err box_embedding_shape(const op_call *c, tensor *out)
{
    const tensor *boxes = c->in[0];
    int           freqs = c->p.embedding.freqs;
    if (boxes->type != DT_F32 || boxes->ndim < 1 || boxes->dim[boxes->ndim - 1] != 4 || freqs < 1)
        return op_shape_error(c, "boxes are f32 with 4 coordinates");
    tensor_set_shape(out, boxes->ndim, boxes->dim);
    out->dim[boxes->ndim - 1] = 8 * freqs;
    tensor_set_shape(out, boxes->ndim, out->dim);
    return OK;
}

static err box_embedding_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    return d->p->box_embedding(d, c->out, c->in[0], c->p.embedding.freqs);
}

const op op_box_embedding = {
    .name = "box_embedding",
    .signature = "(...,4) -> (...,8*freqs)",
    .inputs = 1,
    .shape = box_embedding_shape,
    .forward = box_embedding_forward,
};

tensor *ag_box_embedding(ag *g, tensor *boxes, int freqs)
{
    return ag_apply(g, (op_call){.op = &op_box_embedding, .in = {boxes}, .p.embedding.freqs = freqs});
}
