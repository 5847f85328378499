/* Tensors of the CPU device with a mirror in device memory, for tests that launch kernels directly and compare with the
 * CPU's primitives. */
#ifndef MSD_TESTS_CUDA_HOST_SUPPORT_KERNELS_H
#define MSD_TESTS_CUDA_HOST_SUPPORT_KERNELS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "autograd/cuda/kernels.h"
#include "autograd/device.h"

/* One test's world: a CPU device, and device memory that is freed at its end. */
typedef struct kernel_world {
    device *cpu;
    arena   memory;
    void   *blocks[64];
    tensor *tensors[64];
    int     count, tensor_count;
    bool    odd; /* mirrors lie one element behind what any alignment would be */
    unsigned seed;
} kernel_world;

void world_open(kernel_world *w);
void world_close(kernel_world *w);

/* A tensor of the CPU device with values in (-spread, spread) about `center`. */
tensor *world_tensor(kernel_world *w, dtype type, float center, float spread, int ndim, const int64_t *dim);
/* Full of NaN, or of 1 where it is added to: what a primitive has to write. */
tensor *world_output(kernel_world *w, dtype type, bool add, int ndim, const int64_t *dim);
/* Device memory with the tensor's contents now; NULL for NULL. */
void *world_mirror(kernel_world *w, const tensor *t);
/* Device memory full of NaN patterns; NULL for 0 bytes. */
void *world_scratch(kernel_world *w, size_t bytes);
cuda_heads world_heads(const tensor *t, void *at);

/* The launch succeeded. */
void launched(cudaError_t e);
/* Largest difference of the mirror from the tensor, over the tensor's largest magnitude; NaN where either has one. */
double mirror_error(kernel_world *w, const tensor *expected, const void *mirror);
/* Fails unless the mirror is within 1e-5 (f32) or 1e-2 (bf16) of the tensor; `bf16` where an f32 tensor comes from such. */
void assert_mirror(kernel_world *w, const char *what, const tensor *expected, const void *mirror, bool bf16);

#endif
