/* The CUDA device: its state, and prototypes of what autograd/device.h describes, one for each row of its table.
 * For files in autograd/cuda/ only. Everything is queued on one stream in the order of the calls; only download and
 * sum_squares wait for it. */
#ifndef MSD_AUTOGRAD_CUDA_CUDA_H
#define MSD_AUTOGRAD_CUDA_CUDA_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include "autograd/capture.h"
#include "autograd/cuda/kernels.h"
#include "autograd/cuda/keyed.h"
#include "autograd/cuda/store.h"
#include "autograd/device.h"

enum { CUDA_STAGING_BYTES = 4 << 20, CUDA_SCRATCH_ALIGNMENT = 256 };

typedef struct cuda_state {
    int              index; /* of the card */
    cudaStream_t     stream;
    cublasLtHandle_t blas;
    cudnnHandle_t    dnn;
    cudnnBackendDescriptor_t described; /* NULL; of a device without data: the card that plans are for, instead of dnn */
    void            *workspace;  /* cuBLASLt's, on the card */
    size_t           workspace_bytes;
    void            *pinned[2];  /* host memory that the card reads and writes, CUDA_STAGING_BYTES each */
    cudaEvent_t      free[2];    /* when the card is done with each */
    void            *staging;    /* on the card, CUDA_STAGING_BYTES */
    int32_t         *bad_id;     /* on the card: an embedding met an id outside its table */
    double          *sum;        /* on the card */
    float           *maps;       /* on the card: adamw8's codes, NULL before its first call */
    keyed            products, plans; /* cuBLASLt's algorithms, cuDNN's plans */
    cuda_store      *store;           /* of both, on disk; NULL: none */
} cuda_state;

static inline cuda_state *cuda_state_of(const device *d)
{
    return d->state;
}

static inline cudaStream_t cuda_stream_of(const device *d)
{
    return cuda_state_of(d)->stream;
}

/* The primitives that take scratch, for a device without data. */
extern const primitives cuda_dry;

/* autograd/capture.h as CUDA graphs: graph.c; what it says of memory: copy.c. */
extern const struct capture cuda_capture;
err cuda_upload_pinned(device *d, tensor *y, const void *pinned, dtype type);
err cuda_download_pinned(device *d, void *pinned, dtype type, const tensor *x);
err cuda_wait(device *d);

/* ---- errors (status.c): each is one line that names the call, E_DEVICE, or E_MEMORY where memory is short ---- */

err cuda_failed(cudaError_t status, const char *call);
err cuda_blas_failed(cublasStatus_t status, const char *call);
err cuda_dnn_failed(cudnnStatus_t status, const char *call);

#define CUDA_TRY(call)                          \
    do {                                        \
        cudaError_t status_ = (call);           \
        if (status_ != cudaSuccess)             \
            return cuda_failed(status_, #call); \
    } while (0)
#define BLAS_TRY(call)                               \
    do {                                             \
        cublasStatus_t status_ = (call);             \
        if (status_ != CUBLAS_STATUS_SUCCESS)        \
            return cuda_blas_failed(status_, #call); \
    } while (0)

/* ---- element types (types.c), as autograd/cpu/cpu.h's ---- */

#define CUDA_TENSORS(...) \
    (int)(sizeof((const tensor *[]){__VA_ARGS__}) / sizeof(const tensor *)), (const tensor *[]){__VA_ARGS__}

/* Sets *bf16 to what t[0..count) are; NULL entries are passed over, the first is there; all are contiguous. */
err cuda_one_type(bool *bf16, const char *primitive, int count, const tensor *const *t);
/* The same for tensors that may be strided. */
err cuda_one_type_strided(bool *bf16, const char *primitive, int count, const tensor *const *t);
/* The gradient of what may be a parameter: bf16, or f32 (*wide). */
err cuda_gradient_type(bool *wide, const char *primitive, const tensor *dx, bool bf16);
/* x (NULL: fine) is f32 and contiguous. */
err cuda_need_f32(const char *primitive, const tensor *x);

/* ---- memory (memory.c) ---- */

/* Of an amount that is needed, for error lines: rounded up. */
static inline size_t cuda_mebibytes(size_t bytes)
{
    return bytes / ((size_t)1 << 20) + (bytes % ((size_t)1 << 20) != 0);
}

/* Memory beside the allocator's, for cudaFree and cudaFreeHost. E_MEMORY: there is not so much. */
err cuda_card_get(void **out, size_t bytes);
err cuda_pinned_get(void **out, size_t bytes);

allocator *cuda_allocator_new(int index);
void       cuda_allocator_free(allocator *a);

/* Scratch of one primitive, aligned to CUDA_SCRATCH_ALIGNMENT; 0 bytes: data is NULL. */
typedef struct cuda_scratch {
    void  *data, *memory;
    size_t bytes;
} cuda_scratch;
err  cuda_scratch_get(device *d, cuda_scratch *out, size_t bytes);
void cuda_scratch_put(device *d, cuda_scratch *s);

/* y's and x's strides over x's shape, x broadcast to y where a dimension is 1 (aligned at the innermost): copy.c. */
cuda_walk cuda_walk_of(const tensor *y, const tensor *x);

/* Puts scratch back and says what came of the launch: the last line of a primitive that takes some. */
static inline err cuda_done(device *d, cuda_scratch *s, cudaError_t status, const char *primitive)
{
    cuda_scratch_put(d, s);
    return status == cudaSuccess ? OK : cuda_failed(status, primitive);
}

/* ---- the primitives ---- */

err cuda_upload(device *d, tensor *y, const void *host, dtype type);
err cuda_download(device *d, void *host, dtype type, const tensor *x);
err cuda_fill(device *d, tensor *y, float value);
err cuda_copy(device *d, tensor *y, const tensor *x, bool add);
err cuda_lay_out(device *d, tensor *w, weight_use use);
err cuda_linear(device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias, const tensor *residual);
err cuda_linear_dx(device *d, tensor *dx, const tensor *dy, const tensor *w, bool add);
err cuda_linear_dw(device *d, tensor *dw, const tensor *dy, const tensor *x, bool add);
err cuda_sum_rows(device *d, tensor *db, const tensor *dy, bool add);
err cuda_conv2d(device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias, const tensor *residual,
                const conv_geometry *g);
err cuda_conv2d_dx(device *d, tensor *dx, const tensor *dy, const tensor *w, const conv_geometry *g, bool add);
err cuda_group_norm(device *d, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *vec,
                    const tensor *w, const tensor *b, int groups, float eps, bool silu);
err cuda_group_norm_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, const tensor *vec, const tensor *w,
                       const tensor *b, const tensor *mean, const tensor *rstd, int groups, bool silu, bool add);
err cuda_layer_norm(device *d, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *w,
                    const tensor *b, float eps);
err cuda_layer_norm_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, const tensor *w, const tensor *mean,
                       const tensor *rstd, bool add);
err cuda_layer_norm_dwb(device *d, tensor *dw, tensor *db, const tensor *dy, const tensor *x, const tensor *mean,
                        const tensor *rstd, bool add_w, bool add_b);
err cuda_unary(device *d, tensor *y, const tensor *x, unary f);
err cuda_unary_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, unary f, bool add);
err cuda_geglu(device *d, tensor *y, const tensor *x);
err cuda_geglu_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, bool add);
err cuda_add(device *d, tensor *y, const tensor *a, const tensor *b);
err cuda_mul(device *d, tensor *y, const tensor *a, const tensor *b);
err cuda_reduce_to(device *d, tensor *db, const tensor *dy, const tensor *other, bool add);
err cuda_scale(device *d, tensor *y, const tensor *x, float s, bool add);
err cuda_attention(device *d, tensor *y, tensor *lse, const tensor *q, const tensor *k, const tensor *v, float scale,
                   bool causal);
err cuda_attention_backward(device *d, tensor *dq, tensor *dk, tensor *dv, const tensor *dy, const tensor *y,
                            const tensor *lse, const tensor *q, const tensor *k, const tensor *v, float scale,
                            bool causal, bool add_q, bool add_k, bool add_v);
err cuda_box_mask(device *d, tensor *mask, const tensor *boxes, int64_t h, int64_t w);
err cuda_multi_subject_attention(device *d, tensor *y, tensor *lse, const tensor *base, const tensor *q,
                                 const tensor *k, const tensor *v, const tensor *mask, const tensor *subject_scales,
                                 float scale);
err cuda_multi_subject_attention_backward(device *d, tensor *dq, tensor *dk, tensor *dv, const tensor *dy,
                                          const tensor *lse, const tensor *q, const tensor *k, const tensor *v,
                                          const tensor *mask, const tensor *subject_scales, float scale, bool add_q,
                                          bool add_k, bool add_v);
err cuda_embedding(device *d, tensor *y, const tensor *table, const tensor *ids);
err cuda_embedding_dtable(device *d, tensor *dtable, const tensor *dy, const tensor *ids, bool add);
err cuda_time_embedding(device *d, tensor *y, const tensor *t);
err cuda_box_embedding(device *d, tensor *y, const tensor *boxes, int freqs);
err cuda_select(device *d, tensor *y, const tensor *pick, const tensor *a, const tensor *b);
err cuda_select_backward(device *d, tensor *da, tensor *db, const tensor *dy, const tensor *pick, bool add_a,
                         bool add_b);
err cuda_upsample(device *d, tensor *y, const tensor *x);
err cuda_upsample_dx(device *d, tensor *dx, const tensor *dy, bool add);
err cuda_mse(device *d, tensor *loss, const tensor *a, const tensor *b);
err cuda_mse_backward(device *d, tensor *da, const tensor *dloss, const tensor *a, const tensor *b, float sign,
                      bool add);
err cuda_sum_squares(device *d, double *out, const tensor *x);
err cuda_adamw(device *d, tensor *p, tensor *m, tensor *v, tensor *copy, const tensor *g, float clip, double lr,
               double beta1, double beta2, double eps, double decay, int64_t step);
err cuda_adamw8(device *d, tensor *p, tensor *m, tensor *m_absmax, tensor *v, tensor *v_absmax, tensor *copy,
                const tensor *g, float clip, double lr, double beta1, double beta2, double eps, double decay,
                int64_t step);

#endif
