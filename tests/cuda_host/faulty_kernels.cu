/* Kernels with one mistake each, for test_layer_checks.c. */
#include "faulty_kernels.h"

#include <cuda_runtime.h>

#include "autograd/cuda/launch.cuh"

static __global__ void reverse_without_barrier(float *y)
{
    __shared__ float shared[64];
    shared[threadIdx.x] = (float)threadIdx.x;
    y[threadIdx.x] = shared[63 - threadIdx.x];
}

static __global__ void reverse(float *y)
{
    __shared__ float shared[64];
    shared[threadIdx.x] = (float)threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = shared[63 - threadIdx.x];
}

static __global__ void half_a_barrier(float *y)
{
    if (threadIdx.x < 32)
        __syncthreads();
    y[threadIdx.x] = 0.0f;
}

static __global__ void return_before_barrier(float *y)
{
    if (threadIdx.x == 5)
        return;
    __syncthreads();
    y[threadIdx.x] = 0.0f;
}

static __global__ void shuffle_of_half(float *y)
{
    float v = (float)threadIdx.x;
    if (threadIdx.x < 16)
        v = __shfl_xor_sync(0xffffffffu, v, 1);
    y[threadIdx.x] = v;
}

static __global__ void load_across(float *y)
{
    *(float4 *)(y + 1) = make_float4(1, 2, 3, 4);
}

static __global__ void write_at(float *y, int64_t i)
{
    y[i] = 1.0f;
}

cudaError_t faulty_launch(faulty which, float *y, int64_t i, cudaStream_t stream)
{
    dim3 one(1);
    switch (which) {
    case FAULTY_NONE: return launch(reverse, one, dim3(64), stream, y);
    case FAULTY_NO_BARRIER: return launch(reverse_without_barrier, one, dim3(64), stream, y);
    case FAULTY_HALF_A_BARRIER: return launch(half_a_barrier, one, dim3(64), stream, y);
    case FAULTY_RETURN: return launch(return_before_barrier, one, dim3(64), stream, y);
    case FAULTY_SHUFFLE: return launch(shuffle_of_half, one, dim3(32), stream, y);
    case FAULTY_ALIGNMENT: return launch(load_across, one, one, stream, y);
    case FAULTY_WRITE: return launch(write_at, one, one, stream, y, i);
    }
    return cudaErrorInvalidValue;
}
