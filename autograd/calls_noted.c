/* The primitives that note themselves: each keeps its arguments, and says how it is called with them. */
#include "autograd/calls_noted.h"

#include <string.h>

typedef err (*call_run)(device *d, tensor *const *t, const call_value *v);

static err at_once(bool *now, noting *n)
{
    if (!n->over && n->direct && n->direct(n))
        TRY(note_flush(n));
    *now = n->over;
    return OK;
}

/* For an upload or a download: `now` too where there is no pinned memory. */
static err pinned_or_at_once(void **pinned, bool *now, noting *n, size_t bytes)
{
    TRY(at_once(now, n));
    if (*now || note_pinned(n, pinned, bytes) == OK)
        return OK;
    *now = true;
    return note_flush(n);
}

static void note(noting *n, call_run run, int tensors, const tensor *const *t, int numbers, const double *number)
{
    note_call(n, (call){run, tensors, numbers});
    for (int i = 0; i < tensors; i++)
        note_tensor(n, t[i]);
    for (int i = 0; i < numbers; i++)
        note_value(n, (call_value){.number = number[i]});
}

#define TENSORS(...) \
    (int)(sizeof((const tensor *const[]){__VA_ARGS__}) / sizeof(tensor *)), (const tensor *const[]){__VA_ARGS__}
#define NUMBERS(...) (int)(sizeof((const double[]){__VA_ARGS__}) / sizeof(double)), (const double[]){__VA_ARGS__}
#define NO_NUMBERS 0, NULL

/* An argument that was a number, as what it was: whole numbers below 2^53 are whole in a double. */
#define FLOAT(i) (float)v[i].number
#define BOOL(i) v[i].number > 0
#define INT(i) (int)v[i].number
#define LONG(i) (int64_t) v[i].number

/* `passed`: to the device itself, where calls are done at once. `again`: when what was noted is done. */
#define NOTED(name, signature, passed, tensors, numbers, again)                          \
    static err again_##name(device *d, tensor *const *t, const call_value *v)            \
    {                                                                                    \
        (void)v;                                                                         \
        return d->p->name again;                                                         \
    }                                                                                    \
    static err noted_##name signature                                                    \
    {                                                                                    \
        noting *n = d->state;                                                            \
        bool    now;                                                                     \
        TRY(at_once(&now, n));                                                           \
        if (now)                                                                         \
            return n->to->p->name passed;                                                \
        note(n, again_##name, tensors, numbers);                                         \
        return OK;                                                                       \
    }

/* What has an answer that the caller waits for, or changes with every step: done at once, and all after it. */
#define AT_ONCE(name, signature, passed)                                                 \
    static err noted_##name signature                                                    \
    {                                                                                    \
        noting *n = d->state;                                                            \
        if (!n->over)                                                                    \
            TRY(note_flush(n));                                                          \
        return n->to->p->name passed;                                                    \
    }

/* ---- host and device ---- */

static err again_upload(device *d, tensor *const *t, const call_value *v)
{
    return d->capture->upload(d, t[0], v[0].pinned, (dtype)v[1].number);
}

static err noted_upload(device *d, tensor *y, const void *host, dtype type)
{
    noting *n = d->state;
    size_t  bytes = (size_t)tensor_count(y) * dtype_bytes(type);
    void   *pinned;
    bool    now;
    TRY(pinned_or_at_once(&pinned, &now, n, bytes));
    if (now)
        return n->to->p->upload(n->to, y, host, type);
    memcpy(pinned, host, bytes);
    note_call(n, (call){again_upload, 1, 2});
    note_tensor(n, y);
    note_value(n, (call_value){.pinned = pinned});
    note_value(n, (call_value){.number = (double)type});
    return OK;
}

static err again_download(device *d, tensor *const *t, const call_value *v)
{
    return d->capture->download(d, v[0].pinned, (dtype)v[1].number, t[0]);
}

static err noted_download(device *d, void *host, dtype type, const tensor *x)
{
    noting *n = d->state;
    size_t  bytes = (size_t)tensor_count(x) * dtype_bytes(type);
    void   *pinned;
    bool    now;
    TRY(pinned_or_at_once(&pinned, &now, n, bytes));
    if (now)
        return n->to->p->download(n->to, host, type, x);
    note_download(n, host, pinned, bytes);
    note_call(n, (call){again_download, 1, 2});
    note_tensor(n, x);
    note_value(n, (call_value){.pinned = pinned});
    note_value(n, (call_value){.number = (double)type});
    return OK;
}

NOTED(fill, (device *d, tensor *y, float value), (n->to, y, value), TENSORS(y), NUMBERS((double)value),
      (d, t[0], FLOAT(0)))
NOTED(copy, (device *d, tensor *y, const tensor *x, bool add), (n->to, y, x, add), TENSORS(y, x), NUMBERS(add),
      (d, t[0], t[1], BOOL(0)))
AT_ONCE(lay_out, (device *d, tensor *w, weight_use use), (n->to, w, use))

/* ---- products ---- */

NOTED(linear, (device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias, const tensor *residual),
      (n->to, y, x, w, bias, residual), TENSORS(y, x, w, bias, residual), NO_NUMBERS, (d, t[0], t[1], t[2], t[3], t[4]))
NOTED(linear_dx, (device *d, tensor *dx, const tensor *dy, const tensor *w, bool add), (n->to, dx, dy, w, add),
      TENSORS(dx, dy, w), NUMBERS(add), (d, t[0], t[1], t[2], BOOL(0)))
NOTED(linear_dw, (device *d, tensor *dw, const tensor *dy, const tensor *x, bool add), (n->to, dw, dy, x, add),
      TENSORS(dw, dy, x), NUMBERS(add), (d, t[0], t[1], t[2], BOOL(0)))
NOTED(sum_rows, (device *d, tensor *db, const tensor *dy, bool add), (n->to, db, dy, add), TENSORS(db, dy),
      NUMBERS(add), (d, t[0], t[1], BOOL(0)))

#define GEOMETRY NUMBERS(g->stride, g->pad_top, g->pad_left, g->pad_bottom, g->pad_right)
NOTED(conv2d, (device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias, const tensor *residual,
               const conv_geometry *g),
      (n->to, y, x, w, bias, residual, g), TENSORS(y, x, w, bias, residual), GEOMETRY,
      (d, t[0], t[1], t[2], t[3], t[4], &(conv_geometry){INT(0), INT(1), INT(2), INT(3), INT(4)}))
NOTED(conv2d_dx, (device *d, tensor *dx, const tensor *dy, const tensor *w, const conv_geometry *g, bool add),
      (n->to, dx, dy, w, g, add), TENSORS(dx, dy, w),
      NUMBERS(g->stride, g->pad_top, g->pad_left, g->pad_bottom, g->pad_right, add),
      (d, t[0], t[1], t[2], &(conv_geometry){INT(0), INT(1), INT(2), INT(3), INT(4)}, BOOL(5)))

/* ---- norms ---- */

NOTED(group_norm, (device *d, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *vec,
                   const tensor *w, const tensor *b, int groups, float eps, bool silu),
      (n->to, y, mean, rstd, x, vec, w, b, groups, eps, silu), TENSORS(y, mean, rstd, x, vec, w, b),
      NUMBERS(groups, (double)eps, silu), (d, t[0], t[1], t[2], t[3], t[4], t[5], t[6], INT(0), FLOAT(1), BOOL(2)))
NOTED(group_norm_dx, (device *d, tensor *dx, const tensor *dy, const tensor *x, const tensor *vec, const tensor *w,
                      const tensor *b, const tensor *mean, const tensor *rstd, int groups, bool silu, bool add),
      (n->to, dx, dy, x, vec, w, b, mean, rstd, groups, silu, add), TENSORS(dx, dy, x, vec, w, b, mean, rstd),
      NUMBERS(groups, silu, add), (d, t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], INT(0), BOOL(1), BOOL(2)))
NOTED(layer_norm, (device *d, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *w, const tensor *b,
                   float eps),
      (n->to, y, mean, rstd, x, w, b, eps), TENSORS(y, mean, rstd, x, w, b), NUMBERS((double)eps),
      (d, t[0], t[1], t[2], t[3], t[4], t[5], FLOAT(0)))
NOTED(layer_norm_dx, (device *d, tensor *dx, const tensor *dy, const tensor *x, const tensor *w, const tensor *mean,
                      const tensor *rstd, bool add),
      (n->to, dx, dy, x, w, mean, rstd, add), TENSORS(dx, dy, x, w, mean, rstd), NUMBERS(add),
      (d, t[0], t[1], t[2], t[3], t[4], t[5], BOOL(0)))
NOTED(layer_norm_dwb, (device *d, tensor *dw, tensor *db, const tensor *dy, const tensor *x, const tensor *mean,
                       const tensor *rstd, bool add_w, bool add_b),
      (n->to, dw, db, dy, x, mean, rstd, add_w, add_b), TENSORS(dw, db, dy, x, mean, rstd), NUMBERS(add_w, add_b),
      (d, t[0], t[1], t[2], t[3], t[4], t[5], BOOL(0), BOOL(1)))

/* ---- by elements ---- */

NOTED(unary, (device *d, tensor *y, const tensor *x, unary f), (n->to, y, x, f), TENSORS(y, x), NUMBERS((double)f),
      (d, t[0], t[1], (unary)v[0].number))
NOTED(unary_dx, (device *d, tensor *dx, const tensor *dy, const tensor *x, unary f, bool add),
      (n->to, dx, dy, x, f, add), TENSORS(dx, dy, x), NUMBERS((double)f, add),
      (d, t[0], t[1], t[2], (unary)v[0].number, BOOL(1)))
NOTED(geglu, (device *d, tensor *y, const tensor *x), (n->to, y, x), TENSORS(y, x), NO_NUMBERS, (d, t[0], t[1]))
NOTED(geglu_dx, (device *d, tensor *dx, const tensor *dy, const tensor *x, bool add), (n->to, dx, dy, x, add),
      TENSORS(dx, dy, x), NUMBERS(add), (d, t[0], t[1], t[2], BOOL(0)))
NOTED(add, (device *d, tensor *y, const tensor *a, const tensor *b), (n->to, y, a, b), TENSORS(y, a, b), NO_NUMBERS,
      (d, t[0], t[1], t[2]))
NOTED(mul, (device *d, tensor *y, const tensor *a, const tensor *b), (n->to, y, a, b), TENSORS(y, a, b), NO_NUMBERS,
      (d, t[0], t[1], t[2]))
NOTED(reduce_to, (device *d, tensor *db, const tensor *dy, const tensor *other, bool add), (n->to, db, dy, other, add),
      TENSORS(db, dy, other), NUMBERS(add), (d, t[0], t[1], t[2], BOOL(0)))
NOTED(scale, (device *d, tensor *y, const tensor *x, float s, bool add), (n->to, y, x, s, add), TENSORS(y, x),
      NUMBERS((double)s, add), (d, t[0], t[1], FLOAT(0), BOOL(1)))

/* ---- attention ---- */

NOTED(attention, (device *d, tensor *y, tensor *lse, const tensor *q, const tensor *k, const tensor *w, float scale,
                  bool causal),
      (n->to, y, lse, q, k, w, scale, causal), TENSORS(y, lse, q, k, w), NUMBERS((double)scale, causal),
      (d, t[0], t[1], t[2], t[3], t[4], FLOAT(0), BOOL(1)))
NOTED(attention_backward, (device *d, tensor *dq, tensor *dk, tensor *dv, const tensor *dy, const tensor *y,
                           const tensor *lse, const tensor *q, const tensor *k, const tensor *w, float scale,
                           bool causal, bool add_q, bool add_k, bool add_v),
      (n->to, dq, dk, dv, dy, y, lse, q, k, w, scale, causal, add_q, add_k, add_v),
      TENSORS(dq, dk, dv, dy, y, lse, q, k, w), NUMBERS((double)scale, causal, add_q, add_k, add_v),
      (d, t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8], FLOAT(0), BOOL(1), BOOL(2), BOOL(3), BOOL(4)))
NOTED(box_mask, (device *d, tensor *mask, const tensor *boxes, int64_t h, int64_t w), (n->to, mask, boxes, h, w),
      TENSORS(mask, boxes), NUMBERS((double)h, (double)w), (d, t[0], t[1], LONG(0), LONG(1)))
NOTED(multi_subject_attention, (device *d, tensor *y, tensor *lse, const tensor *base, const tensor *q, const tensor *k,
                                const tensor *w, const tensor *mask, const tensor *subject_scales, float scale),
      (n->to, y, lse, base, q, k, w, mask, subject_scales, scale), TENSORS(y, lse, base, q, k, w, mask, subject_scales),
      NUMBERS((double)scale), (d, t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], FLOAT(0)))
NOTED(multi_subject_attention_backward,
      (device *d, tensor *dq, tensor *dk, tensor *dv, const tensor *dy, const tensor *lse, const tensor *q,
       const tensor *k, const tensor *w, const tensor *mask, const tensor *subject_scales, float scale, bool add_q,
       bool add_k, bool add_v),
      (n->to, dq, dk, dv, dy, lse, q, k, w, mask, subject_scales, scale, add_q, add_k, add_v),
      TENSORS(dq, dk, dv, dy, lse, q, k, w, mask, subject_scales), NUMBERS((double)scale, add_q, add_k, add_v),
      (d, t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8], t[9], FLOAT(0), BOOL(1), BOOL(2), BOOL(3)))

/* ---- rows ---- */

NOTED(embedding, (device *d, tensor *y, const tensor *table, const tensor *ids), (n->to, y, table, ids),
      TENSORS(y, table, ids), NO_NUMBERS, (d, t[0], t[1], t[2]))
NOTED(embedding_dtable, (device *d, tensor *dtable, const tensor *dy, const tensor *ids, bool add),
      (n->to, dtable, dy, ids, add), TENSORS(dtable, dy, ids), NUMBERS(add), (d, t[0], t[1], t[2], BOOL(0)))
NOTED(time_embedding, (device *d, tensor *y, const tensor *x), (n->to, y, x), TENSORS(y, x), NO_NUMBERS,
      (d, t[0], t[1]))
NOTED(box_embedding, (device *d, tensor *y, const tensor *boxes, int freqs), (n->to, y, boxes, freqs),
      TENSORS(y, boxes), NUMBERS(freqs), (d, t[0], t[1], INT(0)))
NOTED(select, (device *d, tensor *y, const tensor *pick, const tensor *a, const tensor *b), (n->to, y, pick, a, b),
      TENSORS(y, pick, a, b), NO_NUMBERS, (d, t[0], t[1], t[2], t[3]))
NOTED(select_backward, (device *d, tensor *da, tensor *db, const tensor *dy, const tensor *pick, bool add_a,
                        bool add_b),
      (n->to, da, db, dy, pick, add_a, add_b), TENSORS(da, db, dy, pick), NUMBERS(add_a, add_b),
      (d, t[0], t[1], t[2], t[3], BOOL(0), BOOL(1)))
NOTED(upsample, (device *d, tensor *y, const tensor *x), (n->to, y, x), TENSORS(y, x), NO_NUMBERS, (d, t[0], t[1]))
NOTED(upsample_dx, (device *d, tensor *dx, const tensor *dy, bool add), (n->to, dx, dy, add), TENSORS(dx, dy),
      NUMBERS(add), (d, t[0], t[1], BOOL(0)))

/* ---- loss and optimizer ---- */

NOTED(mse, (device *d, tensor *loss, const tensor *a, const tensor *b), (n->to, loss, a, b), TENSORS(loss, a, b),
      NO_NUMBERS, (d, t[0], t[1], t[2]))
NOTED(mse_backward, (device *d, tensor *da, const tensor *dloss, const tensor *a, const tensor *b, float sign,
                     bool add),
      (n->to, da, dloss, a, b, sign, add), TENSORS(da, dloss, a, b), NUMBERS((double)sign, add),
      (d, t[0], t[1], t[2], t[3], FLOAT(0), BOOL(1)))
AT_ONCE(sum_squares, (device *d, double *out, const tensor *x), (n->to, out, x))
AT_ONCE(adamw, (device *d, tensor *p, tensor *m, tensor *v, tensor *copy, const tensor *g, float clip, double lr,
                double beta1, double beta2, double eps, double decay, int64_t step),
        (n->to, p, m, v, copy, g, clip, lr, beta1, beta2, eps, decay, step))
AT_ONCE(adamw8, (device *d, tensor *p, tensor *m, tensor *m_absmax, tensor *v, tensor *v_absmax, tensor *copy,
                 const tensor *g, float clip, double lr, double beta1, double beta2, double eps, double decay,
                 int64_t step),
        (n->to, p, m, m_absmax, v, v_absmax, copy, g, clip, lr, beta1, beta2, eps, decay, step))

#define ROW(name) .name = noted_##name
const primitives noting_primitives = {
    ROW(upload), ROW(download), ROW(fill), ROW(copy), ROW(lay_out), ROW(linear), ROW(linear_dx), ROW(linear_dw),
    ROW(sum_rows), ROW(conv2d), ROW(conv2d_dx), ROW(group_norm), ROW(group_norm_dx), ROW(layer_norm),
    ROW(layer_norm_dx), ROW(layer_norm_dwb), ROW(unary), ROW(unary_dx), ROW(geglu), ROW(geglu_dx), ROW(add), ROW(mul), ROW(reduce_to),
    ROW(scale), ROW(attention), ROW(attention_backward), ROW(box_mask), ROW(multi_subject_attention),
    ROW(multi_subject_attention_backward), ROW(embedding), ROW(embedding_dtable), ROW(time_embedding),
    ROW(box_embedding), ROW(select), ROW(select_backward), ROW(upsample), ROW(upsample_dx), ROW(mse),
    ROW(mse_backward), ROW(sum_squares), ROW(adamw), ROW(adamw8),
};
