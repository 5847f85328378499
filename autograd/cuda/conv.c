/* Convolutions through cuDNN's graphs, NHWC. The epilogue is residual, then bias: the order that has precompiled
 * kernels; a graph without an engine is computed as the bare convolution and the additions after it. A pointwise
 * convolution is a product. Padding that differs between the sides, which few engines know, is laid around a copy. */
#include "autograd/cuda/dnn.h"

enum { ID_X = 1, ID_W, ID_Y, ID_BIAS, ID_RESIDUAL };

static cudnnDataType_t type_of(bool bf16)
{
    return bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

/* (B,H,W,C) as the library counts it, (n,c,h,w); weights (O,KH,KW,I) likewise. */
static dnn_shape nhwc(const tensor *t)
{
    int64_t n = t->dim[0], h = t->dim[1], w = t->dim[2], c = t->dim[3];
    return (dnn_shape){{n, c, h, w}, {h * w * c, 1, w * c, c}};
}

typedef struct convolution {
    const tensor  *x, *w, *y; /* shapes; for the gradient dx and dy */
    conv_geometry  g;
    bool           bf16, bias, residual, backward;
} convolution;

/* ---- graphs ---- */

static descriptor geometry_of(dnn_graph *g, const conv_geometry *c)
{
    const int64_t two = 2, before[2] = {c->pad_top, c->pad_left}, after[2] = {c->pad_bottom, c->pad_right};
    const int64_t stride[2] = {c->stride, c->stride}, dilation[2] = {1, 1};
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    descriptor d = dnn_make(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two);
    dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, before);
    dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, after);
    dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    dnn_set(g, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    return dnn_finish(g, d);
}

static void forward_graph(dnn_graph *g, const convolution *c)
{
    const float one = 1.0f, zero = 0.0f;
    dnn_shape x = nhwc(c->x), w = nhwc(c->w), y = nhwc(c->y),
              bias = {{1, y.dim[1], 1, 1}, {y.dim[1], 1, y.dim[1], y.dim[1]}};
    cudnnDataType_t type = type_of(c->bf16);
    descriptor result = dnn_tensor(g, ID_Y, &y, type, DNN_REAL);
    descriptor to = c->bias || c->residual ? dnn_between(g, &y, CUDNN_DATA_FLOAT) : result;
    descriptor d = dnn_make(g, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    dnn_link(g, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, dnn_tensor(g, ID_X, &x, type, DNN_REAL));
    dnn_link(g, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, dnn_tensor(g, ID_W, &w, type, DNN_REAL));
    dnn_link(g, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, to);
    dnn_link(g, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, geometry_of(g, &c->g));
    dnn_set(g, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one);
    dnn_set(g, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero);
    dnn_operation(g, d);
    if (c->residual) {
        descriptor sum = c->bias ? dnn_between(g, &y, CUDNN_DATA_FLOAT) : result;
        dnn_pointwise(g, sum, CUDNN_POINTWISE_ADD, to, dnn_tensor(g, ID_RESIDUAL, &y, type, DNN_REAL));
        to = sum;
    }
    if (c->bias)
        dnn_pointwise(g, result, CUDNN_POINTWISE_ADD, to, dnn_tensor(g, ID_BIAS, &bias, type, DNN_REAL));
}

static void backward_graph(dnn_graph *g, const convolution *c)
{
    const float one = 1.0f, zero = 0.0f;
    dnn_shape x = nhwc(c->x), w = nhwc(c->w), y = nhwc(c->y);
    cudnnDataType_t type = type_of(c->bf16);
    descriptor d = dnn_make(g, CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR);
    dnn_link(g, d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, dnn_tensor(g, ID_Y, &y, type, DNN_REAL));
    dnn_link(g, d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, dnn_tensor(g, ID_W, &w, type, DNN_REAL));
    dnn_link(g, d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, dnn_tensor(g, ID_X, &x, type, DNN_REAL));
    dnn_link(g, d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, geometry_of(g, &c->g));
    dnn_set(g, d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_TYPE_FLOAT, 1, &one);
    dnn_set(g, d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, CUDNN_TYPE_FLOAT, 1, &zero);
    dnn_operation(g, d);
}

static void build(dnn_graph *g, const void *what)
{
    const convolution *c = what;
    if (c->backward)
        backward_graph(g, c);
    else
        forward_graph(g, c);
}

/* The plan of a convolution, NULL where the library has no engine. */
static err plan_of(const dnn_plan **out, cuda_state *s, const convolution *c)
{
    const tensor *x = c->x, *w = c->w;
    int64_t key[] = {1 + c->backward, x->dim[0], x->dim[1],   x->dim[2],    x->dim[3],     w->dim[0],
                     w->dim[1],       w->dim[2], c->g.stride, c->g.pad_top, c->g.pad_left, c->g.pad_bottom,
                     c->g.pad_right,  c->bf16,   c->bias,     c->residual};
    return cuda_plan(out, s, key, (int)(sizeof key / sizeof *key), !c->bf16, build, c);
}

/* Runs what plan_of gave; pointers in the order of the ids, NULL ones are left out. */
static err run(device *d, const dnn_plan *plan, void *const pointer[5])
{
    int64_t id[5];
    void   *given[5];
    int     count = 0;
    cuda_scratch s;
    TRY(cuda_scratch_get(d, &s, plan->workspace));
    for (int i = 0; i < 5; i++)
        if (pointer[i]) {
            id[count] = ID_X + i;
            given[count++] = pointer[i];
        }
    err e = d->dataless ? OK : dnn_run(cuda_state_of(d)->dnn, plan, id, given, count, s.data);
    cuda_scratch_put(d, &s);
    return e;
}

static err no_engine(const convolution *c)
{
    return err_set(E_DEVICE,
                   "cuda: cuDNN has no engine for the %s of a convolution of %s by %lld x %lld, %s; update cuDNN "
                   "or use --device cpu",
                   c->backward ? "data gradient" : "forward", c->w->name, (long long)c->w->dim[1],
                   (long long)c->w->dim[2], c->bf16 ? "bf16" : "f32");
}

/* ---- forward ---- */

static err add_after(device *d, tensor *y, const tensor *bias, const tensor *residual, bool bf16)
{
    if (d->dataless)
        return OK;
    if (residual) {
        cuda_walk w = cuda_walk_of(y, residual);
        CUDA_TRY(cuda_add_launch(y->data, y->data, residual->data, &w, bf16, cuda_stream_of(d)));
    }
    if (bias) {
        cuda_walk w = cuda_walk_of(y, bias);
        CUDA_TRY(cuda_add_launch(y->data, y->data, bias->data, &w, bf16, cuda_stream_of(d)));
    }
    return OK;
}

static err forward(device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias, const tensor *residual,
                   convolution *c)
{
    cuda_state *s = cuda_state_of(d);
    const dnn_plan *plan;
    c->x = x;
    c->bias = bias != NULL;
    c->residual = residual != NULL;
    TRY(plan_of(&plan, s, c));
    if (plan)
        return run(d, plan,
                   (void *[5]){x->data, w->data, y->data, bias ? bias->data : NULL, residual ? residual->data : NULL});
    c->bias = c->residual = false;
    TRY(plan_of(&plan, s, c));
    if (!plan)
        return no_engine(c);
    CHECK(!residual || residual->data != y->data, "conv2d of %s in place of its residual", w->name);
    TRY(run(d, plan, (void *[5]){x->data, w->data, y->data}));
    return add_after(d, y, bias, residual, c->bf16);
}

static bool lopsided(const conv_geometry *g)
{
    return g->pad_top != g->pad_bottom || g->pad_left != g->pad_right;
}

/* x's shape with the padding around it, and x's place inside; `data` is the padded tensor's. */
static void pad_around(tensor *padded, tensor *inside, const tensor *x, const conv_geometry *g, void *data)
{
    int64_t dim[4] = {x->dim[0], x->dim[1] + g->pad_top + g->pad_bottom, x->dim[2] + g->pad_left + g->pad_right,
                      x->dim[3]};
    *padded = *x;
    padded->data = data;
    tensor_set_shape(padded, 4, dim);
    *inside = *padded;
    inside->dim[1] = x->dim[1];
    inside->dim[2] = x->dim[2];
    int64_t first = g->pad_top * padded->stride[1] + g->pad_left * padded->stride[2];
    inside->data = (char *)data + first * (int64_t)dtype_bytes(x->type);
}

static size_t padded_bytes(const tensor *x, const conv_geometry *g)
{
    int64_t rows = x->dim[1] + g->pad_top + g->pad_bottom, columns = x->dim[2] + g->pad_left + g->pad_right;
    return (size_t)(x->dim[0] * rows * columns * x->dim[3]) * dtype_bytes(x->type);
}

static err forward_padded(device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias,
                          const tensor *residual, convolution *c)
{
    tensor padded, inside;
    cuda_scratch s;
    TRY(cuda_scratch_get(d, &s, padded_bytes(x, &c->g)));
    pad_around(&padded, &inside, x, &c->g, s.data);
    err e = d->dataless ? OK : cuda_fill(d, &padded, 0.0f);
    if (e == OK && !d->dataless)
        e = cuda_copy(d, &inside, x, false);
    c->g = (conv_geometry){.stride = c->g.stride};
    if (e == OK)
        e = forward(d, y, &padded, w, bias, residual, c);
    cuda_scratch_put(d, &s);
    return e;
}

/* A convolution that sees one pixel at a time, as a product of its pixels. */
static bool pointwise(const tensor *w, const conv_geometry *g)
{
    return w->dim[1] == 1 && w->dim[2] == 1 && g->stride == 1 && !g->pad_top && !g->pad_left && !g->pad_bottom &&
           !g->pad_right;
}

static tensor as_matrix(const tensor *t, int64_t columns)
{
    tensor m = *t;
    tensor_set_shape(&m, 2, (int64_t[]){columns ? tensor_count(t) / columns : 0, columns});
    return m;
}

err cuda_conv2d(device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias, const tensor *residual,
                const conv_geometry *g)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "conv2d", CUDA_TENSORS(w, x, y, bias, residual)));
    if (pointwise(w, g)) {
        tensor to = as_matrix(y, w->dim[0]), from = as_matrix(x, w->dim[3]), weight = as_matrix(w, w->dim[3]), rest;
        if (residual)
            rest = as_matrix(residual, w->dim[0]);
        return d->dataless ? OK : cuda_linear(d, &to, &from, &weight, bias, residual ? &rest : NULL);
    }
    convolution c = {.w = w, .y = y, .g = *g, .bf16 = bf16};
    return lopsided(g) ? forward_padded(d, y, x, w, bias, residual, &c) : forward(d, y, x, w, bias, residual, &c);
}

/* ---- data gradient ---- */

/* dx, overwritten: into `to`, which may be dx or scratch. */
static err backward(device *d, tensor *to, const tensor *dy, const tensor *w, const conv_geometry *g, bool bf16)
{
    const dnn_plan *plan;
    convolution c = {.x = to, .w = w, .y = dy, .g = *g, .bf16 = bf16, .backward = true};
    TRY(plan_of(&plan, cuda_state_of(d), &c));
    return plan ? run(d, plan, (void *[5]){to->data, w->data, dy->data}) : no_engine(&c);
}

/* Through scratch: where it is added, or the padding is cut off. */
static err backward_aside(device *d, tensor *dx, const tensor *dy, const tensor *w, const conv_geometry *g, bool bf16,
                          bool add)
{
    tensor padded, inside;
    cuda_scratch s;
    bool cut = lopsided(g);
    const conv_geometry none = {.stride = g->stride};
    const conv_geometry around = cut ? *g : none;
    TRY(cuda_scratch_get(d, &s, padded_bytes(dx, &around)));
    pad_around(&padded, &inside, dx, &around, s.data);
    err e = backward(d, &padded, dy, w, cut ? &none : g, bf16);
    if (e == OK && !d->dataless)
        e = cuda_copy(d, dx, &inside, add);
    cuda_scratch_put(d, &s);
    return e;
}

err cuda_conv2d_dx(device *d, tensor *dx, const tensor *dy, const tensor *w, const conv_geometry *g, bool add)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "conv2d_dx", CUDA_TENSORS(w, dx, dy)));
    if (pointwise(w, g)) {
        tensor to = as_matrix(dx, w->dim[3]), from = as_matrix(dy, w->dim[0]), weight = as_matrix(w, w->dim[3]);
        return d->dataless ? OK : cuda_linear_dx(d, &to, &from, &weight, add);
    }
    return add || lopsided(g) ? backward_aside(d, dx, dy, w, g, bf16, add) : backward(d, dx, dy, w, g, bf16);
}
