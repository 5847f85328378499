/* box_mask: boxes f32 (B,S,4), xyxy in [0,1] -> u8 (B,S,h*w), 1 where subject s covers the grid's query.
 *   columns floor(x0*w)..ceil(x1*w)-1, rows floor(y0*h)..ceil(y1*h)-1, products in f32
 * (the reference's prepare_attention_mask_qk, with the grid's real sides). Not differentiable. */
#include "autograd/op.h"

static err box_mask_shape(const op_call *c, tensor *out)
{
    const tensor *boxes = c->in[0];
    if (boxes->ndim != 3 || boxes->dim[2] != 4 || boxes->type != DT_F32)
        return op_shape_error(c, "boxes are f32 with 4 coordinates");
    if (c->p.grid.h < 1 || c->p.grid.w < 1)
        return op_shape_error(c, "the grid is empty");
    out->type = DT_U8;
    tensor_set_shape(out, DIMS(boxes->dim[0], boxes->dim[1], c->p.grid.h * c->p.grid.w));
    return OK;
}

static err box_mask_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    return d->p->box_mask(d, c->out, c->in[0], c->p.grid.h, c->p.grid.w);
}

const op op_box_mask = {
    .name = "box_mask",
    .signature = "(B,S,4) -> (B,S,h*w)",
    .inputs = 1,
    .shape = box_mask_shape,
    .forward = box_mask_forward,
};

tensor *ag_box_mask(ag *g, tensor *boxes, int64_t h, int64_t w)
{
    return ag_apply(g, (op_call){.op = &op_box_mask, .in = {boxes}, .p.grid = {h, w}});
}
