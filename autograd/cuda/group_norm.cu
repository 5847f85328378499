/* Group norm over NHWC with many blocks for each group: one pass sums chunks of rows for each channel, a second adds up the
 * chunks of each group's channels, a third writes. A block has a tile of channels in packs of W and THREADS / packs rows
 * at a time; a thread stays with its channels. Sums of a thread are f32 (about its first value, in the forward), all
 * others f64 in a fixed order. */
#include "autograd/cuda/element.cuh"
#include "autograd/cuda/functions.cuh"
#include "autograd/cuda/launch.cuh"
#include "autograd/cuda/warp.cuh"

enum { TILE = 64, MOST_CHUNKS = 64, ROWS_PER_THREAD = 16 };

/* Sizes, as every kernel here gets them. */
struct group_shape {
    int64_t batch, rows, channels, chunk_rows;
    int     groups, per_group;
};

/* The rows and channels of this thread: grid (chunks, tiles of channels, batch). */
struct place {
    int64_t first, end, step; /* rows */
    int64_t channel, sample;
    bool    inside;
};

template <int W> static __device__ __forceinline__ place place_of(const group_shape &g)
{
    constexpr int lanes = TILE / W, deep = BLOCK_THREADS / lanes;
    place p;
    p.first = (int64_t)blockIdx.x * g.chunk_rows + threadIdx.x / lanes;
    p.end = ((int64_t)blockIdx.x + 1) * g.chunk_rows;
    p.end = p.end < g.rows ? p.end : g.rows;
    p.step = deep;
    p.channel = (int64_t)blockIdx.y * TILE + (int64_t)(threadIdx.x % lanes) * W;
    p.sample = blockIdx.z;
    p.inside = p.channel < g.channels;
    return p;
}

/* What a thread's channels share: z - mean = x - shift, and so on. */
template <int W> struct channel_values {
    float shift[W], rstd[W], w[W], b[W];
};

template <int W, class T>
static __device__ __forceinline__ channel_values<W> values_of(const group_shape &g, const place &p, const T *vec,
                                                              const T *w, const T *b, const float *mean,
                                                              const float *rstd)
{
    channel_values<W> v;
    load<W>(v.w, w + p.channel);
    load<W>(v.b, b + p.channel);
    float moved[W] = {};
    if (vec)
        load<W>(moved, vec + p.sample * g.channels + p.channel);
#pragma unroll
    for (int j = 0; j < W; j++) {
        int64_t at = p.sample * g.groups + (p.channel + j) / g.per_group;
        v.shift[j] = mean[at] - moved[j];
        v.rstd[j] = rstd[at];
    }
    return v;
}

/* Adds the threads' sums of each channel in order: part (batch,chunks,2,channels). */
template <int W>
static __device__ __forceinline__ void write_part(double *part, double (&shared)[4 * W][TILE], const group_shape &g,
                                                  const place &p, const double (&sum)[W], const double (&square)[W])
{
    constexpr int lanes = TILE / W, deep = BLOCK_THREADS / lanes;
    static_assert(deep == 4 * W, "a row of shared memory for each row of threads");
    double *to = part + (p.sample * gridDim.x + blockIdx.x) * 2 * g.channels;
    int     lane = (int)threadIdx.x % lanes, row = (int)threadIdx.x / lanes;
    int64_t mine = (int64_t)blockIdx.y * TILE + threadIdx.x;
    for (int k = 0; k < 2; k++) {
#pragma unroll
        for (int j = 0; j < W; j++)
            shared[row][lane * W + j] = k ? square[j] : sum[j];
        __syncthreads();
        if (threadIdx.x < TILE && mine < g.channels) {
            double all = 0;
            for (int r = 0; r < deep; r++)
                all += shared[r][threadIdx.x];
            to[k * g.channels + mine] = all;
        }
        __syncthreads();
    }
}

/* Sums of z and of its square. */
template <int W, class T>
__global__ void __launch_bounds__(BLOCK_THREADS) moment_parts(double *part, const T *x, const T *vec, group_shape g)
{
    __shared__ double shared[4 * W][TILE];
    place  p = place_of<W>(g);
    double sum[W] = {}, square[W] = {};
    if (p.inside && p.first < p.end) {
        const T *from = x + p.sample * g.rows * g.channels + p.channel;
        float    center[W], s[W] = {}, q[W] = {}, v[W], moved[W] = {};
        load<W>(center, from + p.first * g.channels);
        if (vec)
            load<W>(moved, vec + p.sample * g.channels + p.channel);
        for (int64_t r = p.first; r < p.end; r += p.step) {
            load<W>(v, from + r * g.channels);
#pragma unroll
            for (int j = 0; j < W; j++) {
                float d = v[j] - center[j];
                s[j] += d;
                q[j] += d * d;
            }
        }
        double n = (double)((p.end - p.first + p.step - 1) / p.step);
#pragma unroll
        for (int j = 0; j < W; j++) {
            double at = (double)center[j] + (double)moved[j];
            sum[j] = n * at + (double)s[j];
            square[j] = n * at * at + 2 * at * (double)s[j] + (double)q[j];
        }
    }
    write_part<W>(part, shared, g, p, sum, square);
}

/* The sums of one group, by one warp, which all get. */
static __device__ __forceinline__ void group_sums(double *sum, double *square, const double *part, const group_shape &g,
                                                  int64_t sample, int group, int chunks)
{
    double a = 0, b = 0;
    for (int i = (int)threadIdx.x; i < chunks * g.per_group; i += WARP) {
        const double *from = part + (sample * chunks + i / g.per_group) * 2 * g.channels;
        int64_t       c = (int64_t)group * g.per_group + i % g.per_group;
        a += from[c];
        b += from[g.channels + c];
    }
    *sum = warp_sum(a);
    *square = warp_sum(b);
}

/* grid (groups,batch), one warp each */
static __global__ void __launch_bounds__(WARP)
    write_moments(float *mean, float *rstd, const double *part, group_shape g, int chunks, float eps)
{
    double sum, square, n = (double)g.rows * g.per_group;
    group_sums(&sum, &square, part, g, blockIdx.y, (int)blockIdx.x, chunks);
    if (threadIdx.x != 0)
        return;
    double  m = sum / n, variance = square / n - m * m;
    int64_t at = (int64_t)blockIdx.y * g.groups + blockIdx.x;
    mean[at] = (float)m;
    rstd[at] = (float)(1.0 / sqrt((variance < 0 ? 0 : variance) + (double)eps)); /* NaN stays */
}

template <int W, class T>
__global__ void __launch_bounds__(BLOCK_THREADS)
    normalise(T *y, const T *x, const T *vec, const T *w, const T *b, const float *mean, const float *rstd, group_shape g,
              bool silu)
{
    place p = place_of<W>(g);
    if (!p.inside)
        return;
    channel_values<W> c = values_of<W>(g, p, vec, w, b, mean, rstd);
    int64_t           at = p.sample * g.rows * g.channels + p.channel;
    for (int64_t r = p.first; r < p.end; r += p.step) {
        float v[W];
        load<W>(v, x + at + r * g.channels);
#pragma unroll
        for (int j = 0; j < W; j++) {
            v[j] = (v[j] - c.shift[j]) * (c.rstd[j] * c.w[j]) + c.b[j];
            v[j] = silu ? v[j] * sigmoid(v[j]) : v[j];
        }
        store<W>(y + at + r * g.channels, v);
    }
}

/* xhat, and g = dz w with dz the gradient before SiLU */
static __device__ __forceinline__ void gradient(float *slope, float *xhat, float dy, float x, float shift, float rstd,
                                                float w, float b, bool silu)
{
    *xhat = (x - shift) * rstd;
    *slope = (silu ? dy * silu_slope(*xhat * w + b) : dy) * w;
}

/* Sums of g and of g xhat. */
template <int W, class T>
__global__ void __launch_bounds__(BLOCK_THREADS)
    gradient_parts(double *part, const T *dy, const T *x, const T *vec, const T *w, const T *b, const float *mean,
                   const float *rstd, group_shape g, bool silu)
{
    __shared__ double shared[4 * W][TILE];
    place  p = place_of<W>(g);
    double sum[W] = {}, square[W] = {};
    if (p.inside) {
        channel_values<W> c = values_of<W>(g, p, vec, w, b, mean, rstd);
        int64_t           at = p.sample * g.rows * g.channels + p.channel;
        float             s[W] = {}, q[W] = {};
        for (int64_t r = p.first; r < p.end; r += p.step) {
            float v[W], slope[W];
            load<W>(v, x + at + r * g.channels);
            load<W>(slope, dy + at + r * g.channels);
#pragma unroll
            for (int j = 0; j < W; j++) {
                float xhat, gradient_of;
                gradient(&gradient_of, &xhat, slope[j], v[j], c.shift[j], c.rstd[j], c.w[j], c.b[j], silu);
                s[j] += gradient_of;
                q[j] += gradient_of * xhat;
            }
        }
#pragma unroll
        for (int j = 0; j < W; j++) {
            sum[j] = (double)s[j];
            square[j] = (double)q[j];
        }
    }
    write_part<W>(part, shared, g, p, sum, square);
}

/* means (batch,groups,2) of g and of g xhat */
static __global__ void __launch_bounds__(WARP)
    write_gradient_means(float *means, const double *part, group_shape g, int chunks)
{
    double sum, square, n = (double)g.rows * g.per_group;
    group_sums(&sum, &square, part, g, blockIdx.y, (int)blockIdx.x, chunks);
    if (threadIdx.x != 0)
        return;
    float *to = means + ((int64_t)blockIdx.y * g.groups + blockIdx.x) * 2;
    to[0] = (float)(sum / n);
    to[1] = (float)(square / n);
}

/* dx (+)= rstd (g - mean(g) - xhat mean(g xhat)) */
template <int W, class T>
__global__ void __launch_bounds__(BLOCK_THREADS)
    write_gradient(T *dx, const T *dy, const T *x, const T *vec, const T *w, const T *b, const float *mean,
                   const float *rstd, const float *means, group_shape g, bool silu, bool add)
{
    place p = place_of<W>(g);
    if (!p.inside)
        return;
    channel_values<W> c = values_of<W>(g, p, vec, w, b, mean, rstd);
    float             mean_g[W], mean_gx[W];
#pragma unroll
    for (int j = 0; j < W; j++) {
        int64_t group = p.sample * g.groups + (p.channel + j) / g.per_group;
        mean_g[j] = means[group * 2];
        mean_gx[j] = means[group * 2 + 1];
    }
    int64_t at = p.sample * g.rows * g.channels + p.channel;
    for (int64_t r = p.first; r < p.end; r += p.step) {
        float v[W], slope[W];
        load<W>(v, x + at + r * g.channels);
        load<W>(slope, dy + at + r * g.channels);
#pragma unroll
        for (int j = 0; j < W; j++) {
            float xhat, gradient_of;
            gradient(&gradient_of, &xhat, slope[j], v[j], c.shift[j], c.rstd[j], c.w[j], c.b[j], silu);
            v[j] = c.rstd[j] * (gradient_of - mean_g[j] - xhat * mean_gx[j]);
        }
        store_or_add<W>(dx + at + r * g.channels, v, add);
    }
}

/* ---- launchers ---- */

/* Chunks of the sums: enough to fill the card, few enough that adding them up is nothing. */
static int64_t chunks_of(int64_t rows)
{
    int64_t chunks = divide_up(rows, 2 * BLOCK_THREADS);
    return chunks < 1 ? 1 : least(chunks, MOST_CHUNKS);
}

/* Rows to a chunk of the writing kernels. */
template <int W> static int64_t written_rows()
{
    return ROWS_PER_THREAD * (BLOCK_THREADS / (TILE / W)) / 4;
}

static group_shape shape_of(int64_t batch, int64_t rows, int64_t channels, int groups, int64_t chunk_rows)
{
    return group_shape{batch, rows, channels, chunk_rows, groups, (int)(channels / groups)};
}

static dim3 grid_of(const group_shape &g)
{
    return dim3((unsigned)divide_up(g.rows, g.chunk_rows), (unsigned)divide_up(g.channels, TILE), (unsigned)g.batch);
}

static size_t part_bytes(int64_t batch, int64_t rows, int64_t channels)
{
    return (size_t)(batch * chunks_of(rows) * 2 * channels) * sizeof(double);
}

size_t cuda_group_norm_scratch_bytes(int64_t batch, int64_t rows, int64_t channels, int groups)
{
    (void)groups;
    return part_bytes(batch, rows, channels);
}

size_t cuda_group_norm_dx_scratch_bytes(int64_t batch, int64_t rows, int64_t channels, int groups)
{
    return part_bytes(batch, rows, channels) + (size_t)(batch * groups * 2) * sizeof(float);
}

template <int W, class T>
static cudaError_t forward(void *y, float *mean, float *rstd, const void *x, const void *vec, const void *w,
                           const void *b, group_shape g, float eps, bool silu, void *scratch, cudaStream_t stream)
{
    double     *part = (double *)scratch;
    dim3        grid = grid_of(g);
    cudaError_t e = launch(moment_parts<W, T>, grid, dim3(BLOCK_THREADS), stream, part, (const T *)x, (const T *)vec, g);
    if (e == cudaSuccess)
        e = launch(write_moments, dim3((unsigned)g.groups, (unsigned)g.batch), dim3(WARP), stream, mean, rstd, part, g,
                   (int)grid.x, eps);
    g.chunk_rows = written_rows<W>();
    if (e == cudaSuccess)
        e = launch(normalise<W, T>, grid_of(g), dim3(BLOCK_THREADS), stream, (T *)y, (const T *)x, (const T *)vec,
                   (const T *)w, (const T *)b, mean, rstd, g, silu);
    return e;
}

template <class T>
static cudaError_t forward_of(void *y, float *mean, float *rstd, const void *x, const void *vec, const void *w,
                              const void *b, const group_shape &g, float eps, bool silu, void *scratch,
                              cudaStream_t stream)
{
    constexpr int W = packed<T>::WIDTH;
    if (g.channels % W == 0 && aligned16(y, x, vec, w, b))
        return forward<W, T>(y, mean, rstd, x, vec, w, b, g, eps, silu, scratch, stream);
    return forward<1, T>(y, mean, rstd, x, vec, w, b, g, eps, silu, scratch, stream);
}

cudaError_t cuda_group_norm_launch(void *y, float *mean, float *rstd, const void *x, const void *vec, const void *w,
                                   const void *b, int64_t batch, int64_t rows, int64_t channels, int groups, float eps,
                                   bool silu, bool bf16, void *scratch, cudaStream_t stream)
{
    if (batch * rows * channels == 0)
        return cudaSuccess;
    group_shape g = shape_of(batch, rows, channels, groups, divide_up(rows, chunks_of(rows)));
    return bf16 ? forward_of<bfloat>(y, mean, rstd, x, vec, w, b, g, eps, silu, scratch, stream)
                : forward_of<float>(y, mean, rstd, x, vec, w, b, g, eps, silu, scratch, stream);
}

template <int W, class T>
static cudaError_t backward(void *dx, const void *dy, const void *x, const void *vec, const void *w, const void *b,
                            const float *mean, const float *rstd, group_shape g, bool silu, bool add, void *scratch,
                            cudaStream_t stream)
{
    double     *part = (double *)scratch;
    float      *means = (float *)(part + g.batch * chunks_of(g.rows) * 2 * g.channels);
    dim3        grid = grid_of(g);
    cudaError_t e = launch(gradient_parts<W, T>, grid, dim3(BLOCK_THREADS), stream, part, (const T *)dy, (const T *)x,
                           (const T *)vec, (const T *)w, (const T *)b, mean, rstd, g, silu);
    if (e == cudaSuccess)
        e = launch(write_gradient_means, dim3((unsigned)g.groups, (unsigned)g.batch), dim3(WARP), stream, means, part, g,
                   (int)grid.x);
    g.chunk_rows = written_rows<W>();
    if (e == cudaSuccess)
        e = launch(write_gradient<W, T>, grid_of(g), dim3(BLOCK_THREADS), stream, (T *)dx, (const T *)dy, (const T *)x,
                   (const T *)vec, (const T *)w, (const T *)b, mean, rstd, means, g, silu, add);
    return e;
}

template <class T>
static cudaError_t backward_of(void *dx, const void *dy, const void *x, const void *vec, const void *w, const void *b,
                               const float *mean, const float *rstd, const group_shape &g, bool silu, bool add,
                               void *scratch, cudaStream_t stream)
{
    constexpr int W = packed<T>::WIDTH;
    if (g.channels % W == 0 && aligned16(dx, dy, x, vec, w, b))
        return backward<W, T>(dx, dy, x, vec, w, b, mean, rstd, g, silu, add, scratch, stream);
    return backward<1, T>(dx, dy, x, vec, w, b, mean, rstd, g, silu, add, scratch, stream);
}

cudaError_t cuda_group_norm_dx_launch(void *dx, const void *dy, const void *x, const void *vec, const void *w,
                                      const void *b, const float *mean, const float *rstd, int64_t batch, int64_t rows,
                                      int64_t channels, int groups, bool silu, bool add, bool bf16, void *scratch,
                                      cudaStream_t stream)
{
    if (batch * rows * channels == 0)
        return cudaSuccess;
    group_shape g = shape_of(batch, rows, channels, groups, divide_up(rows, chunks_of(rows)));
    return bf16 ? backward_of<bfloat>(dx, dy, x, vec, w, b, mean, rstd, g, silu, add, scratch, stream)
                : backward_of<float>(dx, dy, x, vec, w, b, mean, rstd, g, silu, add, scratch, stream);
}
