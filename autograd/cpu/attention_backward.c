/* Attention's gradients without the score matrix: the probabilities of a tile are made again from the
 * log-sum-exp that the forward kept. With P = exp(scale q k^T - lse), dP = dy v^T and
 * delta = rowsum(dy * y):  dv = P^T dy,  dS = scale P (dP - delta),  dq = dS k,  dk = dS^T q.
 * Every dq sums over key tiles and every dk, dv over query tiles in rising order, whoever computes
 * them, so that the bits do not depend on the number of threads. */
#include <string.h>

#include "autograd/cpu/cpu.h"
#include "autograd/cpu/softmax.h"
#include "autograd/cpu/tile.h"
#include "autograd/cpu/widened.h"

enum { QUERIES = 64, KEYS = 256 };

typedef struct backward_call {
    tensor       *dq, *dk, *dv; /* each may be NULL */
    const tensor *dy, *y, *lse, *q, *k, *v;
    float        *delta; /* (B,H,T) */
    float         scale;
    bool          causal, add_q, add_k, add_v;
} backward_call;

/* What is common to the tiles of one batch entry and head. */
typedef struct backward_head {
    const backward_call *c;
    int64_t              queries, keys, size;
    head_rows            q, k, v, dy, dq, dk, dv;
    const float         *lse, *delta; /* (T) */
    float               *p, *ds;      /* scratch, (QUERIES,KEYS) each */
} backward_head;

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static backward_head head_open(const backward_call *c, float *scratch, int64_t b, int64_t h)
{
    int64_t queries = c->q->dim[1], at = (b * c->q->dim[2] + h) * queries;
    backward_head w = {.c = c, .queries = queries, .keys = c->k->dim[1], .size = c->q->dim[3]};
    w.q = head_rows_of(c->q, b, h);
    w.k = head_rows_of(c->k, b, h);
    w.v = head_rows_of(c->v, b, h);
    w.dy = head_rows_of(c->dy, b, h);
    if (c->dq)
        w.dq = head_rows_of(c->dq, b, h);
    if (c->dk)
        w.dk = head_rows_of(c->dk, b, h);
    if (c->dv)
        w.dv = head_rows_of(c->dv, b, h);
    w.lse = (const float *)c->lse->data + at;
    w.delta = c->delta + at;
    w.p = scratch;
    w.ds = scratch + QUERIES * KEYS;
    return w;
}

/* p = P and ds = dS of one tile. */
static void tile_scores(const backward_head *w, int64_t query, int64_t rows, int64_t key, int64_t columns)
{
    tile_product(w->p, columns, row_at(w->q, query), w->q.row, 'N', row_at(w->k, key), w->k.row, 'T', rows, columns,
                 w->size, w->c->scale, 0.0f);
    tile_product(w->ds, columns, row_at(w->dy, query), w->dy.row, 'N', row_at(w->v, key), w->v.row, 'T', rows, columns,
                 w->size, 1.0f, 0.0f);
    for (int64_t r = 0; r < rows; r++) {
        int64_t seen = w->c->causal ? least(columns, query + r + 1 - key) : columns, t = query + r;
        float  *p = w->p + r * columns, *ds = w->ds + r * columns;
        seen = seen < 0 ? 0 : seen;
        softmax_row_backward(p, ds, seen, w->lse[t], w->delta[t], w->c->scale);
        for (int64_t i = seen; i < columns; i++)
            p[i] = ds[i] = 0.0f;
    }
}

static void tile_dq(const backward_head *w, int64_t query, int64_t rows, int64_t key, int64_t columns)
{
    tile_product(row_at(w->dq, query), w->dq.row, w->ds, columns, 'N', row_at(w->k, key), w->k.row, 'N', rows, w->size,
                 columns, 1.0f, key || w->c->add_q ? 1.0f : 0.0f);
}

static void tile_dk_dv(const backward_head *w, int64_t query, int64_t rows, int64_t key, int64_t columns, bool first)
{
    if (w->c->dk)
        tile_product(row_at(w->dk, key), w->dk.row, w->ds, columns, 'T', row_at(w->q, query), w->q.row, 'N', columns,
                     w->size, rows, 1.0f, !first || w->c->add_k ? 1.0f : 0.0f);
    if (w->c->dv)
        tile_product(row_at(w->dv, key), w->dv.row, w->p, columns, 'T', row_at(w->dy, query), w->dy.row, 'N', columns,
                     w->size, rows, 1.0f, !first || w->c->add_v ? 1.0f : 0.0f);
}

static void rows_clear(head_rows x, int64_t from, int64_t rows, int64_t size)
{
    for (int64_t r = from; r < from + rows; r++)
        memset(row_at(x, r), 0, (size_t)size * sizeof(float));
}

/* dk and dv of the tile of keys from `key`, and what it adds to every dq if asked. */
static void key_tile(const backward_head *w, int64_t key, bool with_dq)
{
    const backward_call *c = w->c;
    int64_t columns = least(KEYS, w->keys - key), start = c->causal ? key / QUERIES * QUERIES : 0;
    if (start >= w->queries) { /* no query sees these keys */
        if (c->dk && !c->add_k)
            rows_clear(w->dk, key, columns, w->size);
        if (c->dv && !c->add_v)
            rows_clear(w->dv, key, columns, w->size);
        return;
    }
    for (int64_t query = start; query < w->queries; query += QUERIES) {
        int64_t rows = least(QUERIES, w->queries - query);
        tile_scores(w, query, rows, key, columns);
        if (with_dq)
            tile_dq(w, query, rows, key, columns);
        tile_dk_dv(w, query, rows, key, columns, query == start);
    }
}

/* dq of the tile of queries from `query`. */
static void query_tile(const backward_head *w, int64_t query)
{
    int64_t rows = least(QUERIES, w->queries - query);
    int64_t end = w->c->causal ? least(w->keys, query + rows) : w->keys;
    for (int64_t key = 0; key < end; key += KEYS) {
        int64_t columns = least(KEYS, w->keys - key);
        tile_scores(w, query, rows, key, columns);
        tile_dq(w, query, rows, key, columns);
    }
}

/* delta (B,H,T) = rowsum(dy * y) */
static void fill_delta(device *d, const backward_call *c)
{
    int64_t heads = c->q->dim[2], queries = c->q->dim[1], size = c->q->dim[3], count = c->q->dim[0] * heads;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < count * queries; i++) {
        int64_t      t = i % queries, bh = i / queries;
        const float *dy = row_at(head_rows_of(c->dy, bh / heads, bh % heads), t);
        const float *y = row_at(head_rows_of(c->y, bh / heads, bh % heads), t);
        double       sum = 0.0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < size; j++)
            sum += (double)dy[j] * (double)y[j];
        c->delta[i] = (float)sum;
    }
}

/* With a head for every thread, each does one after another: five products a tile. With fewer, tiles
 * are shared out, first of keys, then of queries, at the price of making the scores twice. */
static void run(device *d, const backward_call *c, float *scratch, int64_t floats)
{
    int64_t heads = c->q->dim[2], count = c->q->dim[0] * heads;
    int64_t key_tiles = (c->k->dim[1] + KEYS - 1) / KEYS, query_tiles = (c->q->dim[1] + QUERIES - 1) / QUERIES;
    bool    whole = count >= d->threads, columns = c->dk || c->dv;
#pragma omp parallel num_threads(d->threads)
    {
        float *mine = tile_thread(scratch, floats);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < (whole ? count : 0); i++) {
            backward_head w = head_open(c, mine, i / heads, i % heads);
            for (int64_t j = 0; j < (columns ? key_tiles : 0); j++)
                key_tile(&w, j * KEYS, c->dq);
            for (int64_t j = 0; j < (columns ? 0 : query_tiles); j++)
                query_tile(&w, j * QUERIES);
        }
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < (!whole && columns ? count * key_tiles : 0); i++) {
            backward_head w = head_open(c, mine, i / key_tiles / heads, i / key_tiles % heads);
            key_tile(&w, i % key_tiles * KEYS, false);
        }
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < (!whole && c->dq ? count * query_tiles : 0); i++) {
            backward_head w = head_open(c, mine, i / query_tiles / heads, i / query_tiles % heads);
            query_tile(&w, i % query_tiles * QUERIES);
        }
    }
}

/* Widened inputs, f32 throughout; gradients are rounded once. y is made again: its rounding to bf16 would go into
 * delta, and dS is the small difference of delta and dP. */
static err backward_bf16(device *d, const backward_call *c)
{
    widened  w;
    unsigned load = 0x1du | (c->add_q ? 0x20u : 0u) | (c->add_k ? 0x40u : 0u) | (c->add_v ? 0x80u : 0u);
    TRY(widened_open(&w, d, load, 8,
                     (tensor *[]){(tensor *)c->dy, (tensor *)c->y, (tensor *)c->q, (tensor *)c->k, (tensor *)c->v,
                                  c->dq, c->dk, c->dv}));
    err e = cpu_attention(d, w.at[1], NULL, w.at[2], w.at[3], w.at[4], c->scale, c->causal);
    if (e == OK)
        e = cpu_attention_backward(d, w.at[5], w.at[6], w.at[7], w.at[0], w.at[1], c->lse, w.at[2], w.at[3], w.at[4],
                                   c->scale, c->causal, c->add_q, c->add_k, c->add_v);
    for (int i = 5; e == OK && i < 8; i++)
        widened_store(&w, i);
    widened_close(&w);
    return e;
}

err cpu_attention_backward(device *d, tensor *dq, tensor *dk, tensor *dv, const tensor *dy, const tensor *y,
                           const tensor *lse, const tensor *q, const tensor *k, const tensor *v, float scale,
                           bool causal, bool add_q, bool add_k, bool add_v)
{
    bool bf16;
    TRY(cpu_one_type_strided(&bf16, "attention_backward", CPU_TENSORS(q, k, v, dy, y)));
    backward_call c = {.dq = dq, .dk = dk, .dv = dv, .dy = dy, .y = y, .lse = lse, .q = q, .k = k, .v = v,
                       .scale = scale, .causal = causal, .add_q = add_q, .add_k = add_k, .add_v = add_v};
    if (bf16)
        return backward_bf16(d, &c);
    TRY(tile_need_f32("attention_backward", q));
    TRY(tile_need_f32("attention_backward", k));
    TRY(tile_need_f32("attention_backward", v));
    int64_t floats = 2 * QUERIES * KEYS;
    float  *scratch = NULL;
    size_t  bytes = (size_t)(q->dim[0] * q->dim[1] * q->dim[2]) * sizeof(float);
    void   *delta = NULL;
    TRY(d->memory->get(d->memory, &delta, bytes, LIFE_SCRATCH));
    err e = tile_scratch_get(d, &scratch, &floats);
    if (e == OK) {
        c.delta = delta;
        fill_delta(d, &c);
        run(d, &c, scratch, floats);
        tile_scratch_put(d, scratch, floats);
    }
    d->memory->put(d->memory, delta, bytes, LIFE_SCRATCH);
    return e;
}
