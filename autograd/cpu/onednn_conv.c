#include "autograd/cpu/onednn_conv.h"

#include "autograd/cpu/onednn_kept.h"

/* words: kind, B, H, W, I, OH, OW, O, KH, KW, stride, pads (top, left, bottom, right), bias, add */
static dnnl_status_t conv_descs(kept *p)
{
    const int64_t *w = p->k.word;
    DNNL(dnnl_memory_desc_init_by_tag(&p->a, 4, (dnnl_dims_t){w[1], w[4], w[2], w[3]}, dnnl_f32, dnnl_nhwc));
    DNNL(dnnl_memory_desc_init_by_tag(&p->b, 4, (dnnl_dims_t){w[7], w[4], w[8], w[9]}, dnnl_f32, dnnl_ohwi));
    DNNL(dnnl_memory_desc_init_by_tag(&p->inner, 4, (dnnl_dims_t){w[7], w[4], w[8], w[9]}, dnnl_f32,
                                      dnnl_format_tag_any));
    DNNL(dnnl_memory_desc_init_by_tag(&p->c, 4, (dnnl_dims_t){w[1], w[7], w[5], w[6]}, dnnl_f32, dnnl_nhwc));
    return dnnl_memory_desc_init_by_tag(&p->bias, 1, (dnnl_dims_t){w[7]}, dnnl_f32, dnnl_x);
}

static dnnl_status_t make_reorder(onednn *o, kept *p)
{
    p->inner = *dnnl_primitive_desc_query_md(p->desc, dnnl_query_weights_md, 0);
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

static dnnl_status_t make_conv(onednn *o, kept *p)
{
    const int64_t *w = p->k.word;
    DNNL(conv_descs(p));
    dnnl_dims_t stride = {w[10], w[10]}, before = {w[11], w[12]}, after = {w[13], w[14]};
    dnnl_convolution_desc_t op;
    if (w[0] == KIND_CONV)
        DNNL(dnnl_convolution_forward_desc_init(&op, dnnl_forward_inference, dnnl_convolution_direct, &p->a, &p->inner,
                                                w[15] ? &p->bias : NULL, &p->c, stride, before, after));
    else
        DNNL(dnnl_convolution_backward_data_desc_init(&op, dnnl_convolution_direct, &p->a, &p->inner, &p->c, stride,
                                                      before, after));
    DNNL(onednn_finish(o, p, &op, w[16] != 0));
    return make_reorder(o, p);
}

/* The weights in the layout that the primitive wants; *out is w itself or scratch of *bytes. */
static err arrange_weights(device *d, const void **out, void **scratch, size_t *bytes, const kept *p, const float *w)
{
    *out = w;
    *scratch = NULL;
    *bytes = dnnl_memory_desc_get_size(&p->inner);
    if (!p->reorder)
        return OK;
    onednn *o = d->state;
    void *own = NULL;
    size_t own_bytes = dnnl_memory_desc_get_size(&p->reorder_scratch);
    TRY(onednn_take(d, scratch, *bytes));
    err e = onednn_take(d, &own, own_bytes);
    if (e == OK) {
        arguments args = {.count = 0};
        dnnl_status_t s = onednn_bind(o, &args, DNNL_ARG_FROM, &p->b, w);
        s = s ? s : onednn_bind(o, &args, DNNL_ARG_TO, &p->inner, *scratch);
        s = s || !own ? s : onednn_bind(o, &args, DNNL_ARG_SCRATCHPAD, &p->reorder_scratch, own);
        s = onednn_execute(o, &args, p->reorder, s);
        onednn_give(d, own, own_bytes);
        e = s == dnnl_success ? OK : onednn_refused(s, "a layout of weights", &p->k);
    }
    if (e != OK)
        onednn_give(d, *scratch, *bytes);
    *out = *scratch;
    return e;
}

static key conv_key(int kind, const conv_shape *s, bool bias, bool add)
{
    const conv_geometry *g = &s->geometry;
    return (key){{kind, s->batch, s->height, s->width, s->in, s->out_height, s->out_width, s->out, s->kernel_height,
                  s->kernel_width, g->stride, g->pad_top, g->pad_left, g->pad_bottom, g->pad_right, bias, add}};
}

static err run_conv(device *d, const key *id, const float *a, const float *w, const float *bias, const float *c)
{
    onednn *o = d->state;
    bool forward = id->word[0] == KIND_CONV;
    kept *p = NULL;
    TRY(onednn_find(o, &p, id, make_conv, "a convolution"));
    const void *weights = NULL;
    void *arranged = NULL, *scratch = NULL;
    size_t arranged_bytes = 0, bytes = dnnl_memory_desc_get_size(&p->scratch);
    TRY(arrange_weights(d, &weights, &arranged, &arranged_bytes, p, w));
    err e = onednn_take(d, &scratch, bytes);
    if (e == OK) {
        arguments args = {.count = 0};
        dnnl_status_t s = onednn_bind(o, &args, forward ? DNNL_ARG_SRC : DNNL_ARG_DIFF_SRC, &p->a, a);
        s = s ? s : onednn_bind(o, &args, DNNL_ARG_WEIGHTS, &p->inner, weights);
        s = s ? s : onednn_bind(o, &args, forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, &p->c, c);
        s = s || !bias ? s : onednn_bind(o, &args, DNNL_ARG_BIAS, &p->bias, bias);
        s = s || !scratch ? s : onednn_bind(o, &args, DNNL_ARG_SCRATCHPAD, &p->scratch, scratch);
        s = onednn_execute(o, &args, p->primitive, s);
        onednn_give(d, scratch, bytes);
        e = s == dnnl_success ? OK : onednn_refused(s, "a convolution", id);
    }
    if (arranged)
        onednn_give(d, arranged, arranged_bytes);
    return e;
}

err onednn_conv(device *d, float *y, const float *x, const float *w, const float *bias, const conv_shape *s, bool add)
{
    key id = conv_key(KIND_CONV, s, bias != NULL, add);
    return run_conv(d, &id, x, w, bias, y);
}

err onednn_conv_dx(device *d, float *dx, const float *dy, const float *w, const conv_shape *s)
{
    key id = conv_key(KIND_CONV_DX, s, false, false);
    return run_conv(d, &id, dx, w, NULL, dy);
}
