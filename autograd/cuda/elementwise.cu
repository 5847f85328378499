/* Functions of one number, sums, products and multiples of tensors. */
#include "autograd/cuda/element.cuh"
#include "autograd/cuda/functions.cuh"
#include "autograd/cuda/launch.cuh"

/* ---- unary ---- */

struct silu_function {
    static __device__ __forceinline__ float value(float x) { return x * sigmoid(x); }
    static __device__ __forceinline__ float slope(float x) { return silu_slope(x); }
};

struct gelu_function {
    static __device__ __forceinline__ float value(float x) { return gelu(x); }
    static __device__ __forceinline__ float slope(float x) { return gelu_slope(x); }
};

/* x sigmoid(1.702 x) */
struct quick_gelu_function {
    static __device__ __forceinline__ float value(float x) { return x * sigmoid(1.702f * x); }
    static __device__ __forceinline__ float slope(float x) { return silu_slope(1.702f * x); }
};

template <class T, class F> struct unary_forward {
    T       *y;
    const T *x;

    template <int W> __device__ void run(int64_t i) const
    {
        float v[W];
        load<W>(v, x + i);
#pragma unroll
        for (int j = 0; j < W; j++)
            v[j] = F::value(v[j]);
        store<W>(y + i, v);
    }
};

template <class T, class F> struct unary_backward {
    T       *dx;
    const T *dy, *x;
    bool     add;

    template <int W> __device__ void run(int64_t i) const
    {
        float v[W], slope[W];
        load<W>(v, x + i);
        load<W>(slope, dy + i);
#pragma unroll
        for (int j = 0; j < W; j++)
            v[j] = slope[j] * F::slope(v[j]);
        store_or_add<W>(dx + i, v, add);
    }
};

template <class T>
static cudaError_t unary_of(void *y, const void *x, int64_t n, cuda_function f, cudaStream_t stream)
{
    constexpr int W = packed<T>::WIDTH;
    T            *to = (T *)y;
    const T      *from = (const T *)x;
    bool          wide = aligned16(y, x);
    if (f == CUDA_SILU)
        return each<W>(unary_forward<T, silu_function>{to, from}, n, wide, stream);
    if (f == CUDA_GELU)
        return each<W>(unary_forward<T, gelu_function>{to, from}, n, wide, stream);
    return each<W>(unary_forward<T, quick_gelu_function>{to, from}, n, wide, stream);
}

template <class T>
static cudaError_t unary_dx_of(void *dx, const void *dy, const void *x, int64_t n, cuda_function f, bool add,
                               cudaStream_t stream)
{
    constexpr int W = packed<T>::WIDTH;
    T            *to = (T *)dx;
    const T      *slope = (const T *)dy, *from = (const T *)x;
    bool          wide = aligned16(dx, dy, x);
    if (f == CUDA_SILU)
        return each<W>(unary_backward<T, silu_function>{to, slope, from, add}, n, wide, stream);
    if (f == CUDA_GELU)
        return each<W>(unary_backward<T, gelu_function>{to, slope, from, add}, n, wide, stream);
    return each<W>(unary_backward<T, quick_gelu_function>{to, slope, from, add}, n, wide, stream);
}

cudaError_t cuda_unary_launch(void *y, const void *x, int64_t n, cuda_function f, bool bf16, cudaStream_t stream)
{
    return bf16 ? unary_of<bfloat>(y, x, n, f, stream) : unary_of<float>(y, x, n, f, stream);
}

cudaError_t cuda_unary_dx_launch(void *dx, const void *dy, const void *x, int64_t n, cuda_function f, bool add,
                                 bool bf16, cudaStream_t stream)
{
    return bf16 ? unary_dx_of<bfloat>(dx, dy, x, n, f, add, stream) : unary_dx_of<float>(dx, dy, x, n, f, add, stream);
}

/* ---- geglu: x (rows,2m) = [a|b], y = a gelu(b) ---- */

template <class T> struct geglu_forward {
    T       *y;
    const T *x;
    int64_t  m;

    template <int W> __device__ void run(int64_t i) const
    {
        int64_t at = i / m * m + i;
        float   a[W], b[W];
        load<W>(a, x + at);
        load<W>(b, x + at + m);
#pragma unroll
        for (int j = 0; j < W; j++)
            a[j] *= gelu(b[j]);
        store<W>(y + i, a);
    }
};

template <class T> struct geglu_backward {
    T       *dx;
    const T *dy, *x;
    int64_t  m;
    bool     add;

    template <int W> __device__ void run(int64_t i) const
    {
        int64_t at = i / m * m + i;
        float   a[W], b[W], slope[W];
        load<W>(a, x + at);
        load<W>(b, x + at + m);
        load<W>(slope, dy + i);
#pragma unroll
        for (int j = 0; j < W; j++) {
            float gate = b[j];
            b[j] = slope[j] * a[j] * gelu_slope(gate);
            a[j] = slope[j] * gelu(gate);
        }
        store_or_add<W>(dx + at, a, add);
        store_or_add<W>(dx + at + m, b, add);
    }
};

template <class T> static cudaError_t geglu_of(void *y, const void *x, int64_t rows, int64_t m, cudaStream_t stream)
{
    constexpr int W = packed<T>::WIDTH;
    return each<W>(geglu_forward<T>{(T *)y, (const T *)x, m}, rows * m, aligned16(y, x) && m % W == 0, stream);
}

template <class T>
static cudaError_t geglu_dx_of(void *dx, const void *dy, const void *x, int64_t rows, int64_t m, bool add,
                               cudaStream_t stream)
{
    constexpr int     W = packed<T>::WIDTH;
    geglu_backward<T> f = {(T *)dx, (const T *)dy, (const T *)x, m, add};
    return each<W>(f, rows * m, aligned16(dx, dy, x) && m % W == 0, stream);
}

cudaError_t cuda_geglu_launch(void *y, const void *x, int64_t rows, int64_t m, bool bf16, cudaStream_t stream)
{
    return bf16 ? geglu_of<bfloat>(y, x, rows, m, stream) : geglu_of<float>(y, x, rows, m, stream);
}

cudaError_t cuda_geglu_dx_launch(void *dx, const void *dy, const void *x, int64_t rows, int64_t m, bool add, bool bf16,
                                 cudaStream_t stream)
{
    return bf16 ? geglu_dx_of<bfloat>(dx, dy, x, rows, m, add, stream)
                : geglu_dx_of<float>(dx, dy, x, rows, m, add, stream);
}

/* ---- a + b, a b ---- */

template <class T, bool PRODUCT> struct binary {
    T        *y;
    const T  *a, *b;
    cuda_walk walk;
    bool      same; /* b lies as a does */

    /* Where element i of a is in b. */
    __device__ __forceinline__ int64_t place(int64_t i) const
    {
        int64_t at = 0;
        for (int d = walk.ndim - 1; d >= 0; d--) {
            at += i % walk.dim[d] * walk.from[d];
            i /= walk.dim[d];
        }
        return at;
    }

    template <int W> __device__ void run(int64_t i) const
    {
        float left[W], right[W];
        load<W>(left, a + i);
        int64_t at = same ? i : place(i);
        if (W == 1 || same || walk.from[walk.ndim - 1] != 0) {
            load<W>(right, b + at);
        } else {
#pragma unroll
            for (int j = 0; j < W; j++)
                right[j] = widened(b[at]);
        }
#pragma unroll
        for (int j = 0; j < W; j++)
            left[j] = PRODUCT ? left[j] * right[j] : left[j] + right[j];
        store<W>(y + i, left);
    }
};

/* The same view with neighbouring dimensions joined where b allows, for fewer divisions. */
static cuda_walk joined(const cuda_walk *walk)
{
    cuda_walk j = {};
    for (int d = 0; d < walk->ndim; d++) {
        if (walk->dim[d] == 1)
            continue;
        int last = j.ndim - 1;
        if (last >= 0 && j.from[last] == walk->from[d] * walk->dim[d]) {
            j.dim[last] *= walk->dim[d];
            j.from[last] = walk->from[d];
            continue;
        }
        j.dim[j.ndim] = walk->dim[d];
        j.from[j.ndim++] = walk->from[d];
    }
    return j;
}

template <class T, bool PRODUCT>
static cudaError_t binary_of(void *y, const void *a, const void *b, const cuda_walk *walk, cudaStream_t stream)
{
    constexpr int W = packed<T>::WIDTH;
    int64_t       n = 1;
    for (int d = 0; d < walk->ndim; d++)
        n *= walk->dim[d];
    if (n == 0)
        return cudaSuccess;
    cuda_walk          j = joined(walk);
    binary<T, PRODUCT> f = {(T *)y, (const T *)a, (const T *)b, j, j.ndim == 0 || (j.ndim == 1 && j.from[0] == 1)};
    bool               packs = aligned16(y, a, b) && (f.same || j.dim[j.ndim - 1] % W == 0);
    for (int d = 0; d < j.ndim && !f.same; d++)
        packs = packs && (d == j.ndim - 1 ? j.from[d] <= 1 : j.from[j.ndim - 1] == 0 || j.from[d] % W == 0);
    return each<W>(f, n, packs, stream);
}

cudaError_t cuda_add_launch(void *y, const void *a, const void *b, const cuda_walk *walk, bool bf16, cudaStream_t stream)
{
    return bf16 ? binary_of<bfloat, false>(y, a, b, walk, stream) : binary_of<float, false>(y, a, b, walk, stream);
}

cudaError_t cuda_mul_launch(void *y, const void *a, const void *b, const cuda_walk *walk, bool bf16, cudaStream_t stream)
{
    return bf16 ? binary_of<bfloat, true>(y, a, b, walk, stream) : binary_of<float, true>(y, a, b, walk, stream);
}

/* ---- multiples ---- */

template <class T> struct multiple {
    T       *y;
    const T *x;
    float    s;
    bool     add;

    template <int W> __device__ void run(int64_t i) const
    {
        float v[W];
        load<W>(v, x + i);
#pragma unroll
        for (int j = 0; j < W; j++)
            v[j] *= s;
        store_or_add<W>(y + i, v, add);
    }
};

template <class T>
static cudaError_t scale_of(void *y, const void *x, float s, int64_t n, bool add, cudaStream_t stream)
{
    return each<packed<T>::WIDTH>(multiple<T>{(T *)y, (const T *)x, s, add}, n, aligned16(y, x), stream);
}

cudaError_t cuda_scale_launch(void *y, const void *x, float s, int64_t n, bool add, bool bf16, cudaStream_t stream)
{
    return bf16 ? scale_of<bfloat>(y, x, s, n, add, stream) : scale_of<float>(y, x, s, n, add, stream);
}

template <class T> struct difference {
    T           *da;
    const float *dloss;
    const T     *a, *b;
    double       factor; /* 2 sign / n */
    bool         add;

    template <int W> __device__ void run(int64_t i) const
    {
        float left[W], right[W], slope = (float)(factor * (double)*dloss);
        load<W>(left, a + i);
        load<W>(right, b + i);
#pragma unroll
        for (int j = 0; j < W; j++)
            left[j] = slope * (left[j] - right[j]);
        store_or_add<W>(da + i, left, add);
    }
};

template <class T>
static cudaError_t mse_backward_of(void *da, const float *dloss, const void *a, const void *b, int64_t n, float sign,
                                   bool add, cudaStream_t stream)
{
    difference<T> f = {(T *)da, dloss, (const T *)a, (const T *)b, 2.0 * (double)sign / (double)n, add};
    return each<packed<T>::WIDTH>(f, n, aligned16(da, a, b), stream);
}

cudaError_t cuda_mse_backward_launch(void *da, const float *dloss, const void *a, const void *b, int64_t n, float sign,
                                     bool add, bool bf16, cudaStream_t stream)
{
    return bf16 ? mse_backward_of<bfloat>(da, dloss, a, b, n, sign, add, stream)
                : mse_backward_of<float>(da, dloss, a, b, n, sign, add, stream);
}
