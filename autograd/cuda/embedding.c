/* Tables, sinusoids, masks, choices and sizes of pictures: the kernels of embedding.cu and picture.cu. */
#include "autograd/cuda/cuda.h"

err cuda_embedding(device *d, tensor *y, const tensor *table, const tensor *ids)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "embedding", CUDA_TENSORS(table, y)));
    CUDA_TRY(cuda_embedding_launch(y->data, cuda_state_of(d)->bad_id, table->data, ids->data, tensor_count(ids),
                                   table->dim[0], table->dim[1], bf16, cuda_stream_of(d)));
    return OK;
}

err cuda_embedding_dtable(device *d, tensor *dtable, const tensor *dy, const tensor *ids, bool add)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "embedding_dtable", CUDA_TENSORS(dy)));
    TRY(cuda_need_f32("embedding_dtable", dtable));
    CUDA_TRY(cuda_embedding_dtable_launch(dtable->data, dy->data, ids->data, tensor_count(ids), dtable->dim[0],
                                          dtable->dim[1], add, bf16, cuda_stream_of(d)));
    return OK;
}

err cuda_time_embedding(device *d, tensor *y, const tensor *t)
{
    TRY(cuda_need_f32("time_embedding", t));
    TRY(cuda_need_f32("time_embedding", y));
    CUDA_TRY(cuda_time_embedding_launch(y->data, t->data, tensor_count(t), y->dim[y->ndim - 1], cuda_stream_of(d)));
    return OK;
}

err cuda_box_embedding(device *d, tensor *y, const tensor *boxes, int freqs)
{
    TRY(cuda_need_f32("box_embedding", boxes));
    TRY(cuda_need_f32("box_embedding", y));
    CUDA_TRY(cuda_box_embedding_launch(y->data, boxes->data, tensor_count(boxes) / 4, freqs, cuda_stream_of(d)));
    return OK;
}

err cuda_box_mask(device *d, tensor *mask, const tensor *boxes, int64_t h, int64_t w)
{
    TRY(cuda_need_f32("box_mask", boxes));
    CUDA_TRY(cuda_box_mask_launch(mask->data, boxes->data, tensor_count(boxes) / 4, h, w, cuda_stream_of(d)));
    return OK;
}

err cuda_select(device *d, tensor *y, const tensor *pick, const tensor *a, const tensor *b)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "select", CUDA_TENSORS(a, b, y)));
    CUDA_TRY(cuda_select_launch(y->data, pick->data, a->data, b->data, y->dim[0], tensor_count_from(y, 1),
                                a->dim[0] == 1, bf16, cuda_stream_of(d)));
    return OK;
}

static err select_side(device *d, tensor *dx, const tensor *dy, const tensor *pick, bool chosen, bool bf16, bool add)
{
    bool wide;
    TRY(cuda_gradient_type(&wide, "select_backward", dx, bf16));
    CUDA_TRY(cuda_select_backward_launch(dx->data, dy->data, pick->data, dy->dim[0], tensor_count_from(dy, 1),
                                         chosen && dx->dim[0] == 1, chosen, add, wide, bf16, cuda_stream_of(d)));
    return OK;
}

err cuda_select_backward(device *d, tensor *da, tensor *db, const tensor *dy, const tensor *pick, bool add_a,
                         bool add_b)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "select_backward", CUDA_TENSORS(dy)));
    if (da)
        TRY(select_side(d, da, dy, pick, true, bf16, add_a));
    return db ? select_side(d, db, dy, pick, false, bf16, add_b) : OK;
}

err cuda_upsample(device *d, tensor *y, const tensor *x)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "upsample", CUDA_TENSORS(x, y)));
    CUDA_TRY(cuda_upsample_launch(y->data, x->data, x->dim[0], x->dim[1], x->dim[2], y->dim[1], y->dim[2], x->dim[3],
                                  bf16, cuda_stream_of(d)));
    return OK;
}

err cuda_upsample_dx(device *d, tensor *dx, const tensor *dy, bool add)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "upsample_dx", CUDA_TENSORS(dy, dx)));
    CUDA_TRY(cuda_upsample_dx_launch(dx->data, dy->data, dx->dim[0], dx->dim[1], dx->dim[2], dy->dim[1], dy->dim[2],
                                     dx->dim[3], add, bf16, cuda_stream_of(d)));
    return OK;
}
