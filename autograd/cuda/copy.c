/* Moving and converting: host to card and back through pinned memory, fills, and copies between strided tensors. */
#include <string.h>

#include "autograd/cuda/cuda.h"

cuda_walk cuda_walk_of(const tensor *y, const tensor *x)
{
    cuda_walk w = {.ndim = y->ndim};
    for (int i = 0; i < y->ndim; i++) {
        int j = i - (y->ndim - x->ndim);
        w.dim[i] = y->dim[i];
        w.to[i] = y->stride[i];
        w.from[i] = j < 0 || (x->dim[j] == 1 && y->dim[i] != 1) ? 0 : x->stride[j];
    }
    return w;
}

err cuda_copy(device *d, tensor *y, const tensor *x, bool add)
{
    CHECK(tensor_same_shape(y, x), "copy of %s into %s: other shape", x->name, y->name);
    CHECK(!add || y->type == DT_F32 || y->type == DT_BF16, "accumulating into %s", dtype_name(y->type));
    cuda_walk w = cuda_walk_of(y, x);
    CUDA_TRY(cuda_copy_launch(y->data, (int)y->type, x->data, (int)x->type, &w, add, cuda_stream_of(d)));
    return OK;
}

err cuda_fill(device *d, tensor *y, float value)
{
    cuda_walk w = cuda_walk_of(y, y);
    CUDA_TRY(cuda_fill_launch(y->data, (int)y->type, &w, value, cuda_stream_of(d)));
    return OK;
}

/* ---- host to card: pieces go through the two pinned buffers in turn, the host fills one while the card reads the
 * other */

static err upload_piece(device *d, void *to, dtype to_type, const void *host, dtype type, int64_t count, int turn)
{
    cuda_state *s = cuda_state_of(d);
    size_t bytes = (size_t)count * dtype_bytes(type);
    bool convert = to_type != type;
    CUDA_TRY(cudaEventSynchronize(s->free[turn]));
    memcpy(s->pinned[turn], host, bytes);
    CUDA_TRY(cudaMemcpyAsync(convert ? s->staging : to, s->pinned[turn], bytes, cudaMemcpyHostToDevice, s->stream));
    CUDA_TRY(cudaEventRecord(s->free[turn], s->stream));
    if (!convert)
        return OK;
    cuda_walk w = {.ndim = 1, .dim = {count}, .to = {1}, .from = {1}};
    CUDA_TRY(cuda_copy_launch(to, (int)to_type, s->staging, (int)type, &w, false, s->stream));
    return OK;
}

err cuda_upload(device *d, tensor *y, const void *host, dtype type)
{
    CHECK(tensor_contiguous(y), "upload into the strided %s", y->name);
    int64_t n = tensor_count(y), most = CUDA_STAGING_BYTES / (int64_t)dtype_bytes(type);
    const char *from = host;
    char *to = y->data;
    int turn = 0;
    for (int64_t i = 0; i < n; i += most, turn = !turn) {
        int64_t count = n - i < most ? n - i : most;
        TRY(upload_piece(d, to + (size_t)i * dtype_bytes(y->type), y->type, from + (size_t)i * dtype_bytes(type), type,
                         count, turn));
    }
    return OK;
}

err cuda_upload_pinned(device *d, tensor *y, const void *pinned, dtype type)
{
    CHECK(tensor_contiguous(y), "upload into the strided %s", y->name);
    cuda_state *s = cuda_state_of(d);
    int64_t n = tensor_count(y), most = CUDA_STAGING_BYTES / (int64_t)dtype_bytes(type);
    const char *from = pinned;
    char *to = y->data;
    if (type == y->type && n)
        CUDA_TRY(cudaMemcpyAsync(to, from, (size_t)n * dtype_bytes(type), cudaMemcpyHostToDevice, s->stream));
    for (int64_t i = 0; i < n && type != y->type; i += most) {
        int64_t count = n - i < most ? n - i : most;
        cuda_walk w = {.ndim = 1, .dim = {count}, .to = {1}, .from = {1}};
        CUDA_TRY(cudaMemcpyAsync(s->staging, from + (size_t)i * dtype_bytes(type), (size_t)count * dtype_bytes(type),
                                 cudaMemcpyHostToDevice, s->stream));
        CUDA_TRY(cuda_copy_launch(to + (size_t)i * dtype_bytes(y->type), (int)y->type, s->staging, (int)type, &w, false,
                                  s->stream));
    }
    return OK;
}

/* ---- card to host ---- */

static err ids_were_good(const cuda_state *s, int32_t bad)
{
    if (!bad)
        return OK;
    CUDA_TRY(cudaMemsetAsync(s->bad_id, 0, sizeof *s->bad_id, s->stream));
    return err_set(E_SHAPE, "embedding: an id is outside its table");
}

/* So many bytes of the card's to the host; whether ids were outside their table comes along. */
static err fetch(device *d, void *host, const void *from, size_t bytes)
{
    cuda_state *s = cuda_state_of(d);
    int32_t *bad = s->pinned[1];
    CUDA_TRY(cudaMemcpyAsync(s->pinned[0], from, bytes, cudaMemcpyDeviceToHost, s->stream));
    CUDA_TRY(cudaEventSynchronize(s->free[1]));
    CUDA_TRY(cudaMemcpyAsync(bad, s->bad_id, sizeof *bad, cudaMemcpyDeviceToHost, s->stream));
    CUDA_TRY(cudaStreamSynchronize(s->stream));
    memcpy(host, s->pinned[0], bytes);
    return ids_were_good(s, *bad);
}

/* The same into pinned memory, when it is its turn. */
static err fetch_later(device *d, void *host, const void *from, size_t bytes)
{
    CUDA_TRY(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, cuda_stream_of(d)));
    return OK;
}

err cuda_wait(device *d)
{
    cuda_state *s = cuda_state_of(d);
    int32_t *bad = s->pinned[1];
    CUDA_TRY(cudaEventSynchronize(s->free[1]));
    CUDA_TRY(cudaMemcpyAsync(bad, s->bad_id, sizeof *bad, cudaMemcpyDeviceToHost, s->stream));
    CUDA_TRY(cudaStreamSynchronize(s->stream));
    return ids_were_good(s, *bad);
}

typedef err (*fetcher)(device *d, void *host, const void *from, size_t bytes);

static err download_piece(device *d, void *host, dtype type, const tensor *x, fetcher get)
{
    cuda_state *s = cuda_state_of(d);
    size_t bytes = (size_t)tensor_count(x) * dtype_bytes(type);
    if (x->type == type && tensor_contiguous(x))
        return get(d, host, x->data, bytes);
    tensor dense = *x;
    tensor_set_shape(&dense, x->ndim, x->dim);
    cuda_walk w = cuda_walk_of(&dense, x);
    CUDA_TRY(cuda_copy_launch(s->staging, (int)type, x->data, (int)x->type, &w, false, s->stream));
    return get(d, host, s->staging, bytes);
}

/* As many rows along dimension `from` at a time as the staging memory takes; where it does not take one, row by row. */
static err download_rows(device *d, char *host, dtype type, const tensor *x, int from, fetcher get)
{
    int64_t bytes = (int64_t)dtype_bytes(type), row = tensor_count_from(x, from + 1) * bytes;
    int64_t all = tensor_count(x) * bytes;
    if (all <= CUDA_STAGING_BYTES)
        return download_piece(d, host, type, x, get);
    int64_t fit = CUDA_STAGING_BYTES / row, rows = fit ? fit : 1;
    for (int64_t i = 0; i < x->dim[from]; i += rows) {
        tensor part = *x;
        part.dim[from] = x->dim[from] - i < rows ? x->dim[from] - i : rows;
        part.data = (char *)x->data + i * x->stride[from] * (int64_t)dtype_bytes(x->type);
        TRY(download_rows(d, host + i * row, type, &part, fit ? from : from + 1, get));
    }
    return OK;
}

err cuda_download(device *d, void *host, dtype type, const tensor *x)
{
    return tensor_count(x) ? download_rows(d, host, type, x, 0, fetch) : OK;
}

err cuda_download_pinned(device *d, void *pinned, dtype type, const tensor *x)
{
    return tensor_count(x) ? download_rows(d, pinned, type, x, 0, fetch_later) : OK;
}

err cuda_lay_out(device *d, tensor *w, weight_use use)
{
    (void)d, (void)w, (void)use; /* the libraries read weights as they are */
    return OK;
}

/* ---- sums that the host waits for ---- */

err cuda_sum_squares(device *d, double *out, const tensor *x)
{
    TRY(cuda_need_f32("sum_squares", x));
    cuda_scratch s;
    cuda_state *state = cuda_state_of(d);
    int64_t n = tensor_count(x);
    *out = 0.0;
    if (!n)
        return OK;
    TRY(cuda_scratch_get(d, &s, cuda_sum_squares_scratch_bytes(n)));
    if (d->dataless)
        return cuda_done(d, &s, cudaSuccess, "");
    TRY(cuda_done(d, &s, cuda_sum_squares_launch(state->sum, x->data, n, s.data, state->stream), "sum_squares"));
    return fetch(d, out, state->sum, sizeof *out);
}
