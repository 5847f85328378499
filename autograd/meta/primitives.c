/* Each primitive as its cost. Multiply-adds are those of the matrix products a device has to do; statistics and
 * elementwise work count as traffic only. */
#include <string.h>

#include "autograd/meta/device.h"

static double count(const tensor *t)
{
    return (double)tensor_count(t);
}

/* A tensor that a primitive uses after its release is our own mistake, found here too. */
static double bytes(const tensor *t)
{
    if (!t)
        return 0.0;
    CHECK(t->data, "%s is used after its release", t->name);
    return count(t) * (double)dtype_bytes(t->type);
}

typedef struct operands { /* entries may be NULL */
    const tensor *written[6], *read[8];
    bool          add; /* the outputs are read too */
} operands;

/* What a product computes in: its operands, not its output, which may be wider. */
static dtype type_of(const operands *o)
{
    for (size_t i = 0; i < sizeof o->read / sizeof *o->read; i++)
        if (o->read[i])
            return o->read[i]->type;
    return o->written[0] ? o->written[0]->type : DT_F32;
}

static err note(device *d, const char *primitive, meta_kind kind, double multiply_adds, operands o)
{
    meta_state *m = d->state;
    meta_count *c = &m->report.by_kind[kind];
    double      read = 0.0, written = 0.0;
    for (size_t i = 0; i < sizeof o.written / sizeof *o.written; i++)
        written += bytes(o.written[i]);
    for (size_t i = 0; i < sizeof o.read / sizeof *o.read; i++)
        read += bytes(o.read[i]);
    if (o.add)
        read += written;
    c->calls++;
    c->multiply_adds += multiply_adds;
    c->read += read;
    c->written += written;
    if (m->watcher)
        m->watcher(m->user, &(meta_call){primitive, kind, type_of(&o), multiply_adds, read, written, o.written[0]});
    return OK;
}

/* The same call on the device that is imitated, for the scratch that it takes. */
#define DRY(call, ...)                                                      \
    do {                                                                    \
        meta_state *state_ = d->state;                                      \
        if (state_->dry && state_->dry->call)                               \
            TRY(state_->dry->call(&state_->like, __VA_ARGS__));             \
    } while (0)
#define NOTE(kind, multiply_adds, ...) return note(d, __func__, META_##kind, multiply_adds, (operands){__VA_ARGS__})

/* ---- memory ---- */

static err upload(device *d, tensor *y, const void *host, dtype type)
{
    (void)host, (void)type;
    NOTE(COPY, 0.0, .written = {y});
}

static err download(device *d, void *host, dtype type, const tensor *x)
{
    memset(host, 0, (size_t)tensor_count(x) * dtype_bytes(type));
    NOTE(COPY, 0.0, .read = {x});
}

static err lay_out(device *d, tensor *w, weight_use use)
{
    (void)d, (void)w, (void)use;
    return OK;
}

static err fill(device *d, tensor *y, float value)
{
    (void)value;
    NOTE(COPY, 0.0, .written = {y});
}

static err copy(device *d, tensor *y, const tensor *x, bool add)
{
    CHECK(tensor_same_shape(y, x), "copy of %s into %s: other shape", x->name, y->name);
    DRY(copy, y, x, add);
    NOTE(COPY, 0.0, .written = {y}, .read = {x}, .add = add);
}

/* ---- products ---- */

static err linear(device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias, const tensor *residual)
{
    DRY(linear, y, x, w, bias, residual);
    NOTE(LINEAR, count(x) * (double)w->dim[0], .written = {y}, .read = {x, w, bias, residual});
}

static err linear_dx(device *d, tensor *dx, const tensor *dy, const tensor *w, bool add)
{
    DRY(linear_dx, dx, dy, w, add);
    NOTE(LINEAR, count(dy) * (double)w->dim[1], .written = {dx}, .read = {dy, w}, .add = add);
}

static err linear_dw(device *d, tensor *dw, const tensor *dy, const tensor *x, bool add)
{
    DRY(linear_dw, dw, dy, x, add);
    NOTE(LINEAR, count(x) * (double)dw->dim[0], .written = {dw}, .read = {dy, x}, .add = add);
}

static err sum_rows(device *d, tensor *db, const tensor *dy, bool add)
{
    DRY(sum_rows, db, dy, add);
    NOTE(ELEMENTWISE, 0.0, .written = {db}, .read = {dy}, .add = add);
}

static err conv2d(device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias, const tensor *residual,
                  const conv_geometry *g)
{
    DRY(conv2d, y, x, w, bias, residual, g);
    NOTE(CONVOLUTION, count(y) * (double)tensor_count_from(w, 1), .written = {y}, .read = {x, w, bias, residual});
}

static err conv2d_dx(device *d, tensor *dx, const tensor *dy, const tensor *w, const conv_geometry *g, bool add)
{
    DRY(conv2d_dx, dx, dy, w, g, add);
    NOTE(CONVOLUTION, count(dy) * (double)tensor_count_from(w, 1), .written = {dx}, .read = {dy, w}, .add = add);
}

/* ---- norms ---- */

static err group_norm(device *d, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *vec,
                      const tensor *w, const tensor *b, int groups, float eps, bool silu)
{
    DRY(group_norm, y, mean, rstd, x, vec, w, b, groups, eps, silu);
    NOTE(NORM, 0.0, .written = {y, mean, rstd}, .read = {x, vec, w, b});
}

static err group_norm_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, const tensor *vec, const tensor *w,
                         const tensor *b, const tensor *mean, const tensor *rstd, int groups, bool silu, bool add)
{
    DRY(group_norm_dx, dx, dy, x, vec, w, b, mean, rstd, groups, silu, add);
    NOTE(NORM, 0.0, .written = {dx}, .read = {dy, x, vec, w, b, mean, rstd}, .add = add);
}

static err layer_norm(device *d, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *w,
                      const tensor *b, float eps)
{
    DRY(layer_norm, y, mean, rstd, x, w, b, eps);
    NOTE(NORM, 0.0, .written = {y, mean, rstd}, .read = {x, w, b});
}

static err layer_norm_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, const tensor *w, const tensor *mean,
                         const tensor *rstd, bool add)
{
    DRY(layer_norm_dx, dx, dy, x, w, mean, rstd, add);
    NOTE(NORM, 0.0, .written = {dx}, .read = {dy, x, w, mean, rstd}, .add = add);
}

static err layer_norm_dwb(device *d, tensor *dw, tensor *db, const tensor *dy, const tensor *x, const tensor *mean,
                          const tensor *rstd, bool add_w, bool add_b)
{
    DRY(layer_norm_dwb, dw, db, dy, x, mean, rstd, add_w, add_b);
    NOTE(NORM, 0.0, .written = {dw, db}, .read = {dy, x, mean, rstd, add_w ? dw : NULL, add_b ? db : NULL});
}

/* ---- elementwise ---- */

static err unary_forward(device *d, tensor *y, const tensor *x, unary f)
{
    (void)f;
    NOTE(ELEMENTWISE, 0.0, .written = {y}, .read = {x});
}

static err unary_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, unary f, bool add)
{
    (void)f;
    NOTE(ELEMENTWISE, 0.0, .written = {dx}, .read = {dy, x}, .add = add);
}

static err geglu(device *d, tensor *y, const tensor *x)
{
    NOTE(ELEMENTWISE, 0.0, .written = {y}, .read = {x});
}

static err geglu_dx(device *d, tensor *dx, const tensor *dy, const tensor *x, bool add)
{
    NOTE(ELEMENTWISE, 0.0, .written = {dx}, .read = {dy, x}, .add = add);
}

static err binary(device *d, tensor *y, const tensor *a, const tensor *b)
{
    NOTE(ELEMENTWISE, 0.0, .written = {y}, .read = {a, b});
}

static err reduce_to(device *d, tensor *db, const tensor *dy, const tensor *other, bool add)
{
    DRY(reduce_to, db, dy, other, add);
    NOTE(ELEMENTWISE, 0.0, .written = {db}, .read = {dy, other}, .add = add);
}

static err scale_by(device *d, tensor *y, const tensor *x, float s, bool add)
{
    (void)s;
    NOTE(ELEMENTWISE, 0.0, .written = {y}, .read = {x}, .add = add);
}

/* ---- attention ---- */

/* `products` products of T x S x D in each head of each of k's samples. */
static double attention_work(const tensor *q, const tensor *k, int products)
{
    double per_sample = count(q) / (double)q->dim[0];
    return per_sample * (double)k->dim[0] * (double)k->dim[1] * products;
}

static err attention(device *d, tensor *y, tensor *lse, const tensor *q, const tensor *k, const tensor *v, float scale,
                     bool causal)
{
    DRY(attention, y, lse, q, k, v, scale, causal);
    NOTE(ATTENTION, attention_work(q, k, 2), .written = {y, lse}, .read = {q, k, v});
}

/* Scores again, the gradient of the weights, and one product for each gradient asked for. */
static int backward_products(const tensor *dq, const tensor *dk, const tensor *dv)
{
    return 2 + (dq != NULL) + (dk != NULL) + (dv != NULL);
}

static err attention_backward(device *d, tensor *dq, tensor *dk, tensor *dv, const tensor *dy, const tensor *y,
                              const tensor *lse, const tensor *q, const tensor *k, const tensor *v, float scale,
                              bool causal, bool add_q, bool add_k, bool add_v)
{
    DRY(attention_backward, dq, dk, dv, dy, y, lse, q, k, v, scale, causal, add_q, add_k, add_v);
    NOTE(ATTENTION, attention_work(q, k, backward_products(dq, dk, dv)), .written = {dq, dk, dv},
         .read = {dy, y, lse, q, k, v}, .add = add_q || add_k || add_v);
}

static err box_mask(device *d, tensor *mask, const tensor *boxes, int64_t h, int64_t w)
{
    (void)h, (void)w;
    NOTE(ELEMENTWISE, 0.0, .written = {mask}, .read = {boxes});
}

static err multi_subject_attention(device *d, tensor *y, tensor *lse, const tensor *base, const tensor *q,
                                   const tensor *k, const tensor *v, const tensor *mask, const tensor *subject_scales,
                                   float scale)
{
    DRY(multi_subject_attention, y, lse, base, q, k, v, mask, subject_scales, scale);
    NOTE(SUBJECT_ATTENTION, attention_work(q, k, 2), .written = {y, lse},
         .read = {base, q, k, v, mask, subject_scales});
}

static err multi_subject_attention_backward(device *d, tensor *dq, tensor *dk, tensor *dv, const tensor *dy,
                                            const tensor *lse, const tensor *q, const tensor *k, const tensor *v,
                                            const tensor *mask, const tensor *subject_scales, float scale, bool add_q,
                                            bool add_k, bool add_v)
{
    DRY(multi_subject_attention_backward, dq, dk, dv, dy, lse, q, k, v, mask, subject_scales, scale, add_q, add_k,
        add_v);
    NOTE(SUBJECT_ATTENTION, attention_work(q, k, backward_products(dq, dk, dv)), .written = {dq, dk, dv},
         .read = {dy, lse, q, k, v, mask, subject_scales}, .add = add_q || add_k || add_v);
}

/* ---- embeddings, selection, resizing, loss ---- */

static err embedding(device *d, tensor *y, const tensor *table, const tensor *ids)
{
    (void)table;
    NOTE(COPY, 0.0, .written = {y}, .read = {y, ids});
}

static err embedding_dtable(device *d, tensor *dtable, const tensor *dy, const tensor *ids, bool add)
{
    DRY(embedding_dtable, dtable, dy, ids, add);
    NOTE(COPY, 0.0, .written = {dtable}, .read = {dy, ids}, .add = add);
}

static err time_embedding(device *d, tensor *y, const tensor *t)
{
    NOTE(ELEMENTWISE, 0.0, .written = {y}, .read = {t});
}

static err box_embedding(device *d, tensor *y, const tensor *boxes, int freqs)
{
    (void)freqs;
    NOTE(ELEMENTWISE, 0.0, .written = {y}, .read = {boxes});
}

static err select_rows(device *d, tensor *y, const tensor *pick, const tensor *a, const tensor *b)
{
    (void)a, (void)b;
    NOTE(COPY, 0.0, .written = {y}, .read = {pick, y});
}

static err select_backward(device *d, tensor *da, tensor *db, const tensor *dy, const tensor *pick, bool add_a,
                           bool add_b)
{
    NOTE(COPY, 0.0, .written = {da, db}, .read = {dy, pick}, .add = add_a || add_b);
}

static err upsample(device *d, tensor *y, const tensor *x)
{
    NOTE(COPY, 0.0, .written = {y}, .read = {x});
}

static err upsample_dx(device *d, tensor *dx, const tensor *dy, bool add)
{
    NOTE(COPY, 0.0, .written = {dx}, .read = {dy}, .add = add);
}

static err mse(device *d, tensor *loss, const tensor *a, const tensor *b)
{
    DRY(mse, loss, a, b);
    NOTE(ELEMENTWISE, 0.0, .written = {loss}, .read = {a, b});
}

static err mse_backward(device *d, tensor *da, const tensor *dloss, const tensor *a, const tensor *b, float sign,
                        bool add)
{
    DRY(mse_backward, da, dloss, a, b, sign, add);
    NOTE(ELEMENTWISE, 0.0, .written = {da}, .read = {dloss, a, b}, .add = add);
}

/* ---- optimizer ---- */

static err sum_squares(device *d, double *out, const tensor *x)
{
    *out = 0.0;
    DRY(sum_squares, out, x);
    NOTE(OPTIMIZER, 0.0, .read = {x});
}

static err adamw(device *d, tensor *t, tensor *m, tensor *v, tensor *copy, const tensor *g, float clip, double lr,
                 double beta1, double beta2, double eps, double decay, int64_t step)
{
    (void)clip, (void)lr, (void)beta1, (void)beta2, (void)eps, (void)decay, (void)step;
    NOTE(OPTIMIZER, 0.0, .written = {t, m, v, copy}, .read = {g, t, m, v});
}

static err adamw8(device *d, tensor *t, tensor *m, tensor *m_absmax, tensor *v, tensor *v_absmax, tensor *copy, const tensor *g,
                  float clip, double lr, double beta1, double beta2, double eps, double decay, int64_t step)
{
    (void)clip, (void)lr, (void)beta1, (void)beta2, (void)eps, (void)decay, (void)step;
    NOTE(OPTIMIZER, 0.0, .written = {t, m, v, m_absmax, v_absmax, copy}, .read = {g, t, m, v, m_absmax, v_absmax});
}

const primitives meta_primitives = {
    .upload = upload, .download = download, .fill = fill, .copy = copy,
    .lay_out = lay_out, .linear = linear, .linear_dx = linear_dx, .linear_dw = linear_dw, .sum_rows = sum_rows,
    .conv2d = conv2d, .conv2d_dx = conv2d_dx,
    .group_norm = group_norm, .group_norm_dx = group_norm_dx,
    .layer_norm = layer_norm, .layer_norm_dx = layer_norm_dx, .layer_norm_dwb = layer_norm_dwb,
    .unary = unary_forward, .unary_dx = unary_dx, .geglu = geglu, .geglu_dx = geglu_dx,
    .add = binary, .mul = binary, .reduce_to = reduce_to, .scale = scale_by,
    .attention = attention, .attention_backward = attention_backward, .box_mask = box_mask,
    .multi_subject_attention = multi_subject_attention,
    .multi_subject_attention_backward = multi_subject_attention_backward,
    .embedding = embedding, .embedding_dtable = embedding_dtable, .time_embedding = time_embedding,
    .box_embedding = box_embedding, .select = select_rows, .select_backward = select_backward,
    .upsample = upsample, .upsample_dx = upsample_dx, .mse = mse, .mse_backward = mse_backward,
    .sum_squares = sum_squares, .adamw = adamw, .adamw8 = adamw8,
};
