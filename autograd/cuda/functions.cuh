/* Functions of one number in f32, as autograd/cpu/unary.c has them. */
#ifndef MSD_AUTOGRAD_CUDA_FUNCTIONS_CUH
#define MSD_AUTOGRAD_CUDA_FUNCTIONS_CUH

#include <math.h>

static __device__ __forceinline__ float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

/* Phi(x) = erfc(-x / sqrt 2) / 2, which keeps its relative precision in the lower tail */
static __device__ __forceinline__ float normal_cdf(float x)
{
    return 0.5f * erfcf(-0.70710678118654752f * x);
}

static __device__ __forceinline__ float gelu(float x)
{
    return x * normal_cdf(x);
}

/* d gelu = Phi(x) + x phi(x) */
static __device__ __forceinline__ float gelu_slope(float x)
{
    return normal_cdf(x) + x * 0.3989422804014327f * expf(-0.5f * x * x);
}

static __device__ __forceinline__ float silu_slope(float x)
{
    float s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

#endif
