/* Launching kernels: typed by the kernel's own parameter list, so that an argument of another type is converted or
 * refused by the compiler, through cudaLaunchKernel, so that one source serves every compiler. */
#ifndef MSD_AUTOGRAD_CUDA_LAUNCH_CUH
#define MSD_AUTOGRAD_CUDA_LAUNCH_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>

#include "autograd/cuda/kernels.h"

enum { BLOCK_THREADS = 256, MOST_BLOCKS = 4096 };

template <class T> struct same_type {
    typedef T type; /* keeps the arguments out of the deduction of a kernel's parameters */
};

template <class... P>
static inline cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t stream,
                                 typename same_type<P>::type... arguments)
{
    void *pointers[] = {(void *)&arguments...};
    return cudaLaunchKernel(kernel, grid, block, pointers, 0, stream);
}

static inline int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Blocks for n threads' work in a loop over the grid. */
static inline unsigned blocks_for(int64_t n)
{
    return (unsigned)least(divide_up(n, BLOCK_THREADS), MOST_BLOCKS);
}

/* Whether 16-byte loads may start at each of them; NULL may. */
template <class... P> static inline bool aligned16(P... pointers)
{
    bool all = true;
    const void *list[] = {pointers...};
    for (const void *p : list)
        all = all && (uintptr_t)p % 16 == 0;
    return all;
}

/* ---- on the device ---- */

static __device__ __forceinline__ int64_t thread_index()
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

static __device__ __forceinline__ int64_t thread_count()
{
    return (int64_t)gridDim.x * blockDim.x;
}

/* Calls f.template run<W>(i) for the whole packs of W of n elements, then run<1> for the rest. */
template <int W, class F> __global__ void __launch_bounds__(BLOCK_THREADS, 4) each_kernel(F f, int64_t n)
{
    int64_t packs = n / W;
    for (int64_t i = thread_index(); i < packs; i += thread_count())
        f.template run<W>(i * W);
    for (int64_t i = packs * W + thread_index(); i < n; i += thread_count())
        f.template run<1>(i);
}

/* f for each of n elements, in packs of W where `packed`. */
template <int W, class F> static cudaError_t each(F f, int64_t n, bool packed, cudaStream_t stream)
{
    if (n == 0)
        return cudaSuccess;
    if (packed)
        return launch(each_kernel<W, F>, dim3(blocks_for(divide_up(n, W))), dim3(BLOCK_THREADS), stream, f, n);
    return launch(each_kernel<1, F>, dim3(blocks_for(n)), dim3(BLOCK_THREADS), stream, f, n);
}

#endif
