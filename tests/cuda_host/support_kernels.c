#include "support_kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void world_open(kernel_world *w)
{
    *w = (kernel_world){.seed = 1};
    assert_int_equal(device_open_cpu(&w->cpu, 1), OK);
}

void world_close(kernel_world *w)
{
    for (int i = 0; i < w->count; i++)
        assert_int_equal(cudaFree(w->blocks[i]), cudaSuccess);
    for (int i = 0; i < w->tensor_count; i++)
        tensor_release(w->tensors[i]);
    arena_free(&w->memory);
    device_close(w->cpu);
}

static tensor *tensor_of(kernel_world *w, const float *values, dtype type, int ndim, const int64_t *dim)
{
    tensor *t = NULL;
    assert_int_equal(tensor_new(&t, &w->memory, w->cpu, LIFE_STEP, "test", type, ndim, dim), OK);
    assert_int_equal(tensor_upload(t, values, DT_F32), OK);
    assert_true(w->tensor_count < (int)(sizeof w->tensors / sizeof *w->tensors));
    w->tensors[w->tensor_count++] = t;
    return t;
}

static float *values_for(int ndim, const int64_t *dim, int64_t *count)
{
    *count = 1;
    for (int i = 0; i < ndim; i++)
        *count *= dim[i];
    float *values = malloc((size_t)(*count + 1) * sizeof *values);
    assert_non_null(values);
    return values;
}

tensor *world_tensor(kernel_world *w, dtype type, float center, float spread, int ndim, const int64_t *dim)
{
    int64_t n;
    float  *values = values_for(ndim, dim, &n);
    for (int64_t i = 0; i < n; i++) {
        w->seed = w->seed * 1664525u + 1013904223u;
        values[i] = center + spread * ((float)(w->seed >> 8) / 8388608.0f - 1.0f);
    }
    tensor *t = tensor_of(w, values, type, ndim, dim);
    free(values);
    return t;
}

tensor *world_output(kernel_world *w, dtype type, bool add, int ndim, const int64_t *dim)
{
    int64_t n;
    float  *values = values_for(ndim, dim, &n);
    for (int64_t i = 0; i < n; i++)
        values[i] = add ? 1.0f : NAN;
    tensor *t = tensor_of(w, values, type, ndim, dim);
    free(values);
    return t;
}

void *world_scratch(kernel_world *w, size_t bytes)
{
    if (!bytes)
        return NULL;
    void *block = NULL, *poison = malloc(bytes);
    assert_non_null(poison);
    memset(poison, 0xff, bytes);
    assert_true(w->count < (int)(sizeof w->blocks / sizeof *w->blocks));
    assert_int_equal(cudaMalloc(&block, bytes), cudaSuccess);
    w->blocks[w->count++] = block;
    assert_int_equal(cudaMemcpy(block, poison, bytes, cudaMemcpyHostToDevice), cudaSuccess);
    free(poison);
    return block;
}

void *world_mirror(kernel_world *w, const tensor *t)
{
    if (!t)
        return NULL;
    size_t bytes = (size_t)tensor_count(t) * dtype_bytes(t->type), shift = w->odd ? dtype_bytes(t->type) : 0;
    char  *block = world_scratch(w, bytes + shift);
    assert_int_equal(cudaMemcpy(block + shift, t->data, bytes, cudaMemcpyHostToDevice), cudaSuccess);
    return block + shift;
}

cuda_heads world_heads(const tensor *t, void *at)
{
    if (!t)
        return (cuda_heads){0};
    return (cuda_heads){at, t->stride[0], t->stride[1], t->stride[2]};
}

void launched(cudaError_t e)
{
    if (e != cudaSuccess)
        fail_msg("a launch failed: %s", cudaGetErrorString(e));
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
}

double mirror_error(kernel_world *w, const tensor *expected, const void *mirror)
{
    int64_t n = tensor_count(expected);
    size_t  bytes = (size_t)n * dtype_bytes(expected->type);
    tensor *got = NULL;
    assert_int_equal(tensor_new(&got, &w->memory, w->cpu, LIFE_STEP, "got", expected->type, expected->ndim, expected->dim), OK);
    assert_int_equal(cudaMemcpy(got->data, mirror, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
    float *a = malloc((size_t)(n + 1) * sizeof *a), *b = malloc((size_t)(n + 1) * sizeof *b);
    assert_true(a && b);
    assert_int_equal(tensor_download(a, DT_F32, expected), OK);
    assert_int_equal(tensor_download(b, DT_F32, got), OK);
    double worst = 0, largest = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        double e = fabs((double)a[i] - (double)b[i]);
        if (!(e <= worst))
            worst = e;
        if (fabs((double)a[i]) > largest)
            largest = fabs((double)a[i]);
    }
    free(a);
    free(b);
    tensor_release(got);
    return worst / largest;
}

void assert_mirror(kernel_world *w, const char *what, const tensor *expected, const void *mirror, bool bf16)
{
    double error = mirror_error(w, expected, mirror), most = bf16 ? 1e-2 : 1e-5;
    if (getenv("MSD_TEST_VERBOSE"))
        printf("%-44s %s %.1e\n", what, bf16 ? "bf16" : "f32 ", error);
    if (!(error <= most))
        fail_msg("%s, %s: off by %g of the largest, at most %g", what, bf16 ? "bf16" : "f32", error, most);
}
