#include "autograd/cpu/onednn_conv.h"

#include <string.h>

#include "autograd/cpu/onednn_kept.h"

enum { VECTOR = 16 };

static dnnl_data_type_t data_type(int64_t type)
{
    return type == DT_BF16 ? dnnl_bf16 : dnnl_f32;
}

/* ---- the order of blocked weights ---- */

/* words: kind, O, KH, KW, I, type */
static key layout_key(const conv_shape *s, int kind)
{
    return (key){{kind, s->out, s->kernel_height, s->kernel_width, s->in, s->type}};
}

/* What a convolution of stride 1 over a picture of common size reads: it depends on the channels, hardly on more. */
static dnnl_status_t preferred(onednn *o, dnnl_memory_desc_t *out, const key *k)
{
    const int64_t *w = k->word;
    enum { SIDE = 32 };
    dnnl_dims_t stride = {1, 1}, pad = {w[2] / 2, w[3] / 2};
    int64_t height = SIDE + 2 * pad[0] - w[2] + 1, width = SIDE + 2 * pad[1] - w[3] + 1;
    dnnl_data_type_t type = data_type(w[5]);
    dnnl_memory_desc_t x, y, any;
    DNNL(dnnl_memory_desc_init_by_tag(&x, 4, (dnnl_dims_t){1, w[4], SIDE, SIDE}, type, dnnl_nhwc));
    DNNL(dnnl_memory_desc_init_by_tag(&y, 4, (dnnl_dims_t){1, w[1], height, width}, type, dnnl_nhwc));
    DNNL(dnnl_memory_desc_init_by_tag(&any, 4, (dnnl_dims_t){w[1], w[4], w[2], w[3]}, type, dnnl_format_tag_any));
    dnnl_convolution_desc_t op;
    DNNL(dnnl_convolution_forward_desc_init(&op, dnnl_forward_inference, dnnl_convolution_direct, &x, &any, NULL, &y,
                                            stride, pad, pad));
    dnnl_primitive_desc_t made;
    DNNL(dnnl_primitive_desc_create(&made, &op, NULL, onednn_engine(o), NULL));
    *out = *dnnl_primitive_desc_query_md(made, dnnl_query_weights_md, 0);
    return dnnl_primitive_desc_destroy(made);
}

/* f32 channels in whole vectors: blocks of 16 inputs x 16 outputs, which winograd.c reads too. */
static dnnl_status_t blocked_desc(onednn *o, dnnl_memory_desc_t *out, const key *k)
{
    const int64_t *w = k->word;
    if (w[5] != DT_F32 || w[1] % VECTOR || w[4] % VECTOR)
        return preferred(o, out, k);
    return dnnl_memory_desc_init_by_tag(out, 4, (dnnl_dims_t){w[1], w[4], w[2], w[3]}, dnnl_f32, dnnl_OIhw16i16o);
}

static dnnl_status_t plain_desc(dnnl_memory_desc_t *out, const key *k)
{
    const int64_t *w = k->word;
    return dnnl_memory_desc_init_by_tag(out, 4, (dnnl_dims_t){w[1], w[4], w[2], w[3]}, data_type(w[5]), dnnl_ohwi);
}

/* p->reorder: from p->b to p->inner, unless they are the same. */
static dnnl_status_t make_reorder(onednn *o, kept *p)
{
    if (dnnl_memory_desc_equal(&p->inner, &p->b))
        return dnnl_success;
    dnnl_primitive_attr_t attributes;
    DNNL(dnnl_primitive_attr_create(&attributes));
    dnnl_status_t status = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    if (status == dnnl_success)
        status = dnnl_reorder_primitive_desc_create(&p->reorder_desc, &p->b, onednn_engine(o), &p->inner,
                                                    onednn_engine(o), attributes);
    dnnl_primitive_attr_destroy(attributes);
    DNNL(status);
    p->reorder_scratch = *dnnl_primitive_desc_query_md(p->reorder_desc, dnnl_query_scratchpad_md, 0);
    return dnnl_primitive_create(&p->reorder, p->reorder_desc);
}

static dnnl_status_t make_block(onednn *o, kept *p)
{
    DNNL(plain_desc(&p->b, &p->k));
    DNNL(blocked_desc(o, &p->inner, &p->k));
    return make_reorder(o, p);
}

static dnnl_status_t make_unblock(onednn *o, kept *p)
{
    DNNL(blocked_desc(o, &p->b, &p->k));
    DNNL(plain_desc(&p->inner, &p->k));
    return make_reorder(o, p);
}

static err run_reorder(device *d, const kept *p, void *to, const void *from)
{
    onednn *o = d->state;
    void *scratch = NULL;
    size_t bytes = dnnl_memory_desc_get_size(&p->reorder_scratch);
    TRY(onednn_take(d, &scratch, bytes));
    if (d->dataless) {
        onednn_give(d, scratch, bytes);
        return OK;
    }
    arguments args = {.count = 0};
    dnnl_status_t s = onednn_bind(o, &args, DNNL_ARG_FROM, &p->b, from);
    s = s ? s : onednn_bind(o, &args, DNNL_ARG_TO, &p->inner, to);
    s = s || !scratch ? s : onednn_bind(o, &args, DNNL_ARG_SCRATCHPAD, &p->reorder_scratch, scratch);
    s = onednn_execute(o, &args, p->reorder, s);
    onednn_give(d, scratch, bytes);
    return s == dnnl_success ? OK : onednn_refused(s, "a layout of weights", &p->k);
}

err onednn_conv_blocked_bytes(device *d, size_t *bytes, const conv_shape *s)
{
    key id = layout_key(s, KIND_CONV_BLOCK);
    kept *p = NULL;
    TRY(onednn_find(d->state, &p, &id, make_block, "a layout of weights"));
    *bytes = dnnl_memory_desc_get_size(&p->inner);
    return OK;
}

static err convert_layout(device *d, void *to, const void *from, const conv_shape *s, int kind, onednn_make *make)
{
    key id = layout_key(s, kind);
    kept *p = NULL;
    TRY(onednn_find(d->state, &p, &id, make, "a layout of weights"));
    if (p->reorder)
        return run_reorder(d, p, to, from);
    memcpy(to, from, dnnl_memory_desc_get_size(&p->inner));
    return OK;
}

err onednn_conv_block(device *d, void *blocked, const void *plain, const conv_shape *s)
{
    return convert_layout(d, blocked, plain, s, KIND_CONV_BLOCK, make_block);
}

err onednn_conv_unblock(device *d, void *plain, const void *blocked, const conv_shape *s)
{
    return convert_layout(d, plain, blocked, s, KIND_CONV_UNBLOCK, make_unblock);
}

/* ---- the convolutions ---- */

/* Places in a convolution's key. */
enum { BATCH = 1, HEIGHT, WIDTH, IN, OUT_HEIGHT, OUT_WIDTH, OUT, KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE, PADS, BIAS = 15,
       ADD, TYPES, WEIGHTS };

static key conv_key(int kind, const conv_shape *s, dtype a_type, bool bias, bool add)
{
    const conv_geometry *g = &s->geometry;
    return (key){{kind, s->batch, s->height, s->width, s->in, s->out_height, s->out_width, s->out, s->kernel_height,
                  s->kernel_width, g->stride, g->pad_top, g->pad_left, g->pad_bottom, g->pad_right, bias, add,
                  a_type * DTYPE_COUNT + s->type, s->weights}};
}

static dnnl_status_t conv_descs(onednn *o, kept *p)
{
    const int64_t *w = p->k.word;
    int64_t        type = w[TYPES] % DTYPE_COUNT;
    key            weights = {{0, w[OUT], w[KERNEL_HEIGHT], w[KERNEL_WIDTH], w[IN], type}};
    dnnl_dims_t    filter = {w[OUT], w[IN], w[KERNEL_HEIGHT], w[KERNEL_WIDTH]};
    DNNL(dnnl_memory_desc_init_by_tag(&p->a, 4, (dnnl_dims_t){w[BATCH], w[IN], w[HEIGHT], w[WIDTH]},
                                      data_type(w[TYPES] / DTYPE_COUNT), dnnl_nhwc));
    DNNL(w[WEIGHTS] == CONV_BLOCKED ? blocked_desc(o, &p->b, &weights) : plain_desc(&p->b, &weights));
    DNNL(dnnl_memory_desc_init_by_tag(&p->inner, 4, filter, data_type(type), dnnl_format_tag_any));
    DNNL(dnnl_memory_desc_init_by_tag(&p->c, 4, (dnnl_dims_t){w[BATCH], w[OUT], w[OUT_HEIGHT], w[OUT_WIDTH]},
                                      data_type(type), dnnl_nhwc));
    return dnnl_memory_desc_init_by_tag(&p->bias, 1, (dnnl_dims_t){w[OUT]}, data_type(type), dnnl_x);
}

static dnnl_status_t make_conv(onednn *o, kept *p)
{
    const int64_t *w = p->k.word, *pads = w + PADS;
    DNNL(conv_descs(o, p));
    dnnl_dims_t stride = {w[STRIDE], w[STRIDE]}, before = {pads[0], pads[1]}, after = {pads[2], pads[3]};
    dnnl_convolution_desc_t op;
    if (w[0] == KIND_CONV)
        DNNL(dnnl_convolution_forward_desc_init(&op, dnnl_forward_inference, dnnl_convolution_direct, &p->a, &p->inner,
                                                w[BIAS] ? &p->bias : NULL, &p->c, stride, before, after));
    else
        DNNL(dnnl_convolution_backward_data_desc_init(&op, dnnl_convolution_direct, &p->a, &p->inner, &p->c, stride,
                                                      before, after));
    DNNL(onednn_finish(o, p, &op, w[ADD] != 0));
    p->inner = *dnnl_primitive_desc_query_md(p->desc, dnnl_query_weights_md, 0);
    return make_reorder(o, p);
}

static err run_arranged(device *d, const kept *p, const void *a, const void *w, const void *bias, const void *c)
{
    onednn *o = d->state;
    bool forward = p->k.word[0] == KIND_CONV;
    void *scratch = NULL;
    size_t bytes = dnnl_memory_desc_get_size(&p->scratch);
    TRY(onednn_take(d, &scratch, bytes));
    if (d->dataless) {
        onednn_give(d, scratch, bytes);
        return OK;
    }
    arguments args = {.count = 0};
    dnnl_status_t s = onednn_bind(o, &args, forward ? DNNL_ARG_SRC : DNNL_ARG_DIFF_SRC, &p->a, a);
    s = s ? s : onednn_bind(o, &args, DNNL_ARG_WEIGHTS, &p->inner, w);
    s = s ? s : onednn_bind(o, &args, forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, &p->c, c);
    s = s || !bias ? s : onednn_bind(o, &args, DNNL_ARG_BIAS, &p->bias, bias);
    s = s || !scratch ? s : onednn_bind(o, &args, DNNL_ARG_SCRATCHPAD, &p->scratch, scratch);
    s = onednn_execute(o, &args, p->primitive, s);
    onednn_give(d, scratch, bytes);
    return s == dnnl_success ? OK : onednn_refused(s, "a convolution", &p->k);
}

static err run_conv(device *d, const key *id, const void *a, const void *w, const void *bias, const void *c)
{
    kept *p = NULL;
    TRY(onednn_find(d->state, &p, id, make_conv, "a convolution"));
    if (!p->reorder)
        return run_arranged(d, p, a, w, bias, c);
    void  *arranged = NULL;
    size_t bytes = dnnl_memory_desc_get_size(&p->inner);
    TRY(onednn_take(d, &arranged, bytes));
    err e = run_reorder(d, p, arranged, w);
    if (e == OK)
        e = run_arranged(d, p, a, arranged, bias, c);
    onednn_give(d, arranged, bytes);
    return e;
}

err onednn_conv(device *d, void *y, const void *x, const void *w, const void *bias, const conv_shape *s, bool add)
{
    key id = conv_key(KIND_CONV, s, s->type, bias != NULL, add);
    return run_conv(d, &id, x, w, bias, y);
}

err onednn_conv_dx(device *d, void *dx, dtype dx_type, const void *dy, const void *w, const conv_shape *s)
{
    key id = conv_key(KIND_CONV_DX, s, dx_type, false, false);
    return run_conv(d, &id, dx, w, NULL, dy);
}
