/* Image attention of several subjects (facts: MS-Diffusion's masked cross-attention). A query sees the
 * tokens of every subject whose mask covers it, in one softmax over their union:
 *     p = softmax over the union of q k^T / sqrt(D),   y = base + sum over subjects s of c_s p_s v_s
 * with c_s the subject's scale. Queries that no subject covers cost nothing: the covered ones are
 * gathered, and only they are multiplied. */
#include "autograd/cpu/attention_parts.h"
#include "autograd/cpu/softmax.h"
#include "autograd/cpu/widened.h"

enum { QUERIES = 64 };

typedef struct subjects_call {
    tensor       *y, *dq, *dk, *dv, *lse; /* forward: y, lse; backward: the gradients, each may be NULL */
    const tensor *dy, *q, *k, *v, *mask, *subject_scales;
    const float  *kept_lse; /* of the backward */
    float         scale;
    bool          add_k, add_v;
    int64_t       samples, subjects, tokens, heads, queries, size; /* A, S, N, H, T, D */
    int32_t      *covered; /* (A,T): the covered queries of each sample, then (A): how many */
    float        *scratch;
    int64_t       floats;
} subjects_call;

static inline bool covers(const subjects_call *c, int64_t a, int64_t subject, int64_t query)
{
    return ((const uint8_t *)c->mask->data)[(a * c->subjects + subject) * c->queries + query] != 0;
}

static inline float scale_of(const subjects_call *c, int64_t subject)
{
    return c->subject_scales ? ((const float *)c->subject_scales->data)[subject] : c->scale;
}

static size_t covered_bytes(const subjects_call *c)
{
    return (size_t)(c->samples * (c->queries + 1)) * sizeof(int32_t);
}

static void close_call(device *d, subjects_call *c)
{
    if (c->scratch)
        tile_scratch_put(d, c->scratch, c->floats);
    if (c->covered)
        d->memory->put(d->memory, c->covered, covered_bytes(c), LIFE_SCRATCH);
}

/* Sizes, scratch memory and the lists of covered queries. */
static err open_call(device *d, subjects_call *c)
{
    c->samples = c->mask->dim[0];
    c->subjects = c->mask->dim[1];
    c->tokens = c->subjects ? c->k->dim[1] / c->subjects : 0;
    c->heads = c->q->dim[2];
    c->queries = c->q->dim[1];
    c->size = c->q->dim[3];
    c->floats = QUERIES * (2 * c->subjects * c->tokens + 3 * c->size);
    void *memory = NULL;
    TRY(d->memory->get(d->memory, &memory, covered_bytes(c), LIFE_SCRATCH));
    c->covered = memory;
    err e = tile_scratch_get(d, &c->scratch, &c->floats);
    if (e != OK) {
        close_call(d, c);
        return e;
    }
    for (int64_t a = 0; a < (d->dataless ? 0 : c->samples); a++) {
        int32_t *list = c->covered + a * c->queries, count = 0;
        for (int64_t t = 0; t < c->queries; t++) {
            bool any = false;
            for (int64_t s = 0; s < c->subjects; s++)
                any |= covers(c, a, s, t);
            if (any)
                list[count++] = (int32_t)t;
        }
        c->covered[c->samples * c->queries + a] = count;
    }
    return OK;
}

/* One tile of covered queries of one sample and head, and its scratch. */
typedef struct subjects_tile {
    const subjects_call *c;
    int64_t              a, h, rows, columns; /* columns: S*N */
    const int32_t       *query;               /* (rows) */
    float               *p, *dp;              /* (QUERIES,S*N) */
    float               *q, *dy, *out;        /* (QUERIES,D) */
} subjects_tile;

static subjects_tile tile_open(const subjects_call *c, float *scratch, int64_t a, int64_t h, int64_t from)
{
    int64_t count = c->covered[c->samples * c->queries + a], columns = c->subjects * c->tokens;
    subjects_tile w = {.c = c, .a = a, .h = h, .columns = columns};
    w.rows = attention_least(QUERIES, count - from);
    w.query = c->covered + a * c->queries + from;
    w.p = scratch;
    w.dp = w.p + QUERIES * columns;
    w.q = w.dp + QUERIES * columns;
    w.dy = w.q + QUERIES * c->size;
    w.out = w.dy + QUERIES * c->size;
    return w;
}

static void gather(float *to, const subjects_tile *w, const tensor *from)
{
    head_view x = head_view_of(from, w->a, w->h);
    for (int64_t r = 0; r < w->rows; r++)
        for (int64_t i = 0; i < w->c->size; i++)
            to[r * w->c->size + i] = cpu_get(head_at(x, w->query[r]), i, x.bf16);
}

static void scatter_add(tensor *to, const subjects_tile *w, const float *from)
{
    head_view x = head_view_of(to, w->a, w->h);
    for (int64_t r = 0; r < w->rows; r++) {
        void *row = head_at(x, w->query[r]);
        for (int64_t i = 0; i < w->c->size; i++)
            cpu_put(row, i, cpu_get(row, i, x.bf16) + from[r * w->c->size + i], x.bf16);
    }
}

/* p (rows,S*N) = q k^T / sqrt(D) of all tokens; q is gathered on the way. */
static void tile_scores(const subjects_tile *w)
{
    head_rows k = head_rows_of(w->c->k, w->a, w->h);
    gather(w->q, w, w->c->q);
    tile_product(w->p, w->columns, w->q, w->c->size, 'N', k.at, k.row, 'T', w->rows, w->columns, w->c->size,
                 (float)(1.0 / sqrt((double)w->c->size)), 0.0f);
}

/* One query's scores become c_s p_s, 0 for the subjects that do not cover it; returns the log-sum-exp. */
static float row_softmax(const subjects_call *c, float *p, int64_t a, int64_t query)
{
    float  most = -INFINITY;
    double sum = 0.0;
    for (int64_t s = 0; s < c->subjects; s++)
        if (covers(c, a, s, query))
            most = softmax_row_max(p + s * c->tokens, c->tokens, most);
    for (int64_t s = 0; s < c->subjects; s++)
        if (covers(c, a, s, query))
            sum += (double)softmax_row_exp(p + s * c->tokens, c->tokens, most);
    for (int64_t s = 0; s < c->subjects; s++) {
        bool  covered = covers(c, a, s, query);
        float factor = (float)((double)scale_of(c, s) / sum);
        for (int64_t i = s * c->tokens; i < (s + 1) * c->tokens; i++)
            p[i] = covered ? p[i] * factor : 0.0f;
    }
    return (float)((double)most + log(sum));
}

static void forward_tile(const subjects_tile *w)
{
    const subjects_call *c = w->c;
    head_rows            v = head_rows_of(c->v, w->a, w->h);
    tile_scores(w);
    for (int64_t r = 0; r < w->rows; r++) {
        float lse = row_softmax(c, w->p + r * w->columns, w->a, w->query[r]);
        if (c->lse)
            ((float *)c->lse->data)[(w->a * c->heads + w->h) * c->queries + w->query[r]] = lse;
    }
    tile_product(w->out, c->size, w->p, w->columns, 'N', v.at, v.row, 'N', w->rows, c->size, w->columns, 1.0f, 0.0f);
    scatter_add(c->y, w, w->out);
}

/* x (B,T,H,D) = from, or 0 where that is NULL */
static void start_from(device *d, tensor *x, const tensor *from)
{
    int64_t queries = x->dim[1], heads = x->dim[2];
    size_t  bytes = (size_t)x->dim[3] * dtype_bytes(x->type);
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < x->dim[0] * queries; i++) {
        for (int64_t h = 0; h < heads; h++) {
            void *row = head_at(head_view_of(x, i / queries, h), i % queries);
            if (from)
                memmove(row, head_at(head_view_of(from, i / queries, h), i % queries), bytes);
            else
                memset(row, 0, bytes);
        }
    }
}

static void forward(device *d, const subjects_call *c, const tensor *base)
{
    start_from(d, c->y, base);
    if (c->lse)
        memset(c->lse->data, 0, (size_t)tensor_count(c->lse) * sizeof(float)); /* of the uncovered queries */
    int64_t tiles = (c->queries + QUERIES - 1) / QUERIES;
#pragma omp parallel num_threads(d->threads)
    {
        float *mine = tile_thread(c->scratch, c->floats);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < c->samples * c->heads * tiles; i++) {
            subjects_tile w = tile_open(c, mine, i / tiles / c->heads, i / tiles % c->heads, i % tiles * QUERIES);
            if (w.rows > 0)
                forward_tile(&w);
        }
    }
}

/* The tokens' few keys and values are widened, and their gradients; queries and outputs tile by tile. */
err cpu_multi_subject_attention(device *d, tensor *y, tensor *lse, const tensor *base, const tensor *q, const tensor *k,
                                const tensor *v, const tensor *mask, const tensor *subject_scales, float scale)
{
    bool    bf16;
    widened w;
    TRY(cpu_one_type_strided(&bf16, "multi_subject_attention", CPU_TENSORS(y, base, q, k, v)));
    attention_need_rows("multi_subject_attention", CPU_TENSORS(y, base, q, k, v));
    if (bf16)
        TRY(widened_open(&w, d, 3u, 2, (tensor *[]){(tensor *)k, (tensor *)v}));
    subjects_call c = {.y = y, .lse = lse, .q = q, .k = bf16 ? w.at[0] : k, .v = bf16 ? w.at[1] : v, .mask = mask,
                       .subject_scales = subject_scales, .scale = scale};
    err e = open_call(d, &c);
    if (e == OK && !d->dataless)
        forward(d, &c, base);
    if (e == OK)
        close_call(d, &c);
    if (bf16)
        widened_close(&w);
    return e;
}

/* From scores p and dp = dy v^T of one query: dp = dS and p = c_s p_s, both 0 where uncovered. */
static void row_backward(const subjects_call *c, float *p, float *dp, int64_t a, int64_t query, float lse)
{
    float  scale = (float)(1.0 / sqrt((double)c->size));
    double sum = 0.0;
    for (int64_t s = 0; s < c->subjects; s++) {
        if (!covers(c, a, s, query))
            continue;
        float *ps = p + s * c->tokens, *ds = dp + s * c->tokens, factor = scale_of(c, s);
        softmax_row_exp(ps, c->tokens, lse);
        for (int64_t i = 0; i < c->tokens; i++) {
            ds[i] *= factor;
            sum += (double)ps[i] * (double)ds[i];
        }
    }
    float delta = (float)sum;
    for (int64_t s = 0; s < c->subjects; s++) {
        bool  covered = covers(c, a, s, query);
        float factor = scale_of(c, s);
        for (int64_t i = s * c->tokens; i < (s + 1) * c->tokens; i++) {
            dp[i] = covered ? scale * p[i] * (dp[i] - delta) : 0.0f;
            p[i] = covered ? factor * p[i] : 0.0f;
        }
    }
}

static void backward_tile(const subjects_tile *w, bool first)
{
    const subjects_call *c = w->c;
    head_rows            k = head_rows_of(c->k, w->a, w->h), v = head_rows_of(c->v, w->a, w->h);
    tile_scores(w);
    gather(w->dy, w, c->dy);
    tile_product(w->dp, w->columns, w->dy, c->size, 'N', v.at, v.row, 'T', w->rows, w->columns, c->size, 1.0f, 0.0f);
    for (int64_t r = 0; r < w->rows; r++)
        row_backward(c, w->p + r * w->columns, w->dp + r * w->columns, w->a, w->query[r],
                     c->kept_lse[(w->a * c->heads + w->h) * c->queries + w->query[r]]);
    if (c->dq) {
        tile_product(w->out, c->size, w->dp, w->columns, 'N', k.at, k.row, 'N', w->rows, c->size, w->columns, 1.0f,
                     0.0f);
        scatter_add(c->dq, w, w->out);
    }
    if (c->dk) {
        head_rows dk = head_rows_of(c->dk, w->a, w->h);
        tile_product(dk.at, dk.row, w->dp, w->columns, 'T', w->q, c->size, 'N', w->columns, c->size, w->rows, 1.0f,
                     first && !c->add_k ? 0.0f : 1.0f);
    }
    if (c->dv) {
        head_rows dv = head_rows_of(c->dv, w->a, w->h);
        tile_product(dv.at, dv.row, w->p, w->columns, 'T', w->dy, c->size, 'N', w->columns, c->size, w->rows, 1.0f,
                     first && !c->add_v ? 0.0f : 1.0f);
    }
}

/* One sample and head: its tiles one after another, so that dk and dv sum in a fixed order. */
static void backward_head(const subjects_call *c, float *scratch, int64_t a, int64_t h)
{
    int64_t count = c->covered[c->samples * c->queries + a];
    for (int64_t from = 0; from < count; from += QUERIES) {
        subjects_tile w = tile_open(c, scratch, a, h, from);
        backward_tile(&w, from == 0);
    }
    for (int64_t r = 0; !count && r < c->subjects * c->tokens; r++) {
        if (c->dk && !c->add_k)
            memset(row_at(head_rows_of(c->dk, a, h), r), 0, (size_t)c->size * sizeof(float));
        if (c->dv && !c->add_v)
            memset(row_at(head_rows_of(c->dv, a, h), r), 0, (size_t)c->size * sizeof(float));
    }
}

static void backward(device *d, const subjects_call *c, bool add_q)
{
    if (c->dq && !add_q)
        start_from(d, c->dq, NULL);
#pragma omp parallel num_threads(d->threads)
    {
        float *mine = tile_thread(c->scratch, c->floats);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < c->samples * c->heads; i++)
            backward_head(c, mine, i / c->heads, i % c->heads);
    }
}

err cpu_multi_subject_attention_backward(device *d, tensor *dq, tensor *dk, tensor *dv, const tensor *dy,
                                         const tensor *lse, const tensor *q, const tensor *k, const tensor *v,
                                         const tensor *mask, const tensor *subject_scales, float scale, bool add_q,
                                         bool add_k, bool add_v)
{
    bool     bf16;
    widened  w;
    unsigned load = 3u | (add_k ? 4u : 0u) | (add_v ? 8u : 0u);
    TRY(cpu_one_type_strided(&bf16, "multi_subject_attention_backward", CPU_TENSORS(q, k, v, dy)));
    attention_need_rows("multi_subject_attention_backward", CPU_TENSORS(q, k, v, dy, dq, dk, dv));
    if (bf16)
        TRY(widened_open(&w, d, load, 4, (tensor *[]){(tensor *)k, (tensor *)v, dk, dv}));
    subjects_call c = {.dq = dq, .dk = bf16 ? w.at[2] : dk, .dv = bf16 ? w.at[3] : dv, .dy = dy, .kept_lse = lse->data,
                       .q = q, .k = bf16 ? w.at[0] : k, .v = bf16 ? w.at[1] : v, .mask = mask,
                       .subject_scales = subject_scales, .scale = scale, .add_k = add_k, .add_v = add_v};
    err e = open_call(d, &c);
    if (e == OK && !d->dataless) {
        backward(d, &c, add_q);
        for (int i = 2; bf16 && i < 4; i++)
            widened_store(&w, i);
    }
    if (e == OK)
        close_call(d, &c);
    if (bf16)
        widened_close(&w);
    return e;
}
