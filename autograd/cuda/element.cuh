/* Elements of f32 and bf16 tensors: kernels are templates over the stored type T and compute in f32; a pack of W of them
 * moves in 16-byte pieces. */
#ifndef MSD_AUTOGRAD_CUDA_ELEMENT_CUH
#define MSD_AUTOGRAD_CUDA_ELEMENT_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>

typedef __nv_bfloat16 bfloat;

static __device__ __forceinline__ float widened(float x)
{
    return x;
}

static __device__ __forceinline__ float widened(bfloat x)
{
    return __bfloat162float(x);
}

static __device__ __forceinline__ void narrow(float *y, float x)
{
    *y = x;
}

static __device__ __forceinline__ void narrow(bfloat *y, float x)
{
    *y = __float2bfloat16_rn(x);
}

template <class T, int W> struct alignas(sizeof(T) * W) pack {
    T at[W];
};

/* Elements of T in a pack of 16 bytes. */
template <class T> struct packed {
    enum { WIDTH = 16 / (int)sizeof(T) };
};

/* v = x[0..W); with W > 1, x lies on 16 bytes, or on W elements where these are fewer. */
template <int W, class T> static __device__ __forceinline__ void load(float (&v)[W], const T *x)
{
    constexpr int piece = W < 16 / (int)sizeof(T) ? W : 16 / (int)sizeof(T);
#pragma unroll
    for (int i = 0; i < W; i += piece) {
        pack<T, piece> p = *reinterpret_cast<const pack<T, piece> *>(x + i);
#pragma unroll
        for (int j = 0; j < piece; j++)
            v[i + j] = widened(p.at[j]);
    }
}

template <int W, class T> static __device__ __forceinline__ void store(T *y, const float (&v)[W])
{
    constexpr int piece = W < 16 / (int)sizeof(T) ? W : 16 / (int)sizeof(T);
#pragma unroll
    for (int i = 0; i < W; i += piece) {
        pack<T, piece> p;
#pragma unroll
        for (int j = 0; j < piece; j++)
            narrow(&p.at[j], v[i + j]);
        *reinterpret_cast<pack<T, piece> *>(y + i) = p;
    }
}

/* y (+)= v */
template <int W, class T> static __device__ __forceinline__ void store_or_add(T *y, float (&v)[W], bool add)
{
    if (add) {
        float old[W];
        load<W>(old, y);
#pragma unroll
        for (int i = 0; i < W; i++)
            v[i] += old[i];
    }
    store<W>(y, v);
}

#endif
