/* Attention without the score matrix: for a tile of queries the keys are walked tile by tile, with a
 * running maximum and sum per query (Milakov and Gimelshein, "Online normalizer calculation for
 * softmax"; Dao et al., "FlashAttention"). Memory: one tile of scores and of outputs for each thread. */
#include "autograd/cpu/cpu.h"
#include "autograd/cpu/exp.h"
#include "autograd/cpu/softmax.h"
#include "autograd/cpu/tile.h"
#include "autograd/cpu/widened.h"

enum { QUERIES = 64, KEYS = 256 }; /* of a tile: scores, keys and values of head size 64 stay in the L2 cache */

typedef struct attention_call {
    tensor       *y, *lse;
    const tensor *q, *k, *v;
    float         scale;
    bool          causal;
} attention_call;

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* How many of the `columns` keys from `key` on the query sees. */
static inline int64_t visible(const attention_call *c, int64_t query, int64_t key, int64_t columns)
{
    if (!c->causal || query + 1 - key >= columns)
        return columns;
    return query + 1 > key ? query + 1 - key : 0;
}

/* One row of scores becomes probabilities relative to the maximum so far; what was summed before is
 * brought to the new maximum. */
static void row_update(float *scores, int64_t seen, int64_t columns, float *sum_values, int64_t size, float *most,
                       double *sum)
{
    float now = softmax_row_max(scores, seen, *most);
    if (now > *most && *sum > 0.0) {
        float factor = cpu_exp(*most - now);
        for (int64_t i = 0; i < size; i++)
            sum_values[i] *= factor;
        *sum *= (double)factor;
    }
    *most = now;
    *sum += (double)softmax_row_exp(scores, seen, now);
    for (int64_t i = seen; i < columns; i++)
        scores[i] = 0.0f;
}

static void row_finish(float *y, float *lse, const float *sum_values, int64_t size, float most, double sum)
{
    float inverse = (float)(1.0 / sum);
    for (int64_t i = 0; i < size; i++)
        y[i] = sum_values[i] * inverse;
    if (lse)
        *lse = (float)((double)most + log(sum));
}

static void query_tile(const attention_call *c, float *scratch, int64_t b, int64_t h, int64_t from)
{
    int64_t size = c->q->dim[3], queries = c->q->dim[1], keys = c->k->dim[1];
    int64_t rows = least(QUERIES, queries - from), end = c->causal ? least(keys, from + rows) : keys;
    head_rows q = head_rows_of(c->q, b, h), k = head_rows_of(c->k, b, h), v = head_rows_of(c->v, b, h);
    head_rows y = head_rows_of(c->y, b, h);
    float *scores = scratch, *values = scratch + QUERIES * KEYS, most[QUERIES];
    double sum[QUERIES];
    for (int r = 0; r < QUERIES; r++) {
        most[r] = -INFINITY;
        sum[r] = 0.0;
    }
    for (int64_t key = 0; key < end; key += KEYS) {
        int64_t columns = least(KEYS, end - key);
        tile_product(scores, columns, row_at(q, from), q.row, 'N', row_at(k, key), k.row, 'T', rows, columns, size,
                     c->scale, 0.0f);
        for (int64_t r = 0; r < rows; r++)
            row_update(scores + r * columns, visible(c, from + r, key, columns), columns, values + r * size, size,
                       &most[r], &sum[r]);
        tile_product(values, size, scores, columns, 'N', row_at(v, key), v.row, 'N', rows, size, columns, 1.0f,
                     key ? 1.0f : 0.0f);
    }
    float *lse = c->lse ? (float *)c->lse->data + (b * c->q->dim[2] + h) * queries + from : NULL;
    for (int64_t r = 0; r < rows; r++)
        row_finish(row_at(y, from + r), lse ? lse + r : NULL, values + r * size, size, most[r], sum[r]);
}

/* Scores, softmax and both products in f32 on widened inputs; y is rounded once. */
static err attention_bf16(device *d, tensor *y, tensor *lse, const tensor *q, const tensor *k, const tensor *v,
                          float scale, bool causal)
{
    widened w;
    TRY(widened_open(&w, d, 14u, 4, (tensor *[]){y, (tensor *)q, (tensor *)k, (tensor *)v}));
    err e = cpu_attention(d, w.at[0], lse, w.at[1], w.at[2], w.at[3], scale, causal);
    if (e == OK)
        widened_store(&w, 0);
    widened_close(&w);
    return e;
}

err cpu_attention(device *d, tensor *y, tensor *lse, const tensor *q, const tensor *k, const tensor *v, float scale,
                  bool causal)
{
    bool bf16;
    TRY(cpu_one_type_strided(&bf16, "attention", CPU_TENSORS(y, q, k, v)));
    if (bf16)
        return attention_bf16(d, y, lse, q, k, v, scale, causal);
    TRY(tile_need_f32("attention", q));
    TRY(tile_need_f32("attention", k));
    TRY(tile_need_f32("attention", v));
    attention_call c = {y, lse, q, k, v, scale, causal};
    int64_t heads = q->dim[2], tiles = (q->dim[1] + QUERIES - 1) / QUERIES, floats = QUERIES * (KEYS + q->dim[3]);
    float *scratch = NULL;
    TRY(tile_scratch_get(d, &scratch, &floats));
#pragma omp parallel num_threads(d->threads)
    {
        float *mine = tile_thread(scratch, floats);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < q->dim[0] * heads * tiles; i++)
            query_tile(&c, mine, i / tiles / heads, i / tiles % heads, i % tiles * QUERIES);
    }
    tile_scratch_put(d, scratch, floats);
    return OK;
}
