/* A device is one folder that fills this table of primitives. Ops call primitives and nothing else;
 * no file outside a device's folder knows which device it runs on.
 *
 * Conventions: outputs first. Tensors are contiguous unless the primitive says "strided". `add`
 * means: accumulate into the output instead of overwriting it. Statistics, softmax and sums are in
 * f32 (f64 across long sums on the CPU) whatever the dtype, in a fixed order: same bits twice. */
#ifndef MSD_AUTOGRAD_DEVICE_H
#define MSD_AUTOGRAD_DEVICE_H

#include "autograd/tensor.h"

/* All device memory goes through one of these. */
typedef struct allocator allocator;
struct allocator {
    err (*get)(allocator *a, void **out, size_t bytes, lifetime life); /* 64-byte aligned, contents undefined */
    void (*put)(allocator *a, void *memory, size_t bytes, lifetime life);
    size_t in_use[LIFETIME_COUNT], peak[LIFETIME_COUNT]; /* bytes */
    size_t total, total_peak;
};

/* Which products will read a frozen weight. */
typedef enum weight_use { USE_FORWARD, USE_BOTH } weight_use;

/* Geometry of conv2d. Weights lie as (O, KH, KW, I) on devices; files have (O, I, KH, KW). */
typedef struct conv_geometry {
    int stride;
    int pad_top, pad_left, pad_bottom, pad_right;
} conv_geometry;

typedef enum unary { UNARY_SILU, UNARY_GELU, UNARY_QUICK_GELU } unary;

typedef struct primitives {
    /* memory */
    err (*upload)(device *d, tensor *y, const void *host, dtype type);   /* contiguous y */
    err (*download)(device *d, void *host, dtype type, const tensor *x); /* strided x */
    err (*fill)(device *d, tensor *y, float value);                      /* strided y */
    err (*copy)(device *d, tensor *y, const tensor *x, bool add);        /* strided both, same shape; casts */

    /* Lays out a frozen weight, of linear (m,k) or of conv2d (O,KH,KW,I), once, in the order that its products read
     * fastest: the tensor keeps dim and gets a layout, its storage is replaced, the plain copy is gone. Views made before
     * are void. USE_FORWARD: no data gradient will be asked for. May leave the tensor as it is. */
    err (*lay_out)(device *d, tensor *w, weight_use use);

    /* y (n,m) = x (n,k) @ w(m,k)^T [+ bias (m)] [+ residual (n,m)] */
    err (*linear)(device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias, const tensor *residual);
    /* dx (n,k) (+)= dy (n,m) @ w (m,k) */
    err (*linear_dx)(device *d, tensor *dx, const tensor *dy, const tensor *w, bool add);
    /* dw (m,k) (+)= dy^T @ x; dw f32, as the gradient of every parameter */
    err (*linear_dw)(device *d, tensor *dw, const tensor *dy, const tensor *x, bool add);
    /* db (m) (+)= sum over rows of dy (n,m) */
    err (*sum_rows)(device *d, tensor *db, const tensor *dy, bool add);

    /* y (B,OH,OW,O) = conv(x (B,H,W,I), w (O,KH,KW,I)) [+ bias (O)] [+ residual like y] */
    err (*conv2d)(device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias, const tensor *residual,
                  const conv_geometry *g);
    err (*conv2d_dx)(device *d, tensor *dx, const tensor *dy, const tensor *w, const conv_geometry *g, bool add);

    /* x (B,HW...,C), groups over C. z = x + vec(B,C) if vec; y = (z-mean)*rstd*w+b, then SiLU if silu.
     * mean, rstd: f32 (B,groups), outputs, kept for the backward. */
    err (*group_norm)(device *d, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *vec,
                      const tensor *w, const tensor *b, int groups, float eps, bool silu);
    err (*group_norm_dx)(device *d, tensor *dx, const tensor *dy, const tensor *x, const tensor *vec, const tensor *w,
                         const tensor *b, const tensor *mean, const tensor *rstd, int groups, bool silu, bool add);

    /* x (n,c): y = (x-mean)*rstd*w+b; w and b may be NULL; mean, rstd f32 (n), may be NULL when not kept */
    err (*layer_norm)(device *d, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *w,
                      const tensor *b, float eps);
    err (*layer_norm_dx)(device *d, tensor *dx, const tensor *dy, const tensor *x, const tensor *w, const tensor *mean,
                         const tensor *rstd, bool add);
    /* dw (c) (+)= sum dy*xhat, db (c) (+)= sum dy */
    err (*layer_norm_dwb)(device *d, tensor *dw, tensor *db, const tensor *dy, const tensor *x, const tensor *mean,
                          const tensor *rstd, bool add_w, bool add_b);

    err (*unary)(device *d, tensor *y, const tensor *x, unary f);
    err (*unary_dx)(device *d, tensor *dx, const tensor *dy, const tensor *x, unary f, bool add);
    /* x (n,2m) = [a|b]: y (n,m) = a * gelu(b) */
    err (*geglu)(device *d, tensor *y, const tensor *x);
    err (*geglu_dx)(device *d, tensor *dx, const tensor *dy, const tensor *x, bool add);

    /* b is broadcast to a: aligned at the innermost dimension, each of its dims equal to a's or 1 */
    err (*add)(device *d, tensor *y, const tensor *a, const tensor *b);
    err (*mul)(device *d, tensor *y, const tensor *a, const tensor *b);
    /* db (+)= sum over the broadcast dimensions of dy [* other if not NULL]; db may equal dy's shape */
    err (*reduce_to)(device *d, tensor *db, const tensor *dy, const tensor *other, bool add);
    /* y (+)= s * x; y may be x */
    err (*scale)(device *d, tensor *y, const tensor *x, float s, bool add);

    /* q (B,T,H,D), k, v (B,S,H,D) strided with D innermost: y (B,T,H,D) = softmax(scale q k^T) v.
     * causal: query t sees keys 0..t. lse f32 (B,H,T): log-sum-exp, may be NULL when not kept.
     * Never holds the whole score matrix of long sequences. */
    err (*attention)(device *d, tensor *y, tensor *lse, const tensor *q, const tensor *k, const tensor *v, float scale,
                     bool causal);
    /* dq, dk, dv strided as q, k, v, with D innermost; each may be NULL */
    err (*attention_backward)(device *d, tensor *dq, tensor *dk, tensor *dv, const tensor *dy, const tensor *y,
                              const tensor *lse, const tensor *q, const tensor *k, const tensor *v, float scale,
                              bool causal, bool add_q, bool add_k, bool add_v);

    /* mask u8 (B,S,h*w) from boxes f32 (B,S,4): facts.md 1 "layout" */
    err (*box_mask)(device *d, tensor *mask, const tensor *boxes, int64_t h, int64_t w);
    /* q (B,T,H,D); k, v (A,S*N,H,D), A <= B: samples A.. get no image attention; mask u8 (A,S,T).
     * y = base + scale_s * softmax over the union of tokens of the subjects covering the query.
     * subject_scales f32 (S) or NULL: then `scale` for all. base like y, or NULL for 0. */
    err (*multi_subject_attention)(device *d, tensor *y, tensor *lse, const tensor *base, const tensor *q,
                                   const tensor *k, const tensor *v, const tensor *mask, const tensor *subject_scales,
                                   float scale);
    err (*multi_subject_attention_backward)(device *d, tensor *dq, tensor *dk, tensor *dv, const tensor *dy,
                                            const tensor *lse, const tensor *q, const tensor *k, const tensor *v,
                                            const tensor *mask, const tensor *subject_scales, float scale, bool add_q,
                                            bool add_k, bool add_v);

    /* y (n,c) = table (v,c)[ids i32 (n)] */
    err (*embedding)(device *d, tensor *y, const tensor *table, const tensor *ids);
    err (*embedding_dtable)(device *d, tensor *dtable, const tensor *dy, const tensor *ids, bool add);
    /* y (n,dim) = [cos(t f_k) | sin(t f_k)], f_k = 10000^(-k/(dim/2)) */
    err (*time_embedding)(device *d, tensor *y, const tensor *t);
    /* box f32 (n,4) -> y (n, 8*freqs): facts.md 1 "box embedding" */
    err (*box_embedding)(device *d, tensor *y, const tensor *boxes, int freqs);
    /* y (B,...) = pick i32 (B)[b] ? a (1 or B,...) : b (B,...) ; da and db each may be NULL */
    err (*select)(device *d, tensor *y, const tensor *pick, const tensor *a, const tensor *b);
    err (*select_backward)(device *d, tensor *da, tensor *db, const tensor *dy, const tensor *pick, bool add_a,
                           bool add_b);
    /* x (B,h,w,C) -> y (B,H,W,C), nearest: source row = floor(i*h/H) */
    err (*upsample)(device *d, tensor *y, const tensor *x);
    err (*upsample_dx)(device *d, tensor *dx, const tensor *dy, bool add);

    /* loss f32 () = mean((a-b)^2); da (+)= dloss * 2(a-b)/n */
    err (*mse)(device *d, tensor *loss, const tensor *a, const tensor *b);
    err (*mse_backward)(device *d, tensor *da, const tensor *dloss, const tensor *a, const tensor *b, float sign,
                        bool add);

    /* optimizer: all f32 but for the copy, over whole tensors */
    err (*sum_squares)(device *d, double *out, const tensor *x); /* fixed order, f64 */
    /* torch's AdamW: p *= 1-lr*decay; m,v moments; bias-corrected; g is multiplied by `clip` first;
     * g NULL means zero; copy: where p is also written, rounded to bf16, or NULL */
    err (*adamw)(device *d, tensor *p, tensor *m, tensor *v, tensor *copy, const tensor *g, float clip, double lr, double beta1,
                 double beta2, double eps, double decay, int64_t step);
    /* The same with moments of 8 bits (moment_code.h): m, v u8 codes shaped like p; m_absmax, v_absmax f32 (blocks), for
     * blocks of MOMENT_BLOCK numbers in p's order. The update uses the new moments before they are coded; a second moment
     * above 0 never gets the code of 0, by which the next update would divide. */
    err (*adamw8)(device *d, tensor *p, tensor *m, tensor *m_absmax, tensor *v, tensor *v_absmax, tensor *copy, const tensor *g,
                  float clip, double lr, double beta1, double beta2, double eps, double decay, int64_t step);
} primitives;

struct device {
    const char       *kind; /* "cpu" */
    const primitives *p;
    allocator        *memory;
    /* Those of p that take LIFE_SCRATCH, NULL the others: with `dataless` they take what the call would, give it back and
     * touch no data. NULL: none. */
    const primitives *dry;
    int               threads;
    bool              dataless; /* only shapes: filling its tensors is of no use */
    /* Waits for all that was asked of the device and has its errors; NULL: nothing is ever under way. See device_finish. */
    err             (*finish)(device *d);
    const struct capture *capture; /* autograd/capture.h; NULL: it keeps no calls, as its owner may choose */
    void            (*close)(device *d);
    void             *state; /* the folder's own */
};

/* The CPU device. threads 0 = as many as this process may run on. E_DEVICE when oneDNN refuses. */
err  device_open_cpu(device **out, int threads);
/* The meta device: shapes without data, for costs and plans (autograd/meta/meta.h). `like` (NULL: none) is the device
 * whose scratch is to be planned too; it outlives *out, which takes the same number of threads. */
err  device_open_meta(device **out, const device *like);
/* A CUDA device, the index-th. E_DEVICE, one line: built without CUDA, no driver or one too old, a card below compute
 * capability 8.0; E_MEMORY: nothing free on it. */
err  device_open_cuda(device **out, int index);
/* By name: "cpu", "cuda", or "auto": CUDA where device_has_cuda(), else the CPU. */
err  device_open(device **out, const char *kind, int threads);
int  device_cuda_cards(void); /* that this process sees, of whatever kind; 0 when not built in */
bool device_has_cuda(void); /* built in, and a card is there that device_open_cuda takes */
/* One line for people: card, driver and library versions, or what is missing. */
void device_describe_cuda(char *text, size_t bytes);
/* Returns when all that was asked of it is done: for clocks. E_DEVICE: what went wrong until now. */
err  device_finish(device *d);
void device_close(device *d); /* NULL is fine */

#endif
