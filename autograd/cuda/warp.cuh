/* Sums and maxima over the threads of a warp or a block, in a fixed order: every thread gets the same bits. */
#ifndef MSD_AUTOGRAD_CUDA_WARP_CUH
#define MSD_AUTOGRAD_CUDA_WARP_CUH

#include <cuda_runtime.h>
#include <math.h>

enum { WARP = 32 };

/* Over groups of WIDTH neighbouring lanes, a power of two. */
template <int WIDTH, class T> static __device__ __forceinline__ T lanes_sum(T v)
{
#pragma unroll
    for (int mask = WIDTH / 2; mask > 0; mask /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, mask);
    return v;
}

template <int WIDTH> static __device__ __forceinline__ float lanes_max(float v)
{
#pragma unroll
    for (int mask = WIDTH / 2; mask > 0; mask /= 2)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, mask));
    return v;
}

template <class T> static __device__ __forceinline__ T warp_sum(T v)
{
    return lanes_sum<WARP>(v);
}

/* Of all THREADS of the block, which all call it; `shared` (THREADS / WARP) is free again when it returns. */
template <int THREADS, class T> static __device__ __forceinline__ T block_sum(T v, T *shared)
{
    v = warp_sum(v);
    if (threadIdx.x % WARP == 0)
        shared[threadIdx.x / WARP] = v;
    __syncthreads();
    T sum = 0;
#pragma unroll
    for (int i = 0; i < THREADS / WARP; i++)
        sum += shared[i];
    __syncthreads();
    return sum;
}

template <int THREADS> static __device__ __forceinline__ float block_max(float v, float *shared)
{
    v = lanes_max<WARP>(v);
    if (threadIdx.x % WARP == 0)
        shared[threadIdx.x / WARP] = v;
    __syncthreads();
    float most = shared[0];
#pragma unroll
    for (int i = 1; i < THREADS / WARP; i++)
        most = fmaxf(most, shared[i]);
    __syncthreads();
    return most;
}

#endif
