/* Sums over what broadcasting repeated, over rows and over everything, each in f64 and in an order that depends on the
 * shape alone. */
#include "autograd/cuda/columns.cuh"
#include "autograd/cuda/element.cuh"
#include "autograd/cuda/warp.cuh"

/* ---- sums over the dimensions that db lacks ---- */

/* The outer dimensions of dy, apart by whether db has them. */
struct outer_dims {
    int     ndim;
    int64_t dim[CUDA_MAX_DIM], stride[CUDA_MAX_DIM]; /* in dy */
};

static __device__ __forceinline__ int64_t offset_in(const outer_dims &o, int64_t index)
{
    int64_t offset = 0;
    for (int i = o.ndim - 1; i >= 0; i--) {
        offset += index % o.dim[i] * o.stride[i];
        index /= o.dim[i];
    }
    return offset;
}

/* What is summed: `outputs` by `width` sums, each over `rows` times `run` neighbours in dy. */
struct reduction {
    outer_dims kept, lost;
    int64_t    outputs, rows, width, run;
};

static reduction reduction_of(const cuda_walk *walk)
{
    reduction r = {};
    r.outputs = r.rows = r.width = r.run = 1;
    int     last = walk->ndim - 1;
    int64_t stride = 1;
    if (last >= 0) {
        stride = walk->dim[last];
        (walk->to[last] ? r.width : r.run) = stride;
    }
    int64_t strides[CUDA_MAX_DIM] = {};
    for (int i = last - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= walk->dim[i];
    }
    for (int i = 0; i < last; i++) {
        outer_dims *o = walk->to[i] ? &r.kept : &r.lost;
        o->dim[o->ndim] = walk->dim[i];
        o->stride[o->ndim++] = strides[i];
        (walk->to[i] ? r.outputs : r.rows) *= walk->dim[i];
    }
    return r;
}

template <class Y, class T> struct sum_to_columns {
    Y         *db;
    const T   *dy, *other;
    outer_dims kept, lost;
    int64_t    width, first; /* output that counts as 0 */
    bool       add;

    sum_to_columns skipped(int64_t outputs) const
    {
        sum_to_columns f = *this;
        f.first += outputs;
        return f;
    }

    __device__ __forceinline__ void values(double *v, int64_t output, int64_t row, int64_t column) const
    {
        int64_t at = offset_in(kept, first + output) + offset_in(lost, row) + column;
        v[0] = (double)widened(dy[at]) * (other ? (double)widened(other[at]) : 1.0);
    }

    __device__ __forceinline__ void finish(int64_t output, int64_t column, const double *sum) const
    {
        int64_t at = output * width + column;
        narrow(db + at, (add ? widened(db[at]) : 0.0f) + (float)sum[0]);
    }
};

/* part (outputs,splits): a block sums its split's rows of `run` neighbours. */
template <class T>
__global__ void __launch_bounds__(BLOCK_THREADS)
    run_parts(double *part, const T *dy, const T *other, reduction r, int64_t splits)
{
    __shared__ double shared[BLOCK_THREADS / WARP];
    for (int64_t t = blockIdx.x; t < r.outputs * splits; t += gridDim.x) {
        int64_t all = r.rows * r.run, each = (all + splits - 1) / splits, first = t % splits * each;
        int64_t end = first + each < all ? first + each : all, begin = offset_in(r.kept, t / splits);
        double  sum = 0;
        for (int64_t i = first + threadIdx.x; i < end; i += BLOCK_THREADS) {
            int64_t at = begin + offset_in(r.lost, i / r.run) + i % r.run;
            sum += (double)widened(dy[at]) * (other ? (double)widened(other[at]) : 1.0);
        }
        sum = block_sum<BLOCK_THREADS>(sum, shared);
        if (threadIdx.x == 0)
            part[t] = sum;
    }
}

template <class Y>
__global__ void __launch_bounds__(BLOCK_THREADS)
    run_finish(Y *db, const double *part, int64_t outputs, int64_t splits, bool add)
{
    for (int64_t i = thread_index(); i < outputs; i += thread_count()) {
        double sum = 0;
        for (int64_t k = 0; k < splits; k++)
            sum += part[i * splits + k];
        narrow(db + i, (add ? widened(db[i]) : 0.0f) + (float)sum);
    }
}

/* Splits of a sum of n neighbours by whole blocks. */
static int64_t run_splits(int64_t n)
{
    int64_t splits = divide_up(n, 16 * BLOCK_THREADS);
    return splits < 1 ? 1 : least(splits, 512);
}

template <class Y, class T>
static cudaError_t reduce(void *db, const void *dy, const void *other, const reduction &r, bool add, void *scratch,
                          cudaStream_t stream)
{
    if (r.outputs * r.width == 0)
        return cudaSuccess;
    if (r.run == 1) {
        sum_to_columns<Y, T> f = {(Y *)db, (const T *)dy, (const T *)other, r.kept, r.lost, r.width, 0, add};
        return column_sums<1>(f, r.outputs, r.rows, r.width, scratch, stream);
    }
    int64_t     splits = run_splits(r.rows * r.run);
    double     *part = (double *)scratch;
    cudaError_t e = launch(run_parts<T>, dim3((unsigned)least(r.outputs * splits, MOST_BLOCKS)), dim3(BLOCK_THREADS),
                           stream, part, (const T *)dy, (const T *)other, r, splits);
    if (e != cudaSuccess)
        return e;
    return launch(run_finish<Y>, dim3(blocks_for(r.outputs)), dim3(BLOCK_THREADS), stream, (Y *)db, part, r.outputs, splits,
                  add);
}

size_t cuda_reduce_to_scratch_bytes(const cuda_walk *walk)
{
    reduction r = reduction_of(walk);
    if (r.run == 1)
        return column_sums_bytes(r.outputs, r.rows, r.width, 1);
    return (size_t)(r.outputs * run_splits(r.rows * r.run)) * sizeof(double);
}

cudaError_t cuda_reduce_to_launch(void *db, const void *dy, const void *other, const cuda_walk *walk, bool add,
                                  bool wide, bool bf16, void *scratch, cudaStream_t stream)
{
    reduction r = reduction_of(walk);
    if (!bf16)
        return reduce<float, float>(db, dy, other, r, add, scratch, stream);
    if (wide)
        return reduce<float, bfloat>(db, dy, other, r, add, scratch, stream);
    return reduce<bfloat, bfloat>(db, dy, other, r, add, scratch, stream);
}

static cuda_walk rows_walk(int64_t n, int64_t m)
{
    cuda_walk w = {};
    w.ndim = 2;
    w.dim[0] = n;
    w.dim[1] = m;
    w.to[1] = 1;
    return w;
}

size_t cuda_sum_rows_scratch_bytes(int64_t n, int64_t m)
{
    cuda_walk w = rows_walk(n, m);
    return cuda_reduce_to_scratch_bytes(&w);
}

cudaError_t cuda_sum_rows_launch(float *db, const void *dy, int64_t n, int64_t m, bool add, bool bf16, void *scratch,
                                 cudaStream_t stream)
{
    cuda_walk w = rows_walk(n, m);
    return cuda_reduce_to_launch(db, dy, NULL, &w, add, true, bf16, scratch, stream);
}

/* ---- sums of squares ---- */

/* part (blocks): sum of (a - b)^2, b NULL for 0, over a block's run of n elements. */
template <class T>
__global__ void __launch_bounds__(BLOCK_THREADS) square_parts(double *part, const T *a, const T *b, int64_t n)
{
    __shared__ double shared[BLOCK_THREADS / WARP];
    int64_t each = (n + gridDim.x - 1) / gridDim.x, first = blockIdx.x * each;
    int64_t end = first + each < n ? first + each : n;
    double  sum = 0;
    for (int64_t i = first + threadIdx.x; i < end; i += BLOCK_THREADS) {
        double v = (double)widened(a[i]) - (b ? (double)widened(b[i]) : 0.0);
        sum += v * v;
    }
    sum = block_sum<BLOCK_THREADS>(sum, shared);
    if (threadIdx.x == 0)
        part[blockIdx.x] = sum;
}

/* *out = sum of part / n, as Y */
template <class Y> __global__ void __launch_bounds__(BLOCK_THREADS) square_finish(Y *out, const double *part, int count, double n)
{
    __shared__ double shared[BLOCK_THREADS / WARP];
    double sum = 0;
    for (int i = (int)threadIdx.x; i < count; i += BLOCK_THREADS)
        sum += part[i];
    sum = block_sum<BLOCK_THREADS>(sum, shared);
    if (threadIdx.x == 0)
        *out = (Y)(sum / n);
}

static int64_t square_blocks(int64_t n)
{
    int64_t blocks = divide_up(n, 16 * BLOCK_THREADS);
    return blocks < 1 ? 1 : least(blocks, 1024);
}

template <class Y, class T>
static cudaError_t squares(Y *out, const void *a, const void *b, int64_t n, double divisor, void *scratch,
                           cudaStream_t stream)
{
    int64_t     blocks = square_blocks(n);
    double     *part = (double *)scratch;
    cudaError_t e = launch(square_parts<T>, dim3((unsigned)blocks), dim3(BLOCK_THREADS), stream, part, (const T *)a,
                           (const T *)b, n);
    if (e != cudaSuccess)
        return e;
    return launch(square_finish<Y>, dim3(1), dim3(BLOCK_THREADS), stream, out, part, (int)blocks, divisor);
}

size_t cuda_mse_scratch_bytes(int64_t n)
{
    return (size_t)square_blocks(n) * sizeof(double);
}

cudaError_t cuda_mse_launch(float *loss, const void *a, const void *b, int64_t n, bool bf16, void *scratch,
                            cudaStream_t stream)
{
    return bf16 ? squares<float, bfloat>(loss, a, b, n, (double)n, scratch, stream)
                : squares<float, float>(loss, a, b, n, (double)n, scratch, stream);
}

size_t cuda_sum_squares_scratch_bytes(int64_t n)
{
    return (size_t)square_blocks(n) * sizeof(double);
}

cudaError_t cuda_sum_squares_launch(double *out, const float *x, int64_t n, void *scratch, cudaStream_t stream)
{
    return squares<double, float>(out, x, NULL, n, 1.0, scratch, stream);
}
