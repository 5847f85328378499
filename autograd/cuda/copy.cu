/* Fills, and copies and casts between strided tensors of any two types. */
#include "autograd/cuda/element.cuh"
#include "autograd/cuda/launch.cuh"

/* ---- types as integers of their size ---- */

static __device__ __forceinline__ float from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 31u, fraction = h & 0x3ffu;
    if (exponent == 0) {
        float tiny = (float)fraction * 0x1p-24f;
        return sign ? -tiny : tiny;
    }
    uint32_t bits = exponent == 31 ? 0x7f800000u : (exponent + 112) << 23;
    return __uint_as_float(sign | bits | fraction << 13);
}

/* To nearest, ties to even; above 65504 + 16 infinity. */
static __device__ __forceinline__ uint16_t to_f16(float x)
{
    uint32_t bits = __float_as_uint(x), size = bits & 0x7fffffffu, sign = bits >> 16 & 0x8000u;
    if (size > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u);
    if (size >= 0x477ff000u)
        return (uint16_t)(sign | 0x7c00u);
    if (size < 0x38800000u) /* subnormal: adding 0.5 leaves the rounded integer of 2^-24 in the low bits */
        return (uint16_t)(sign | (__float_as_uint(__uint_as_float(size) + 0.5f) - 0x3f000000u));
    return (uint16_t)(sign | (size + 0xfffu + (size >> 13 & 1u) - 0x38000000u) >> 13);
}

static __device__ __forceinline__ float from_f8e4m3(uint8_t x)
{
    uint32_t sign = (uint32_t)(x & 0x80u) << 24, exponent = x >> 3 & 15u, fraction = x & 7u;
    if ((x & 0x7fu) == 0x7fu)
        return __uint_as_float(sign | 0x7fc00000u);
    float size = exponent ? __uint_as_float((exponent + 120) << 23 | fraction << 20) : (float)fraction * 0x1p-9f;
    return sign ? -size : size;
}

static __device__ __forceinline__ float element(const void *x, int type, int64_t i)
{
    switch (type) {
    case CUDA_F32:
        return ((const float *)x)[i];
    case CUDA_BF16:
        return widened(((const bfloat *)x)[i]);
    case CUDA_F16:
        return from_f16(((const uint16_t *)x)[i]);
    case CUDA_I32:
        return (float)((const int32_t *)x)[i];
    case CUDA_U8:
        return (float)((const uint8_t *)x)[i];
    default:
        return from_f8e4m3(((const uint8_t *)x)[i]);
    }
}

static __device__ __forceinline__ void put(void *y, int type, int64_t i, float v)
{
    switch (type) {
    case CUDA_F32:
        ((float *)y)[i] = v;
        break;
    case CUDA_BF16:
        narrow((bfloat *)y + i, v);
        break;
    case CUDA_F16:
        ((uint16_t *)y)[i] = to_f16(v);
        break;
    case CUDA_I32:
        ((int32_t *)y)[i] = (int32_t)v;
        break;
    default:
        ((uint8_t *)y)[i] = (uint8_t)v;
    }
}

/* ---- places ---- */

/* Neighbouring dimensions that lie densely on both sides as one. */
static cuda_walk joined(const cuda_walk *walk)
{
    cuda_walk j = {};
    for (int d = 0; d < walk->ndim; d++) {
        if (walk->dim[d] == 1)
            continue;
        int last = j.ndim - 1;
        if (last >= 0 && j.to[last] == walk->to[d] * walk->dim[d] && j.from[last] == walk->from[d] * walk->dim[d]) {
            j.dim[last] *= walk->dim[d];
            j.to[last] = walk->to[d];
            j.from[last] = walk->from[d];
            continue;
        }
        j.dim[j.ndim] = walk->dim[d];
        j.to[j.ndim] = walk->to[d];
        j.from[j.ndim++] = walk->from[d];
    }
    return j;
}

static int64_t count_of(const cuda_walk *walk)
{
    int64_t n = 1;
    for (int d = 0; d < walk->ndim; d++)
        n *= walk->dim[d];
    return n;
}

/* Whether W neighbours of the innermost dimension are neighbours on both sides, at multiples of W. */
static bool in_packs(const cuda_walk *j, int W)
{
    int last = j->ndim - 1;
    if (last < 0 || j->to[last] != 1 || j->from[last] != 1 || (last > 0 && j->dim[last] % W))
        return false;
    for (int d = 0; d < last; d++)
        if (j->to[d] % W || j->from[d] % W)
            return false;
    return true;
}

struct places {
    int64_t to, from;
};

static __device__ __forceinline__ places places_of(const cuda_walk &walk, int64_t i)
{
    places p = {0, 0};
    if (walk.ndim == 1)
        return places{i * walk.to[0], i * walk.from[0]};
    for (int d = walk.ndim - 1; d >= 0; d--) {
        int64_t index = i % walk.dim[d];
        i /= walk.dim[d];
        p.to += index * walk.to[d];
        p.from += index * walk.from[d];
    }
    return p;
}

/* ---- copies ---- */

/* Between f32 and bf16, and sums into them. */
template <class Y, class X> struct float_copy {
    Y        *y;
    const X  *x;
    cuda_walk walk;
    bool      add;

    template <int W> __device__ void run(int64_t i) const
    {
        float  v[W];
        places p = places_of(walk, i);
        load<W>(v, x + p.from);
        store_or_add<W>(y + p.to, v, add);
    }
};

/* Of equal types, as they are. */
template <class T> struct plain_copy {
    T        *y;
    const T  *x;
    cuda_walk walk;

    template <int W> __device__ void run(int64_t i) const
    {
        places p = places_of(walk, i);
        *reinterpret_cast<pack<T, W> *>(y + p.to) = *reinterpret_cast<const pack<T, W> *>(x + p.from);
    }
};

/* Between any two types. */
struct any_copy {
    void       *y;
    const void *x;
    int         y_type, x_type;
    cuda_walk   walk;
    bool        add;

    template <int W> __device__ void run(int64_t i) const
    {
        for (int j = 0; j < W; j++) {
            places p = places_of(walk, i + j);
            put(y, y_type, p.to, element(x, x_type, p.from) + (add ? element(y, y_type, p.to) : 0.0f));
        }
    }
};

template <class T>
static cudaError_t move(void *y, const void *x, const cuda_walk &j, int64_t n, cudaStream_t stream)
{
    constexpr int W = packed<T>::WIDTH;
    return each<W>(plain_copy<T>{(T *)y, (const T *)x, j}, n, aligned16(y, x) && in_packs(&j, W), stream);
}

template <class Y, class X>
static cudaError_t convert(void *y, const void *x, const cuda_walk &j, int64_t n, bool add, cudaStream_t stream)
{
    constexpr int W = 8;
    return each<W>(float_copy<Y, X>{(Y *)y, (const X *)x, j, add}, n, aligned16(y, x) && in_packs(&j, W), stream);
}

cudaError_t cuda_copy_launch(void *y, int y_type, const void *x, int x_type, const cuda_walk *walk, bool add,
                             cudaStream_t stream)
{
    int64_t n = count_of(walk);
    if (n == 0)
        return cudaSuccess;
    cuda_walk j = joined(walk);
    bool      four = y_type == CUDA_F32 || y_type == CUDA_I32;
    if (add && y_type != CUDA_F32 && y_type != CUDA_BF16)
        return cudaErrorInvalidValue;
    if (y_type == x_type && !add)
        return four ? move<uint32_t>(y, x, j, n, stream)
                    : y_type == CUDA_BF16 || y_type == CUDA_F16 ? move<uint16_t>(y, x, j, n, stream)
                                                                : move<uint8_t>(y, x, j, n, stream);
    if (y_type == CUDA_F8E4M3)
        return cudaErrorInvalidValue;
    if (y_type == CUDA_F32 && x_type == CUDA_F32)
        return convert<float, float>(y, x, j, n, add, stream);
    if (y_type == CUDA_F32 && x_type == CUDA_BF16)
        return convert<float, bfloat>(y, x, j, n, add, stream);
    if (y_type == CUDA_BF16 && x_type == CUDA_F32)
        return convert<bfloat, float>(y, x, j, n, add, stream);
    if (y_type == CUDA_BF16 && x_type == CUDA_BF16)
        return convert<bfloat, bfloat>(y, x, j, n, add, stream);
    return each<1>(any_copy{y, x, y_type, x_type, j, add}, n, false, stream);
}

/* ---- fills ---- */

template <class T> struct plain_fill {
    T        *y;
    cuda_walk walk;
    int       type;
    float     value;

    template <int W> __device__ void run(int64_t i) const
    {
        pack<T, W> p;
        uint32_t   bits = 0; /* little-endian: the element is its lowest bytes */
        put(&bits, type, 0, value);
#pragma unroll
        for (int j = 0; j < W; j++)
            p.at[j] = (T)bits;
        *reinterpret_cast<pack<T, W> *>(y + places_of(walk, i).to) = p;
    }
};

template <class T>
static cudaError_t fill(void *y, int type, const cuda_walk &j, int64_t n, float value, cudaStream_t stream)
{
    constexpr int W = packed<T>::WIDTH;
    return each<W>(plain_fill<T>{(T *)y, j, type, value}, n, aligned16(y) && in_packs(&j, W), stream);
}

cudaError_t cuda_fill_launch(void *y, int type, const cuda_walk *walk, float value, cudaStream_t stream)
{
    int64_t   n = count_of(walk);
    cuda_walk both = *walk;
    for (int d = 0; d < walk->ndim; d++)
        both.from[d] = walk->to[d];
    if (n == 0)
        return cudaSuccess;
    if (type == CUDA_F8E4M3)
        return cudaErrorInvalidValue;
    both = joined(&both);
    if (type == CUDA_F32 || type == CUDA_I32)
        return fill<uint32_t>(y, type, both, n, value, stream);
    if (type == CUDA_BF16 || type == CUDA_F16)
        return fill<uint16_t>(y, type, both, n, value, stream);
    return fill<uint8_t>(y, type, both, n, value, stream);
}
