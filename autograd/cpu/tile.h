/* Tiles of attention: matrices of one batch entry and one head inside strided (B,T,H,D) tensors, their
 * products, and scratch memory for each thread. */
#ifndef MSD_AUTOGRAD_CPU_TILE_H
#define MSD_AUTOGRAD_CPU_TILE_H

#include <dnnl.h>
#include <omp.h>

#include "autograd/cpu/cpu.h"

/* The (T,D) matrix of one batch entry and head; rows are `row` elements apart. */
typedef struct head_rows {
    float  *at;
    int64_t row;
} head_rows;

/* E_DEVICE unless the (B,T,H,D) tensor is f32; its rows must be whole and in rising order. */
static inline err tile_need_f32(const char *primitive, const tensor *x)
{
    CHECK((x->dim[3] == 1 || x->stride[3] == 1) && (x->dim[1] == 1 || x->stride[1] >= x->dim[3]),
          "cpu %s: %s has rows of stride %lld and elements of stride %lld", primitive, x->name,
          (long long)x->stride[1], (long long)x->stride[3]);
    tensor type = *x;
    tensor_set_shape(&type, 0, NULL);
    return cpu_need_f32(primitive, &type);
}

static inline head_rows head_rows_of(const tensor *x, int64_t b, int64_t h)
{
    int64_t row = x->dim[1] > 1 ? x->stride[1] : x->dim[3];
    return (head_rows){(float *)x->data + b * x->stride[0] + h * x->stride[2], row};
}

static inline float *row_at(head_rows x, int64_t t)
{
    return x.at + t * x.row;
}

/* c (m,n) = alpha op(a) op(b) + beta c, row-major, lda, ldb, ldc elements between rows; op is 'N' or 'T'.
 * For calls inside a parallel region, where oneDNN runs on the calling thread alone (see tile_thread). */
static inline void tile_product(float *c, int64_t ldc, const float *a, int64_t lda, char op_a, const float *b,
                                int64_t ldb, char op_b, int64_t m, int64_t n, int64_t k, float alpha, float beta)
{
    dnnl_status_t s = dnnl_sgemm(op_a, op_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    CHECK(s == dnnl_success, "dnnl_sgemm %c%c (%lld,%lld,%lld) says %d", op_a, op_b, (long long)m, (long long)n,
          (long long)k, (int)s);
}

/* This thread's part of the scratch memory. A team of one is no active parallel region, so that oneDNN
 * would spread a product over all cores: the thread's limit says 1. It ends with the region. */
static inline float *tile_thread(float *scratch, int64_t floats)
{
    omp_set_num_threads(1);
    return scratch + omp_get_thread_num() * floats;
}

/* One block of `floats` for each thread, `floats` rounded up to whole cache lines. */
static inline err tile_scratch_get(device *d, float **out, int64_t *floats)
{
    *floats = (*floats + 15) / 16 * 16;
    void *memory = NULL;
    TRY(d->memory->get(d->memory, &memory, (size_t)(*floats * d->threads) * sizeof(float), LIFE_SCRATCH));
    *out = memory;
    return OK;
}

static inline void tile_scratch_put(device *d, float *scratch, int64_t floats)
{
    d->memory->put(d->memory, scratch, (size_t)(floats * d->threads) * sizeof(float), LIFE_SCRATCH);
}

#endif
