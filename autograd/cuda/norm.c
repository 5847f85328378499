/* Group norm and layer norm: the kernels of group_norm.cu and layer_norm.cu. */
#include "autograd/cuda/cuda.h"

static void *data_of(const tensor *t)
{
    return t ? t->data : NULL;
}

/* x (B,...,C) as (batch,rows,channels). */
typedef struct grouped {
    int64_t batch, rows, channels;
} grouped;

static grouped grouped_of(const tensor *x)
{
    grouped g = {.batch = x->dim[0], .rows = 1, .channels = x->dim[x->ndim - 1]};
    for (int i = 1; i < x->ndim - 1; i++)
        g.rows *= x->dim[i];
    return g;
}

err cuda_group_norm(device *d, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *vec,
                    const tensor *w, const tensor *b, int groups, float eps, bool silu)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "group_norm", CUDA_TENSORS(x, y, vec, w, b)));
    TRY(cuda_need_f32("group_norm", mean));
    TRY(cuda_need_f32("group_norm", rstd));
    grouped g = grouped_of(x);
    cuda_scratch s;
    TRY(cuda_scratch_get(d, &s, cuda_group_norm_scratch_bytes(g.batch, g.rows, g.channels, groups)));
    if (d->dataless)
        return cuda_done(d, &s, cudaSuccess, "");
    return cuda_done(d, &s,
                     cuda_group_norm_launch(y->data, mean->data, rstd->data, x->data, data_of(vec), w->data, b->data,
                                            g.batch, g.rows, g.channels, groups, eps, silu, bf16, s.data,
                                            cuda_stream_of(d)),
                     "group_norm");
}

err cuda_group_norm_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, const tensor *vec, const tensor *w,
                       const tensor *b, const tensor *mean, const tensor *rstd, int groups, bool silu, bool add)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "group_norm_dx", CUDA_TENSORS(x, dx, dy, vec, w, b)));
    TRY(cuda_need_f32("group_norm_dx", mean));
    TRY(cuda_need_f32("group_norm_dx", rstd));
    grouped g = grouped_of(x);
    cuda_scratch s;
    TRY(cuda_scratch_get(d, &s, cuda_group_norm_dx_scratch_bytes(g.batch, g.rows, g.channels, groups)));
    if (d->dataless)
        return cuda_done(d, &s, cudaSuccess, "");
    return cuda_done(d, &s, cuda_group_norm_dx_launch(dx->data, dy->data, x->data, data_of(vec), w->data, b->data,
                                                      mean->data, rstd->data, g.batch, g.rows, g.channels, groups, silu,
                                                      add, bf16, s.data, cuda_stream_of(d)), "group_norm_dx");
}

static int64_t rows_of(const tensor *x)
{
    int64_t width = x->dim[x->ndim - 1];
    return width ? tensor_count(x) / width : 0;
}

err cuda_layer_norm(device *d, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *w, const tensor *b,
                    float eps)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "layer_norm", CUDA_TENSORS(x, y, w, b)));
    TRY(cuda_need_f32("layer_norm", mean));
    TRY(cuda_need_f32("layer_norm", rstd));
    CUDA_TRY(cuda_layer_norm_launch(y->data, data_of(mean), data_of(rstd), x->data, data_of(w), data_of(b), rows_of(x),
                                    x->dim[x->ndim - 1], eps, bf16, cuda_stream_of(d)));
    return OK;
}

err cuda_layer_norm_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, const tensor *w, const tensor *mean,
                       const tensor *rstd, bool add)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "layer_norm_dx", CUDA_TENSORS(x, dx, dy, w)));
    TRY(cuda_need_f32("layer_norm_dx", mean));
    TRY(cuda_need_f32("layer_norm_dx", rstd));
    CUDA_TRY(cuda_layer_norm_dx_launch(dx->data, dy->data, x->data, data_of(w), mean->data, rstd->data, rows_of(x),
                                       x->dim[x->ndim - 1], add, bf16, cuda_stream_of(d)));
    return OK;
}

err cuda_layer_norm_dwb(device *d, tensor *dw, tensor *db, const tensor *dy, const tensor *x, const tensor *mean,
                        const tensor *rstd, bool add_w, bool add_b)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "layer_norm_dwb", CUDA_TENSORS(x, dy)));
    const tensor *statistics[] = {dw, db, mean, rstd};
    for (size_t i = 0; i < sizeof statistics / sizeof *statistics; i++)
        TRY(cuda_need_f32("layer_norm_dwb", statistics[i]));
    int64_t rows = rows_of(x), width = x->dim[x->ndim - 1];
    cuda_scratch s;
    TRY(cuda_scratch_get(d, &s, cuda_layer_norm_dwb_scratch_bytes(rows, width)));
    if (d->dataless)
        return cuda_done(d, &s, cudaSuccess, "");
    return cuda_done(d, &s,
                     cuda_layer_norm_dwb_launch(data_of(dw), data_of(db), dy->data, x->data, mean->data, rstd->data,
                                                rows, width, add_w, add_b, bf16, s.data, cuda_stream_of(d)),
                     "layer_norm_dwb");
}
