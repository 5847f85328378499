/* Layer norm: a warp for each row, which stays in the L1 cache over the passes. */
#include "autograd/cuda/columns.cuh"
#include "autograd/cuda/element.cuh"
#include "autograd/cuda/warp.cuh"

enum { ROWS = 4, THREADS = ROWS * WARP }; /* of a block */

/* The parameter's pack at i, `otherwise` where it is NULL. */
template <int W, class T> static __device__ __forceinline__ void parameter(float (&v)[W], const T *w, int64_t i, float otherwise)
{
    if (w) {
        load<W>(v, w + i);
    } else {
#pragma unroll
        for (int j = 0; j < W; j++)
            v[j] = otherwise;
    }
}

/* Statistics in two passes, the second about the first's mean, so that f32 sums do. */
template <int W, class T>
__global__ void __launch_bounds__(THREADS)
    normalise(T *y, float *means, float *rstds, const T *x, const T *w, const T *b, int64_t rows, int64_t n, float eps)
{
    int lane = (int)threadIdx.x % WARP;
    for (int64_t r = (int64_t)blockIdx.x * ROWS + threadIdx.x / WARP; r < rows; r += (int64_t)gridDim.x * ROWS) {
        const T *from = x + r * n;
        float    sum = 0, rest = 0, square = 0, v[W], weight[W], bias[W];
        for (int64_t i = lane * W; i < n; i += WARP * W) {
            load<W>(v, from + i);
#pragma unroll
            for (int j = 0; j < W; j++)
                sum += v[j];
        }
        float near = warp_sum(sum) / (float)n;
        for (int64_t i = lane * W; i < n; i += WARP * W) {
            load<W>(v, from + i);
#pragma unroll
            for (int j = 0; j < W; j++) {
                rest += v[j] - near;
                square += (v[j] - near) * (v[j] - near);
            }
        }
        float moved = warp_sum(rest) / (float)n, variance = warp_sum(square) / (float)n - moved * moved;
        float mean = near + moved, rstd = 1.0f / sqrtf((variance < 0 ? 0 : variance) + eps); /* NaN stays */
        for (int64_t i = lane * W; i < n; i += WARP * W) {
            load<W>(v, from + i);
            parameter<W>(weight, w, i, 1.0f);
            parameter<W>(bias, b, i, 0.0f);
#pragma unroll
            for (int j = 0; j < W; j++)
                v[j] = (v[j] - mean) * rstd * weight[j] + bias[j];
            store<W>(y + r * n + i, v);
        }
        if (lane == 0 && means)
            means[r] = mean;
        if (lane == 0 && rstds)
            rstds[r] = rstd;
    }
}

/* dx (+)= rstd (g - mean(g) - xhat mean(g xhat)), g = dy w */
template <int W, class T>
__global__ void __launch_bounds__(THREADS)
    write_gradient(T *dx, const T *dy, const T *x, const T *w, const float *means, const float *rstds, int64_t rows,
                   int64_t n, bool add)
{
    int lane = (int)threadIdx.x % WARP;
    for (int64_t r = (int64_t)blockIdx.x * ROWS + threadIdx.x / WARP; r < rows; r += (int64_t)gridDim.x * ROWS) {
        float mean = means[r], rstd = rstds[r], sum = 0, product = 0, v[W], slope[W], weight[W];
        for (int64_t i = lane * W; i < n; i += WARP * W) {
            load<W>(v, x + r * n + i);
            load<W>(slope, dy + r * n + i);
            parameter<W>(weight, w, i, 1.0f);
#pragma unroll
            for (int j = 0; j < W; j++) {
                float g = slope[j] * weight[j];
                sum += g;
                product += g * ((v[j] - mean) * rstd);
            }
        }
        float mean_g = warp_sum(sum) / (float)n, mean_gx = warp_sum(product) / (float)n;
        for (int64_t i = lane * W; i < n; i += WARP * W) {
            load<W>(v, x + r * n + i);
            load<W>(slope, dy + r * n + i);
            parameter<W>(weight, w, i, 1.0f);
#pragma unroll
            for (int j = 0; j < W; j++)
                v[j] = rstd * (slope[j] * weight[j] - mean_g - (v[j] - mean) * rstd * mean_gx);
            store_or_add<W>(dx + r * n + i, v, add);
        }
    }
}

static dim3 grid_of(int64_t rows)
{
    return dim3((unsigned)least(divide_up(rows, ROWS), 65535));
}

template <class T>
static cudaError_t forward(void *y, float *mean, float *rstd, const void *x, const void *w, const void *b, int64_t rows,
                           int64_t n, float eps, cudaStream_t stream)
{
    constexpr int W = packed<T>::WIDTH;
    bool          packs = n % W == 0 && aligned16(y, x, w, b);
    return launch(packs ? normalise<W, T> : normalise<1, T>, grid_of(rows), dim3(THREADS), stream, (T *)y, mean, rstd,
                  (const T *)x, (const T *)w, (const T *)b, rows, n, eps);
}

cudaError_t cuda_layer_norm_launch(void *y, float *mean, float *rstd, const void *x, const void *w, const void *b,
                                   int64_t rows, int64_t n, float eps, bool bf16, cudaStream_t stream)
{
    if (rows * n == 0)
        return cudaSuccess;
    return bf16 ? forward<bfloat>(y, mean, rstd, x, w, b, rows, n, eps, stream)
                : forward<float>(y, mean, rstd, x, w, b, rows, n, eps, stream);
}

template <class T>
static cudaError_t backward(void *dx, const void *dy, const void *x, const void *w, const float *mean, const float *rstd,
                            int64_t rows, int64_t n, bool add, cudaStream_t stream)
{
    constexpr int W = packed<T>::WIDTH;
    bool          packs = n % W == 0 && aligned16(dx, dy, x, w);
    return launch(packs ? write_gradient<W, T> : write_gradient<1, T>, grid_of(rows), dim3(THREADS), stream, (T *)dx,
                  (const T *)dy, (const T *)x, (const T *)w, mean, rstd, rows, n, add);
}

cudaError_t cuda_layer_norm_dx_launch(void *dx, const void *dy, const void *x, const void *w, const float *mean,
                                      const float *rstd, int64_t rows, int64_t n, bool add, bool bf16,
                                      cudaStream_t stream)
{
    if (rows * n == 0)
        return cudaSuccess;
    return bf16 ? backward<bfloat>(dx, dy, x, w, mean, rstd, rows, n, add, stream)
                : backward<float>(dx, dy, x, w, mean, rstd, rows, n, add, stream);
}

/* ---- dw = sum of dy xhat, db = sum of dy ---- */

template <class T> struct parameter_sums {
    float       *dw, *db;
    const T     *dy, *x;
    const float *mean, *rstd;
    int64_t      n;
    bool         add_w, add_b;

    parameter_sums skipped(int64_t) const { return *this; } /* there is one output */

    __device__ __forceinline__ void values(double *v, int64_t, int64_t row, int64_t column) const
    {
        float slope = widened(dy[row * n + column]);
        v[0] = (double)(slope * ((widened(x[row * n + column]) - mean[row]) * rstd[row]));
        v[1] = (double)slope;
    }

    __device__ __forceinline__ void finish(int64_t, int64_t column, const double *sum) const
    {
        if (dw)
            dw[column] = (add_w ? dw[column] : 0.0f) + (float)sum[0];
        if (db)
            db[column] = (add_b ? db[column] : 0.0f) + (float)sum[1];
    }
};

size_t cuda_layer_norm_dwb_scratch_bytes(int64_t rows, int64_t n)
{
    return column_sums_bytes(1, rows, n, 2);
}

cudaError_t cuda_layer_norm_dwb_launch(float *dw, float *db, const void *dy, const void *x, const float *mean,
                                       const float *rstd, int64_t rows, int64_t n, bool add_w, bool add_b, bool bf16,
                                       void *scratch, cudaStream_t stream)
{
    if (bf16) {
        parameter_sums<bfloat> f = {dw, db, (const bfloat *)dy, (const bfloat *)x, mean, rstd, n, add_w, add_b};
        return column_sums<2>(f, 1, rows, n, scratch, stream);
    }
    parameter_sums<float> f = {dw, db, (const float *)dy, (const float *)x, mean, rstd, n, add_w, add_b};
    return column_sums<2>(f, 1, rows, n, scratch, stream);
}
