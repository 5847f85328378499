/* The launchers of the CUDA device's own kernels (autograd/cuda/, .cu files): plain C, called by the primitives in
 * autograd/cuda/. Formulas and edge rules are autograd/device.h's; autograd/cpu/ is the reference.
 *
 * Outputs first, then inputs, sizes, the type flag and the stream. All pointers are to device memory unless a line says
 * host; bf16 tells what the void pointers of a call hold (false: f32), `wide` that a gradient is f32 whatever bf16 is.
 * Scratch is the caller's, 256-byte aligned, of X_scratch_bytes(...) bytes, which depends on shapes alone. Nothing
 * synchronises or allocates, so that every launch can be captured. Grids depend on shapes alone. Sums have a fixed
 * order: the same bits twice. An empty tensor launches nothing. */
#ifndef MSD_AUTOGRAD_CUDA_KERNELS_H
#define MSD_AUTOGRAD_CUDA_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { CUDA_MAX_DIM = 5 };

/* Values of `dtype` (autograd/tensor.h). */
enum { CUDA_F32 = 0, CUDA_BF16 = 1, CUDA_F16 = 2, CUDA_F8E4M3 = 3, CUDA_I32 = 4, CUDA_U8 = 5 };

/* Two views of one shape, outermost dimension first; strides in elements, 0 where a side is broadcast. Host. */
typedef struct cuda_walk {
    int     ndim; /* 0: one element */
    int64_t dim[CUDA_MAX_DIM], to[CUDA_MAX_DIM], from[CUDA_MAX_DIM];
} cuda_walk;

/* ---- copy.cu ---- */

/* y (+)= x, strided both (walk: to y, from x); types CUDA_*. Equal types are moved as they are. add: f32 and bf16 only.
 * Stores in i32 and u8 truncate; f8e4m3 is only read, but for equal types. */
cudaError_t cuda_copy_launch(void *y, int y_type, const void *x, int x_type, const cuda_walk *walk, bool add,
                             cudaStream_t stream);
/* strided y: walk.to */
cudaError_t cuda_fill_launch(void *y, int type, const cuda_walk *walk, float value, cudaStream_t stream);

/* ---- elementwise.cu ---- */

typedef enum cuda_function { CUDA_SILU, CUDA_GELU, CUDA_QUICK_GELU } cuda_function; /* values of `unary` */

cudaError_t cuda_unary_launch(void *y, const void *x, int64_t n, cuda_function f, bool bf16, cudaStream_t stream);
cudaError_t cuda_unary_dx_launch(void *dx, const void *dy, const void *x, int64_t n, cuda_function f, bool add,
                                 bool bf16, cudaStream_t stream);
/* x (rows,2m), y (rows,m) */
cudaError_t cuda_geglu_launch(void *y, const void *x, int64_t rows, int64_t m, bool bf16, cudaStream_t stream);
cudaError_t cuda_geglu_dx_launch(void *dx, const void *dy, const void *x, int64_t rows, int64_t m, bool add, bool bf16,
                                 cudaStream_t stream);
/* y = a + b or a * b, y and a contiguous; walk: a's shape, `from` b's strides, 0 where it is broadcast (to: unused) */
cudaError_t cuda_add_launch(void *y, const void *a, const void *b, const cuda_walk *walk, bool bf16,
                            cudaStream_t stream);
cudaError_t cuda_mul_launch(void *y, const void *a, const void *b, const cuda_walk *walk, bool bf16,
                            cudaStream_t stream);
/* y (+)= s x; y may be x */
cudaError_t cuda_scale_launch(void *y, const void *x, float s, int64_t n, bool add, bool bf16, cudaStream_t stream);
/* da (+)= sign dloss 2 (a - b) / n; dloss f32 () */
cudaError_t cuda_mse_backward_launch(void *da, const float *dloss, const void *a, const void *b, int64_t n, float sign,
                                     bool add, bool bf16, cudaStream_t stream);

/* ---- reduce.cu ---- */

/* db (+)= sum over the broadcast dimensions of dy [* other]; dy, other contiguous, db contiguous.
 * walk: dy's shape, `to` db's strides, 0 where db lacks the dimension (from: unused). */
size_t      cuda_reduce_to_scratch_bytes(const cuda_walk *walk);
cudaError_t cuda_reduce_to_launch(void *db, const void *dy, const void *other, const cuda_walk *walk, bool add,
                                  bool wide, bool bf16, void *scratch, cudaStream_t stream);
/* db (m) f32 (+)= sum over rows of dy (n,m) */
size_t      cuda_sum_rows_scratch_bytes(int64_t n, int64_t m);
cudaError_t cuda_sum_rows_launch(float *db, const void *dy, int64_t n, int64_t m, bool add, bool bf16, void *scratch,
                                 cudaStream_t stream);
/* loss f32 () = mean((a-b)^2) */
size_t      cuda_mse_scratch_bytes(int64_t n);
cudaError_t cuda_mse_launch(float *loss, const void *a, const void *b, int64_t n, bool bf16, void *scratch,
                            cudaStream_t stream);
/* out f64 () */
size_t      cuda_sum_squares_scratch_bytes(int64_t n);
cudaError_t cuda_sum_squares_launch(double *out, const float *x, int64_t n, void *scratch, cudaStream_t stream);

/* ---- group_norm.cu: x (batch,rows,channels), vec (batch,channels) or NULL, w, b (channels) ---- */

size_t      cuda_group_norm_scratch_bytes(int64_t batch, int64_t rows, int64_t channels, int groups);
cudaError_t cuda_group_norm_launch(void *y, float *mean, float *rstd, const void *x, const void *vec, const void *w,
                                   const void *b, int64_t batch, int64_t rows, int64_t channels, int groups, float eps,
                                   bool silu, bool bf16, void *scratch, cudaStream_t stream);
size_t      cuda_group_norm_dx_scratch_bytes(int64_t batch, int64_t rows, int64_t channels, int groups);
cudaError_t cuda_group_norm_dx_launch(void *dx, const void *dy, const void *x, const void *vec, const void *w,
                                      const void *b, const float *mean, const float *rstd, int64_t batch, int64_t rows,
                                      int64_t channels, int groups, bool silu, bool add, bool bf16, void *scratch,
                                      cudaStream_t stream);

/* ---- layer_norm.cu: x (rows,n); w, b (n) or NULL; mean, rstd (rows), outputs may be NULL ---- */

cudaError_t cuda_layer_norm_launch(void *y, float *mean, float *rstd, const void *x, const void *w, const void *b,
                                   int64_t rows, int64_t n, float eps, bool bf16, cudaStream_t stream);
cudaError_t cuda_layer_norm_dx_launch(void *dx, const void *dy, const void *x, const void *w, const float *mean,
                                      const float *rstd, int64_t rows, int64_t n, bool add, bool bf16,
                                      cudaStream_t stream);
/* dw, db f32, each may be NULL */
size_t      cuda_layer_norm_dwb_scratch_bytes(int64_t rows, int64_t n);
cudaError_t cuda_layer_norm_dwb_launch(float *dw, float *db, const void *dy, const void *x, const float *mean,
                                       const float *rstd, int64_t rows, int64_t n, bool add_w, bool add_b, bool bf16,
                                       void *scratch, cudaStream_t stream);

/* ---- embedding.cu ---- */

/* y (count,width) = table (rows,width)[ids]; *bad, i32 (1) or NULL, is set to 1 where an id is outside the table (its row
 * becomes NaN), and is never cleared. */
cudaError_t cuda_embedding_launch(void *y, int32_t *bad, const void *table, const int32_t *ids, int64_t count,
                                  int64_t rows, int64_t width, bool bf16, cudaStream_t stream);
/* dtable f32 (rows,width) (+)= dy's rows in the order of the ids; ids outside the table are passed over */
cudaError_t cuda_embedding_dtable_launch(float *dtable, const void *dy, const int32_t *ids, int64_t count, int64_t rows,
                                         int64_t width, bool add, bool bf16, cudaStream_t stream);
/* y f32 (n,dim), dim even */
cudaError_t cuda_time_embedding_launch(float *y, const float *t, int64_t n, int64_t dim, cudaStream_t stream);
/* y f32 (n,8*freqs), boxes (n,4) */
cudaError_t cuda_box_embedding_launch(float *y, const float *boxes, int64_t n, int freqs, cudaStream_t stream);
/* mask u8 (count,h*w), boxes (count,4) */
cudaError_t cuda_box_mask_launch(uint8_t *mask, const float *boxes, int64_t count, int64_t h, int64_t w,
                                 cudaStream_t stream);

/* ---- picture.cu ---- */

/* y (samples,size) = pick ? a : b; one: a has one sample for all */
cudaError_t cuda_select_launch(void *y, const int32_t *pick, const void *a, const void *b, int64_t samples, int64_t size,
                               bool one, bool bf16, cudaStream_t stream);
/* dx (samples or, if one, 1; size) (+)= the samples of dy whose pick is `chosen` */
cudaError_t cuda_select_backward_launch(void *dx, const void *dy, const int32_t *pick, int64_t samples, int64_t size,
                                        bool one, bool chosen, bool add, bool wide, bool bf16, cudaStream_t stream);
/* x (batch,h,w,channels), y (batch,rows,columns,channels) */
cudaError_t cuda_upsample_launch(void *y, const void *x, int64_t batch, int64_t h, int64_t w, int64_t rows,
                                 int64_t columns, int64_t channels, bool bf16, cudaStream_t stream);
cudaError_t cuda_upsample_dx_launch(void *dx, const void *dy, int64_t batch, int64_t h, int64_t w, int64_t rows,
                                    int64_t columns, int64_t channels, bool add, bool bf16, cudaStream_t stream);

/* ---- optimizer.cu: p, m, v f32 (n), copy bf16 (n) or NULL, g f32 (n) or NULL for zero ---- */

cudaError_t cuda_adamw_launch(float *p, float *m, float *v, void *copy, const float *g, int64_t n, float clip, double lr,
                              double beta1, double beta2, double eps, double decay, int64_t step, cudaStream_t stream);
/* maps f32 (4,256), of moment_code.h: the signed map's values and middles, then the unsigned one's. Blocks of 256. */
cudaError_t cuda_adamw8_launch(float *p, uint8_t *m, float *m_absmax, uint8_t *v, float *v_absmax, void *copy,
                               const float *g, const float *maps, int64_t n, float clip, double lr, double beta1,
                               double beta2, double eps, double decay, int64_t step, cudaStream_t stream);

/* ---- attention ---- */

/* Rows of heads: element (b,t,h,i) lies at data[b * batch + t * row + h * head + i], strides in elements. */
typedef struct cuda_heads {
    void   *data; /* NULL: not asked for */
    int64_t batch, row, head;
} cuda_heads;

/* B, T, S, H, D; causal: query t sees keys 0..t. D <= 512. Host. */
typedef struct cuda_attention_shape {
    int64_t batch, queries, keys, heads, size;
    float   scale;
    bool    causal, bf16;
} cuda_attention_shape;

enum { CUDA_ATTENTION_MAX_SIZE = 512 };

/* attention.cu: for the shapes and types that cuDNN's attention does not know. lse f32 (B,H,T), may be NULL. */
cudaError_t cuda_attention_launch(cuda_heads y, float *lse, cuda_heads q, cuda_heads k, cuda_heads v,
                                  const cuda_attention_shape *shape, cudaStream_t stream);
/* attention_backward.cu: dq, dk, dv may each have data NULL. The forward's y is not read: its rounding would go into the
 * gradient (autograd/cpu/attention_backward.c), the row sums of dy * y are made from the probabilities. */
size_t      cuda_attention_backward_scratch_bytes(const cuda_attention_shape *shape);
cudaError_t cuda_attention_backward_launch(cuda_heads dq, cuda_heads dk, cuda_heads dv, cuda_heads dy, const float *lse,
                                           cuda_heads q, cuda_heads k, cuda_heads v, const cuda_attention_shape *shape,
                                           bool add_q, bool add_k, bool add_v, void *scratch, cudaStream_t stream);

/* q (batch,T,H,D); k, v (samples,subjects*tokens,H,D); mask u8 (samples,subjects,T). D <= 192. Host. */
typedef struct cuda_subjects_shape {
    int64_t batch, samples, subjects, tokens, queries, heads, size;
    float   scale; /* of each subject where subject_scales, f32 (subjects), is NULL */
    bool    bf16;
} cuda_subjects_shape;

enum { CUDA_SUBJECTS_MAX_SIZE = 192 };

/* subjects.cu: lse f32 (samples,H,T), may be NULL; base.data NULL: 0; y may be base. */
size_t      cuda_subjects_scratch_bytes(const cuda_subjects_shape *shape);
cudaError_t cuda_subjects_launch(cuda_heads y, float *lse, cuda_heads base, cuda_heads q, cuda_heads k, cuda_heads v,
                                 const uint8_t *mask, const float *subject_scales, const cuda_subjects_shape *shape,
                                 void *scratch, cudaStream_t stream);
/* subjects_backward.cu: dq (batch,T,H,D), dk, dv like k; each may have data NULL. */
size_t      cuda_subjects_backward_scratch_bytes(const cuda_subjects_shape *shape);
cudaError_t cuda_subjects_backward_launch(cuda_heads dq, cuda_heads dk, cuda_heads dv, cuda_heads dy, const float *lse,
                                          cuda_heads q, cuda_heads k, cuda_heads v, const uint8_t *mask,
                                          const float *subject_scales, const cuda_subjects_shape *shape, bool add_q,
                                          bool add_k, bool add_v, void *scratch, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
