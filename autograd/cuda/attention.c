/* Attention: cuDNN's fused kernels where they know the shape (bf16, heads of up to 128 in steps of 8, not causal), the
 * kernels of attention.cu and subjects.cu elsewhere. */
#include "autograd/cuda/dnn.h"

enum { ID_Q = 1, ID_K, ID_V, ID_Y, ID_LSE, ID_SCALE };
enum { FUSED_STEP = 8, FUSED_MOST = 128, FUSED_ALIGNMENT = 16 };

static cuda_heads heads_of(const tensor *t)
{
    if (!t)
        return (cuda_heads){0};
    CHECK(t->stride[3] == 1 || t->dim[3] == 1, "cuda attention: %s is strided inside its heads", t->name);
    return (cuda_heads){t->data, t->stride[0], t->stride[1], t->stride[2]};
}

static cuda_attention_shape shape_of(const tensor *q, const tensor *k, float scale, bool causal, bool bf16)
{
    return (cuda_attention_shape){.batch = q->dim[0], .queries = q->dim[1], .keys = k->dim[1], .heads = q->dim[2],
                                  .size = q->dim[3], .scale = scale, .causal = causal, .bf16 = bf16};
}

static err check_size(const tensor *q, int most)
{
    if (q->dim[3] > most)
        return err_set(E_DEVICE, "cuda attention: heads of %lld numbers, at most %d are known; use --device cpu",
                       (long long)q->dim[3], most);
    return OK;
}

/* ---- the fused forward ---- */

/* (B,T,H,D), strided, as the library counts it: (batch,heads,rows,size). */
static dnn_shape bhtd(const tensor *t)
{
    return (dnn_shape){{t->dim[0], t->dim[2], t->dim[1], t->dim[3]}, {t->stride[0], t->stride[2], t->stride[1], 1}};
}

static bool aligned(const tensor *t)
{
    for (int i = 0; i < 3; i++)
        if (t->stride[i] % FUSED_STEP)
            return false;
    return (uintptr_t)t->data % FUSED_ALIGNMENT == 0;
}

static bool fusible(const tensor *y, const tensor *q, const tensor *k, const tensor *v, bool causal, bool bf16)
{
    return bf16 && !causal && q->dim[3] % FUSED_STEP == 0 && q->dim[3] <= FUSED_MOST && aligned(y) && aligned(q) &&
           aligned(k) && aligned(v);
}

typedef struct attention {
    const tensor *q, *k, *v, *y;
    bool          lse;
} attention;

static void forward_graph(dnn_graph *g, const void *what)
{
    const attention *a = what;
    const tensor    *q = a->q;
    dnn_shape shapes[] = {bhtd(q), bhtd(a->k), bhtd(a->v), bhtd(a->y)};
    int64_t rows = q->dim[1], heads = q->dim[2];
    dnn_shape sums = {{q->dim[0], heads, rows, 1}, {heads * rows, rows, 1, 1}};
    const cudnnBackendAttributeName_t name[] = {
        CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC,
        CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC};
    descriptor d = dnn_make(g, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR);
    for (int i = 0; i < 4; i++)
        dnn_link(g, d, name[i], dnn_tensor(g, ID_Q + i, &shapes[i], CUDNN_DATA_BFLOAT16, DNN_REAL));
    if (a->lse)
        dnn_link(g, d, CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC,
                 dnn_tensor(g, ID_LSE, &sums, CUDNN_DATA_FLOAT, DNN_REAL));
    dnn_link(g, d, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, dnn_number(g, ID_SCALE));
    dnn_operation(g, d);
}

/* NULL where the library has no engine. */
static err forward_plan(const dnn_plan **out, cuda_state *s, const tensor *y, const tensor *lse, const tensor *q,
                        const tensor *k, const tensor *v)
{
    int64_t key[3 + 5 + 12] = {3, lse != NULL, 0, q->dim[0], q->dim[1], k->dim[1], q->dim[2], q->dim[3]};
    const tensor *strided[] = {q, k, v, y};
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 3; j++)
            key[8 + 3 * i + j] = strided[i]->stride[j];
    attention what = {.q = q, .k = k, .v = v, .y = y, .lse = lse != NULL};
    return cuda_plan(out, s, key, (int)(sizeof key / sizeof *key), false, forward_graph, &what);
}

static err run_fused(device *d, const dnn_plan *plan, tensor *y, tensor *lse, const tensor *q, const tensor *k,
                     const tensor *v, float scale)
{
    int64_t id[6] = {ID_Q, ID_K, ID_V, ID_Y, ID_SCALE, ID_LSE};
    void *pointer[6] = {q->data, k->data, v->data, y->data, &scale, lse ? lse->data : NULL};
    cuda_scratch s;
    TRY(cuda_scratch_get(d, &s, plan->workspace));
    err e = d->dataless ? OK : dnn_run(cuda_state_of(d)->dnn, plan, id, pointer, lse ? 6 : 5, s.data);
    cuda_scratch_put(d, &s);
    return e;
}

/* ---- the primitives ---- */

err cuda_attention(device *d, tensor *y, tensor *lse, const tensor *q, const tensor *k, const tensor *v, float scale,
                   bool causal)
{
    bool bf16;
    const dnn_plan *plan = NULL;
    TRY(cuda_one_type_strided(&bf16, "attention", CUDA_TENSORS(q, k, v, y)));
    TRY(cuda_need_f32("attention", lse));
    TRY(check_size(q, CUDA_ATTENTION_MAX_SIZE));
    if (fusible(y, q, k, v, causal, bf16))
        TRY(forward_plan(&plan, cuda_state_of(d), y, lse, q, k, v));
    if (plan)
        return run_fused(d, plan, y, lse, q, k, v, scale);
    if (d->dataless)
        return OK;
    cuda_attention_shape shape = shape_of(q, k, scale, causal, bf16);
    CUDA_TRY(cuda_attention_launch(heads_of(y), lse ? lse->data : NULL, heads_of(q), heads_of(k), heads_of(v), &shape,
                                   cuda_stream_of(d)));
    return OK;
}

err cuda_attention_backward(device *d, tensor *dq, tensor *dk, tensor *dv, const tensor *dy, const tensor *y,
                            const tensor *lse, const tensor *q, const tensor *k, const tensor *v, float scale,
                            bool causal, bool add_q, bool add_k, bool add_v)
{
    bool bf16;
    (void)y; /* its rounding would go into the gradient */
    TRY(cuda_one_type_strided(&bf16, "attention_backward", CUDA_TENSORS(q, k, v, dy, dq, dk, dv)));
    TRY(check_size(q, CUDA_ATTENTION_MAX_SIZE));
    cuda_attention_shape shape = shape_of(q, k, scale, causal, bf16);
    cuda_scratch s;
    TRY(cuda_scratch_get(d, &s, cuda_attention_backward_scratch_bytes(&shape)));
    if (d->dataless)
        return cuda_done(d, &s, cudaSuccess, "");
    return cuda_done(d, &s,
                     cuda_attention_backward_launch(heads_of(dq), heads_of(dk), heads_of(dv), heads_of(dy), lse->data,
                                                    heads_of(q), heads_of(k), heads_of(v), &shape, add_q, add_k, add_v,
                                                    s.data, cuda_stream_of(d)),
                     "attention_backward");
}

static cuda_subjects_shape subjects_of(const tensor *q, const tensor *k, const tensor *mask, float scale, bool bf16)
{
    int64_t subjects = mask->dim[1];
    return (cuda_subjects_shape){.batch = q->dim[0],
                                 .samples = k->dim[0],
                                 .subjects = subjects,
                                 .tokens = subjects ? k->dim[1] / subjects : 0,
                                 .queries = q->dim[1],
                                 .heads = q->dim[2],
                                 .size = q->dim[3],
                                 .scale = scale,
                                 .bf16 = bf16};
}

err cuda_multi_subject_attention(device *d, tensor *y, tensor *lse, const tensor *base, const tensor *q,
                                 const tensor *k, const tensor *v, const tensor *mask, const tensor *subject_scales,
                                 float scale)
{
    bool bf16;
    TRY(cuda_one_type_strided(&bf16, "multi_subject_attention", CUDA_TENSORS(y, base, q, k, v)));
    TRY(check_size(q, CUDA_SUBJECTS_MAX_SIZE));
    cuda_subjects_shape shape = subjects_of(q, k, mask, scale, bf16);
    cuda_scratch s;
    TRY(cuda_scratch_get(d, &s, cuda_subjects_scratch_bytes(&shape)));
    if (d->dataless)
        return cuda_done(d, &s, cudaSuccess, "");
    return cuda_done(d, &s, cuda_subjects_launch(heads_of(y), lse ? lse->data : NULL, heads_of(base), heads_of(q),
                                                 heads_of(k), heads_of(v), mask->data,
                                                 subject_scales ? subject_scales->data : NULL, &shape, s.data,
                                                 cuda_stream_of(d)), "multi_subject_attention");
}

err cuda_multi_subject_attention_backward(device *d, tensor *dq, tensor *dk, tensor *dv, const tensor *dy,
                                          const tensor *lse, const tensor *q, const tensor *k, const tensor *v,
                                          const tensor *mask, const tensor *subject_scales, float scale, bool add_q,
                                          bool add_k, bool add_v)
{
    bool bf16;
    TRY(cuda_one_type_strided(&bf16, "multi_subject_attention_backward", CUDA_TENSORS(q, k, v, dy, dq, dk, dv)));
    TRY(check_size(q, CUDA_SUBJECTS_MAX_SIZE));
    cuda_subjects_shape shape = subjects_of(q, k, mask, scale, bf16);
    cuda_scratch s;
    TRY(cuda_scratch_get(d, &s, cuda_subjects_backward_scratch_bytes(&shape)));
    if (d->dataless)
        return cuda_done(d, &s, cudaSuccess, "");
    return cuda_done(d, &s,
                     cuda_subjects_backward_launch(heads_of(dq), heads_of(dk), heads_of(dv), heads_of(dy), lse->data,
                                                   heads_of(q), heads_of(k), heads_of(v), mask->data,
                                                   subject_scales ? subject_scales->data : NULL, &shape, add_q, add_k,
                                                   add_v, s.data, cuda_stream_of(d)),
                     "multi_subject_attention_backward");
}
