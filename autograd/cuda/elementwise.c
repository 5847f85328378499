/* Element by element, and sums over broadcast dimensions: the kernels of elementwise.cu and reduce.cu. */
#include "autograd/cuda/cuda.h"

err cuda_unary(device *d, tensor *y, const tensor *x, unary f)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "unary", CUDA_TENSORS(x, y)));
    CUDA_TRY(cuda_unary_launch(y->data, x->data, tensor_count(x), (cuda_function)f, bf16, cuda_stream_of(d)));
    return OK;
}

err cuda_unary_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, unary f, bool add)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "unary_dx", CUDA_TENSORS(x, dy, dx)));
    CUDA_TRY(cuda_unary_dx_launch(dx->data, dy->data, x->data, tensor_count(x), (cuda_function)f, add, bf16,
                                  cuda_stream_of(d)));
    return OK;
}

err cuda_geglu(device *d, tensor *y, const tensor *x)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "geglu", CUDA_TENSORS(y, x)));
    int64_t m = y->dim[y->ndim - 1];
    CUDA_TRY(cuda_geglu_launch(y->data, x->data, m ? tensor_count(y) / m : 0, m, bf16, cuda_stream_of(d)));
    return OK;
}

err cuda_geglu_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, bool add)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "geglu_dx", CUDA_TENSORS(dy, x, dx)));
    int64_t m = dy->dim[dy->ndim - 1];
    CUDA_TRY(cuda_geglu_dx_launch(dx->data, dy->data, x->data, m ? tensor_count(dy) / m : 0, m, add, bf16,
                                  cuda_stream_of(d)));
    return OK;
}

err cuda_add(device *d, tensor *y, const tensor *a, const tensor *b)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "add", CUDA_TENSORS(a, b, y)));
    cuda_walk w = cuda_walk_of(a, b);
    CUDA_TRY(cuda_add_launch(y->data, a->data, b->data, &w, bf16, cuda_stream_of(d)));
    return OK;
}

err cuda_mul(device *d, tensor *y, const tensor *a, const tensor *b)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "mul", CUDA_TENSORS(a, b, y)));
    cuda_walk w = cuda_walk_of(a, b);
    CUDA_TRY(cuda_mul_launch(y->data, a->data, b->data, &w, bf16, cuda_stream_of(d)));
    return OK;
}

err cuda_scale(device *d, tensor *y, const tensor *x, float s, bool add)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "scale", CUDA_TENSORS(x, y)));
    CUDA_TRY(cuda_scale_launch(y->data, x->data, s, tensor_count(x), add, bf16, cuda_stream_of(d)));
    return OK;
}

/* dy's shape, and db's strides in `to`. */
static cuda_walk reduction_of(const tensor *db, const tensor *dy)
{
    cuda_walk w = cuda_walk_of(dy, db);
    for (int i = 0; i < w.ndim; i++) {
        w.to[i] = w.from[i];
        w.from[i] = dy->stride[i];
    }
    return w;
}

err cuda_reduce_to(device *d, tensor *db, const tensor *dy, const tensor *other, bool add)
{
    bool bf16, wide;
    TRY(cuda_one_type(&bf16, "reduce_to", CUDA_TENSORS(dy, other)));
    TRY(cuda_gradient_type(&wide, "reduce_to", db, bf16));
    cuda_walk w = reduction_of(db, dy);
    cuda_scratch s;
    TRY(cuda_scratch_get(d, &s, cuda_reduce_to_scratch_bytes(&w)));
    if (d->dataless)
        return cuda_done(d, &s, cudaSuccess, "");
    return cuda_done(d, &s, cuda_reduce_to_launch(db->data, dy->data, other ? other->data : NULL, &w, add, wide, bf16,
                                                  s.data, cuda_stream_of(d)), "reduce_to");
}

err cuda_sum_rows(device *d, tensor *db, const tensor *dy, bool add)
{
    return cuda_reduce_to(d, db, dy, NULL, add);
}

err cuda_mse(device *d, tensor *loss, const tensor *a, const tensor *b)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "mse", CUDA_TENSORS(a, b)));
    TRY(cuda_need_f32("mse", loss));
    int64_t n = tensor_count(a);
    cuda_scratch s;
    TRY(cuda_scratch_get(d, &s, cuda_mse_scratch_bytes(n)));
    if (d->dataless)
        return cuda_done(d, &s, cudaSuccess, "");
    return cuda_done(d, &s, cuda_mse_launch(loss->data, a->data, b->data, n, bf16, s.data, cuda_stream_of(d)), "mse");
}

err cuda_mse_backward(device *d, tensor *da, const tensor *dloss, const tensor *a, const tensor *b, float sign,
                      bool add)
{
    bool bf16;
    TRY(cuda_one_type(&bf16, "mse_backward", CUDA_TENSORS(a, b, da)));
    TRY(cuda_need_f32("mse_backward", dloss));
    CUDA_TRY(cuda_mse_backward_launch(da->data, dloss->data, a->data, b->data, tensor_count(a), sign, add, bf16,
                                      cuda_stream_of(d)));
    return OK;
}
