#include "autograd/profile.h"

#include <stdlib.h>
#include <string.h>

#include "base/progress.h"

struct profile {
    device       face;  /* state is this profile */
    device      *inner;
    profile_row *row;   /* heap */
    int          rows, room;
};

static void shape_into(profile_row *r, int at, const tensor *t)
{
    if (!t)
        return;
    r->ndim[at] = t->ndim;
    memcpy(r->dim[at], t->dim, (size_t)t->ndim * sizeof *t->dim);
}

static bool same_row(const profile_row *a, const profile_row *b)
{
    return !strcmp(a->primitive, b->primitive) && !memcmp(a->ndim, b->ndim, sizeof a->ndim) &&
           !memcmp(a->dim, b->dim, sizeof a->dim);
}

static err note(profile *p, err status, const char *primitive, const tensor *a, const tensor *b, double operations, double start)
{
    profile_row r = {.primitive = primitive};
    if (status == OK)
        status = device_finish(p->inner);
    double seconds = clock_seconds() - start;
    shape_into(&r, 0, a);
    shape_into(&r, 1, b);
    int at = 0;
    while (at < p->rows && !same_row(&p->row[at], &r))
        at++;
    if (at == p->rows) {
        if (p->rows == p->room) {
            p->room = p->room ? 2 * p->room : 256;
            p->row = heap_grow(p->row, (size_t)p->room * sizeof *p->row);
        }
        p->row[p->rows++] = r;
    }
    p->row[at].calls++;
    p->row[at].seconds += seconds;
    p->row[at].operations += operations;
    return status;
}

static double count(const tensor *t)
{
    return (double)tensor_count(t);
}

/* 2 products (scores, values) of T x S x D in each head; `products` of them. */
static double attention_operations(const tensor *q, const tensor *k, double products)
{
    return 2.0 * products * count(q) * (double)k->dim[1];
}

/* A primitive of the face: the inner one, measured. `call` begins with the inner device. */
#define TIMED(name, signature, call, a, b, operations)      \
    static err timed_##name signature                       \
    {                                                       \
        profile *p = d->state;                              \
        double   start = clock_seconds();                   \
        err      status = p->inner->p->name call;           \
        return note(p, status, #name, a, b, operations, start); \
    }

TIMED(upload, (device *d, tensor *y, const void *host, dtype type), (p->inner, y, host, type), y, NULL, 0.0)
TIMED(download, (device *d, void *host, dtype type, const tensor *x), (p->inner, host, type, x), x, NULL, 0.0)
TIMED(lay_out, (device *d, tensor *w, weight_use use), (p->inner, w, use), w, NULL, 0.0)
TIMED(fill, (device *d, tensor *y, float value), (p->inner, y, value), y, NULL, 0.0)
TIMED(copy, (device *d, tensor *y, const tensor *x, bool add), (p->inner, y, x, add), x, NULL, 0.0)
TIMED(linear, (device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias, const tensor *residual),
      (p->inner, y, x, w, bias, residual), x, w, 2.0 * count(x) * (double)w->dim[0])
TIMED(linear_dx, (device *d, tensor *dx, const tensor *dy, const tensor *w, bool add), (p->inner, dx, dy, w, add), dy, w,
      2.0 * count(dy) * (double)w->dim[1])
TIMED(linear_dw, (device *d, tensor *dw, const tensor *dy, const tensor *x, bool add), (p->inner, dw, dy, x, add), dy, x,
      2.0 * count(dy) * (double)x->dim[1])
TIMED(sum_rows, (device *d, tensor *db, const tensor *dy, bool add), (p->inner, db, dy, add), dy, NULL, 0.0)
TIMED(conv2d, (device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias, const tensor *residual,
               const conv_geometry *g),
      (p->inner, y, x, w, bias, residual, g), x, w, 2.0 * count(y) * count(w) / (double)w->dim[0])
TIMED(conv2d_dx, (device *d, tensor *dx, const tensor *dy, const tensor *w, const conv_geometry *g, bool add),
      (p->inner, dx, dy, w, g, add), dy, w, 2.0 * count(dy) * count(w) / (double)w->dim[0])
TIMED(group_norm, (device *d, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *vec, const tensor *w,
                   const tensor *b, int groups, float eps, bool silu),
      (p->inner, y, mean, rstd, x, vec, w, b, groups, eps, silu), x, NULL, 0.0)
TIMED(group_norm_dx, (device *d, tensor *dx, const tensor *dy, const tensor *x, const tensor *vec, const tensor *w,
                      const tensor *b, const tensor *mean, const tensor *rstd, int groups, bool silu, bool add),
      (p->inner, dx, dy, x, vec, w, b, mean, rstd, groups, silu, add), x, NULL, 0.0)
TIMED(layer_norm, (device *d, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *w, const tensor *b,
                   float eps),
      (p->inner, y, mean, rstd, x, w, b, eps), x, NULL, 0.0)
TIMED(layer_norm_dx, (device *d, tensor *dx, const tensor *dy, const tensor *x, const tensor *w, const tensor *mean,
                      const tensor *rstd, bool add),
      (p->inner, dx, dy, x, w, mean, rstd, add), x, NULL, 0.0)
TIMED(layer_norm_dwb, (device *d, tensor *dw, tensor *db, const tensor *dy, const tensor *x, const tensor *mean,
                       const tensor *rstd, bool add_w, bool add_b),
      (p->inner, dw, db, dy, x, mean, rstd, add_w, add_b), x, NULL, 0.0)
TIMED(unary, (device *d, tensor *y, const tensor *x, unary f), (p->inner, y, x, f), x, NULL, 0.0)
TIMED(unary_dx, (device *d, tensor *dx, const tensor *dy, const tensor *x, unary f, bool add),
      (p->inner, dx, dy, x, f, add), x, NULL, 0.0)
TIMED(geglu, (device *d, tensor *y, const tensor *x), (p->inner, y, x), x, NULL, 0.0)
TIMED(geglu_dx, (device *d, tensor *dx, const tensor *dy, const tensor *x, bool add), (p->inner, dx, dy, x, add), x,
      NULL, 0.0)
TIMED(add, (device *d, tensor *y, const tensor *a, const tensor *b), (p->inner, y, a, b), a, b, 0.0)
TIMED(mul, (device *d, tensor *y, const tensor *a, const tensor *b), (p->inner, y, a, b), a, b, 0.0)
TIMED(reduce_to, (device *d, tensor *db, const tensor *dy, const tensor *other, bool add),
      (p->inner, db, dy, other, add), dy, other, 0.0)
TIMED(scale, (device *d, tensor *y, const tensor *x, float s, bool add), (p->inner, y, x, s, add), x, NULL, 0.0)
TIMED(attention, (device *d, tensor *y, tensor *lse, const tensor *q, const tensor *k, const tensor *v, float scale,
                  bool causal),
      (p->inner, y, lse, q, k, v, scale, causal), q, k, attention_operations(q, k, 2.0))
TIMED(attention_backward, (device *d, tensor *dq, tensor *dk, tensor *dv, const tensor *dy, const tensor *y,
                           const tensor *lse, const tensor *q, const tensor *k, const tensor *v, float scale,
                           bool causal, bool add_q, bool add_k, bool add_v),
      (p->inner, dq, dk, dv, dy, y, lse, q, k, v, scale, causal, add_q, add_k, add_v), q, k,
      attention_operations(q, k, 2.0 + (dq ? 1.0 : 0.0) + (dk ? 1.0 : 0.0) + (dv ? 1.0 : 0.0)))
TIMED(box_mask, (device *d, tensor *mask, const tensor *boxes, int64_t h, int64_t w), (p->inner, mask, boxes, h, w),
      mask, NULL, 0.0)
TIMED(multi_subject_attention, (device *d, tensor *y, tensor *lse, const tensor *base, const tensor *q, const tensor *k,
                                const tensor *v, const tensor *mask, const tensor *subject_scales, float scale),
      (p->inner, y, lse, base, q, k, v, mask, subject_scales, scale), q, k, 0.0)
TIMED(multi_subject_attention_backward,
      (device *d, tensor *dq, tensor *dk, tensor *dv, const tensor *dy, const tensor *lse, const tensor *q,
       const tensor *k, const tensor *v, const tensor *mask, const tensor *subject_scales, float scale, bool add_q,
       bool add_k, bool add_v),
      (p->inner, dq, dk, dv, dy, lse, q, k, v, mask, subject_scales, scale, add_q, add_k, add_v), q, k, 0.0)
TIMED(embedding, (device *d, tensor *y, const tensor *table, const tensor *ids), (p->inner, y, table, ids), table, ids,
      0.0)
TIMED(embedding_dtable, (device *d, tensor *dtable, const tensor *dy, const tensor *ids, bool add),
      (p->inner, dtable, dy, ids, add), dy, ids, 0.0)
TIMED(time_embedding, (device *d, tensor *y, const tensor *t), (p->inner, y, t), t, NULL, 0.0)
TIMED(box_embedding, (device *d, tensor *y, const tensor *boxes, int freqs), (p->inner, y, boxes, freqs), boxes, NULL,
      0.0)
TIMED(select, (device *d, tensor *y, const tensor *pick, const tensor *a, const tensor *b), (p->inner, y, pick, a, b), a,
      b, 0.0)
TIMED(select_backward, (device *d, tensor *da, tensor *db, const tensor *dy, const tensor *pick, bool add_a, bool add_b),
      (p->inner, da, db, dy, pick, add_a, add_b), dy, NULL, 0.0)
TIMED(upsample, (device *d, tensor *y, const tensor *x), (p->inner, y, x), x, NULL, 0.0)
TIMED(upsample_dx, (device *d, tensor *dx, const tensor *dy, bool add), (p->inner, dx, dy, add), dy, NULL, 0.0)
TIMED(mse, (device *d, tensor *loss, const tensor *a, const tensor *b), (p->inner, loss, a, b), a, NULL, 0.0)
TIMED(mse_backward, (device *d, tensor *da, const tensor *dloss, const tensor *a, const tensor *b, float sign, bool add),
      (p->inner, da, dloss, a, b, sign, add), a, NULL, 0.0)
TIMED(sum_squares, (device *d, double *out, const tensor *x), (p->inner, out, x), x, NULL, 0.0)
TIMED(adamw, (device *d, tensor *t, tensor *m, tensor *v, tensor *copy, const tensor *g, float clip, double lr,
              double beta1, double beta2, double eps, double decay, int64_t step),
      (p->inner, t, m, v, copy, g, clip, lr, beta1, beta2, eps, decay, step), t, NULL, 0.0)
TIMED(adamw8, (device *d, tensor *t, tensor *m, tensor *m_absmax, tensor *v, tensor *v_absmax, tensor *copy, const tensor *g,
               float clip, double lr, double beta1, double beta2, double eps, double decay, int64_t step),
      (p->inner, t, m, m_absmax, v, v_absmax, copy, g, clip, lr, beta1, beta2, eps, decay, step), t, NULL, 0.0)

#define ROW(name) .name = timed_##name
static const primitives timed_primitives = {
    ROW(upload), ROW(download), ROW(fill), ROW(copy), ROW(lay_out), ROW(linear), ROW(linear_dx), ROW(linear_dw), ROW(sum_rows),
    ROW(conv2d), ROW(conv2d_dx), ROW(group_norm), ROW(group_norm_dx), ROW(layer_norm), ROW(layer_norm_dx),
    ROW(layer_norm_dwb), ROW(unary), ROW(unary_dx), ROW(geglu), ROW(geglu_dx), ROW(add), ROW(mul), ROW(reduce_to),
    ROW(scale), ROW(attention), ROW(attention_backward), ROW(box_mask), ROW(multi_subject_attention),
    ROW(multi_subject_attention_backward), ROW(embedding), ROW(embedding_dtable), ROW(time_embedding),
    ROW(box_embedding), ROW(select), ROW(select_backward), ROW(upsample), ROW(upsample_dx), ROW(mse),
    ROW(mse_backward), ROW(sum_squares), ROW(adamw), ROW(adamw8),
};

err profile_open(profile **out, device *dev)
{
    profile *p = heap_get(sizeof *p);
    *p = (profile){.inner = dev, .face = *dev};
    p->face.p = &timed_primitives;
    p->face.state = p;
    p->face.dry = NULL; /* those know another state */
    p->face.finish = NULL; /* each call is waited for */
    p->face.capture = NULL;
    *out = p;
    return OK;
}

void profile_close(profile *p)
{
    if (p)
        free(p->row);
    free(p);
}

device *profile_device(profile *p)
{
    return &p->face;
}

static int slower_first(const void *a, const void *b)
{
    const profile_row *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

int profile_rows(const profile_row **out, profile *p)
{
    if (p->rows)
        qsort(p->row, (size_t)p->rows, sizeof *p->row, slower_first);
    *out = p->row;
    return p->rows;
}

double profile_operations(const profile *p)
{
    double sum = 0.0;
    for (int i = 0; i < p->rows; i++)
        sum += p->row[i].operations;
    return sum;
}
