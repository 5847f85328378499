/* The CPU's primitives: prototypes of what autograd/device.h describes, one for each row of its table.
 * For files in autograd/cpu/ only. */
#ifndef MSD_AUTOGRAD_CPU_CPU_H
#define MSD_AUTOGRAD_CPU_CPU_H

#include "autograd/device.h"

err cpu_upload(device *d, tensor *y, const void *host, dtype type);
err cpu_download(device *d, void *host, dtype type, const tensor *x);
err cpu_fill(device *d, tensor *y, float value);
err cpu_copy(device *d, tensor *y, const tensor *x, bool add);
err cpu_lay_out(device *d, tensor *w, weight_use use);
err cpu_linear(device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias, const tensor *residual);
err cpu_linear_dx(device *d, tensor *dx, const tensor *dy, const tensor *w, bool add);
err cpu_linear_dw(device *d, tensor *dw, const tensor *dy, const tensor *x, bool add);
err cpu_sum_rows(device *d, tensor *db, const tensor *dy, bool add);
err cpu_conv2d(device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias, const tensor *residual,
               const conv_geometry *g);
err cpu_conv2d_dx(device *d, tensor *dx, const tensor *dy, const tensor *w, const conv_geometry *g, bool add);
err cpu_group_norm(device *d, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *vec,
                   const tensor *w, const tensor *b, int groups, float eps, bool silu);
err cpu_group_norm_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, const tensor *vec, const tensor *w,
                      const tensor *b, const tensor *mean, const tensor *rstd, int groups, bool silu, bool add);
err cpu_layer_norm(device *d, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *w,
                   const tensor *b, float eps);
err cpu_layer_norm_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, const tensor *w, const tensor *mean,
                      const tensor *rstd, bool add);
err cpu_layer_norm_dwb(device *d, tensor *dw, tensor *db, const tensor *dy, const tensor *x, const tensor *mean,
                       const tensor *rstd, bool add_w, bool add_b);
err cpu_unary(device *d, tensor *y, const tensor *x, unary f);
err cpu_unary_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, unary f, bool add);
err cpu_geglu(device *d, tensor *y, const tensor *x);
err cpu_geglu_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, bool add);
err cpu_add(device *d, tensor *y, const tensor *a, const tensor *b);
err cpu_mul(device *d, tensor *y, const tensor *a, const tensor *b);
err cpu_reduce_to(device *d, tensor *db, const tensor *dy, const tensor *other, bool add);
err cpu_scale(device *d, tensor *y, const tensor *x, float s, bool add);
err cpu_attention(device *d, tensor *y, tensor *lse, const tensor *q, const tensor *k, const tensor *v, float scale,
                  bool causal);
err cpu_attention_backward(device *d, tensor *dq, tensor *dk, tensor *dv, const tensor *dy, const tensor *y,
                           const tensor *lse, const tensor *q, const tensor *k, const tensor *v, float scale,
                           bool causal, bool add_q, bool add_k, bool add_v);
err cpu_box_mask(device *d, tensor *mask, const tensor *boxes, int64_t h, int64_t w);
err cpu_multi_subject_attention(device *d, tensor *y, tensor *lse, const tensor *base, const tensor *q,
                                const tensor *k, const tensor *v, const tensor *mask, const tensor *subject_scales,
                                float scale);
err cpu_multi_subject_attention_backward(device *d, tensor *dq, tensor *dk, tensor *dv, const tensor *dy,
                                         const tensor *lse, const tensor *q, const tensor *k, const tensor *v,
                                         const tensor *mask, const tensor *subject_scales, float scale, bool add_q,
                                         bool add_k, bool add_v);
err cpu_embedding(device *d, tensor *y, const tensor *table, const tensor *ids);
err cpu_embedding_dtable(device *d, tensor *dtable, const tensor *dy, const tensor *ids, bool add);
err cpu_time_embedding(device *d, tensor *y, const tensor *t);
err cpu_box_embedding(device *d, tensor *y, const tensor *boxes, int freqs);
err cpu_select(device *d, tensor *y, const tensor *pick, const tensor *a, const tensor *b);
err cpu_select_backward(device *d, tensor *da, tensor *db, const tensor *dy, const tensor *pick, bool add_a,
                        bool add_b);
err cpu_upsample(device *d, tensor *y, const tensor *x);
err cpu_upsample_dx(device *d, tensor *dx, const tensor *dy, bool add);
err cpu_mse(device *d, tensor *loss, const tensor *a, const tensor *b);
err cpu_mse_backward(device *d, tensor *da, const tensor *dloss, const tensor *a, const tensor *b, float sign,
                     bool add);
err cpu_sum_squares(device *d, double *out, const tensor *x);
err cpu_adamw(device *d, tensor *p, tensor *m, tensor *v, tensor *copy, const tensor *g, float clip, double lr,
              double beta1, double beta2, double eps, double decay, int64_t step);
err cpu_adamw8(device *d, tensor *p, tensor *m, tensor *m_absmax, tensor *v, tensor *v_absmax, tensor *copy, const tensor *g,
               float clip, double lr, double beta1, double beta2, double eps, double decay, int64_t step);

/* ---- element types: the floating tensors of one call are all f32 or all bf16 ----
 * First line of a primitive that knows both:
 *
 *     bool bf16;
 *     TRY(cpu_one_type(&bf16, "geglu", CPU_TENSORS(y, x)));
 *
 * and statistics, losses and what else device.h says is f32 by cpu_need_f32. Kernels read and write through
 * autograd/cpu/element.h, which converts: arithmetic is f32, the output is rounded once. */

#define CPU_TENSORS(...) \
    (int)(sizeof((const tensor *[]){__VA_ARGS__}) / sizeof(const tensor *)), (const tensor *[]){__VA_ARGS__}

/* Sets *bf16 to what t[0..count) are; NULL entries are passed over, the first is there. E_DEVICE names the tensor that is
 * of another type than the first, or neither f32 nor bf16. All are contiguous. */
err cpu_one_type(bool *bf16, const char *primitive, int count, const tensor *const *t);
/* The same for tensors that may be strided. */
err cpu_one_type_strided(bool *bf16, const char *primitive, int count, const tensor *const *t);
/* The same for the gradient of what may be a parameter, which is f32 whatever the other tensors are: *wide tells that dx
 * is f32. */
err cpu_gradient_type(bool *wide, const char *primitive, const tensor *dx, bool bf16);
/* E_DEVICE "cpu NAME: TENSOR is bf16, expected f32" unless x (NULL: fine) is f32; it is contiguous. */
err cpu_need_f32(const char *primitive, const tensor *x);

/* Puts scratch back and says OK: the last line of a primitive that takes some, and on a dry run (device.h) the one right
 * after it was taken. */
static inline err cpu_done(device *d, void *scratch, size_t bytes)
{
    d->memory->put(d->memory, scratch, bytes, LIFE_SCRATCH);
    return OK;
}

#endif
