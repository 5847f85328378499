/* Attention's gradients without the score matrix: the probabilities of a tile are made again from the log-sum-exp that
 * the forward kept. With P = exp(scale q k^T - lse), dP = dy v^T and delta = rowsum(dy * y) = rowsum(P * dP):
 *     dv = P^T dy,  dS = scale P (dP - delta),  dq = dS k,  dk = dS^T q.
 * Blocks of queries are walked one after another, and for each the keys tile by tile, so that every dq sums over keys
 * and every dk, dv over queries in rising order, whoever computes them: the bits do not depend on the number of
 * threads. */
#include "autograd/cpu/amx.h"
#include "autograd/cpu/attention_parts.h"

enum { SHARED_KEYS = 256 }; /* whose dk and dv one thread makes where heads are shared out */

typedef struct backward_call {
    tensor       *dq, *dk, *dv; /* each may be NULL */
    const tensor *dy, *y, *lse, *q, *k, *v;
    float        *delta; /* (B,H,T) */
    float         scale;
    bool          causal, add_q, add_k, add_v, bf16, amx;
    int64_t       block, step, words; /* queries of a block; the head size, padded, in floats and for AMX in bf16 */
    int64_t       sum_keys;           /* keys whose dk and dv are summed at a time */
} backward_call;

/* What is made of one panel of queries: q and dy turned and as rows, dq turned; lse and delta. For AMX the first four
 * are pairs in bf16. */
typedef struct backward_panel {
    float *q, *dy, *dq;      /* (step,PANEL) */
    float *q_rows, *dy_rows; /* (PANEL,step) */
    float *lse, *delta;      /* (PANEL) */
} backward_panel;

/* One batch entry and head, and this thread's scratch. */
typedef struct backward_head {
    const backward_call *c;
    int64_t              queries, keys, size;
    head_view            q, k, v, dy;
    const float         *lse;
    float               *delta;                    /* (T) */
    float               *k_tile, *v_tile, *k_turned; /* (ATTENTION_KEYS,step); k_turned: for AMX */
    float               *p, *ds;                   /* (ATTENTION_KEYS,PANEL) */
    uint16_t            *p_bf16, *ds_bf16;         /* (ATTENTION_KEYS,ATTENTION_KEYS) for AMX */
    uint32_t            *ds_pairs;                 /* (ATTENTION_KEYS / 2,PANEL) */
    float               *dk, *dv;                  /* sums, (sum_keys,step) */
    backward_panel       panel[ATTENTION_PANELS];
} backward_head;

/* What to make of a walk. */
typedef enum walk_aim { WALK_DELTA = 1, WALK_DQ = 2, WALK_DK_DV = 4 } walk_aim;

static int64_t scratch_floats(const backward_call *c)
{
    int64_t panel = 5 * PANEL * c->step + 2 * PANEL, scores = ATTENTION_KEYS * PANEL;
    return 3 * ATTENTION_KEYS * c->step + 2 * scores + scores / 2 + ATTENTION_KEYS * ATTENTION_KEYS +
           2 * c->sum_keys * c->step + c->block / PANEL * panel;
}

static float *take(float **memory, int64_t floats)
{
    float *mine = *memory;
    *memory += floats;
    return mine;
}

static void head_open(backward_head *w, const backward_call *c, float *memory, int64_t b, int64_t h)
{
    int64_t queries = c->q->dim[1], at = (b * c->q->dim[2] + h) * queries, tile = ATTENTION_KEYS * c->step;
    *w = (backward_head){.c = c, .queries = queries, .keys = c->k->dim[1], .size = c->q->dim[3]};
    w->q = head_view_of(c->q, b, h);
    w->k = head_view_of(c->k, b, h);
    w->v = head_view_of(c->v, b, h);
    w->dy = head_view_of(c->dy, b, h);
    w->lse = (const float *)c->lse->data + at;
    w->delta = c->delta + at;
    w->k_tile = take(&memory, tile);
    w->v_tile = take(&memory, tile);
    w->k_turned = take(&memory, tile);
    w->p = take(&memory, ATTENTION_KEYS * PANEL);
    w->ds = take(&memory, ATTENTION_KEYS * PANEL);
    w->ds_pairs = (uint32_t *)(void *)take(&memory, ATTENTION_KEYS * PANEL / 2);
    w->p_bf16 = (uint16_t *)(void *)take(&memory, ATTENTION_KEYS * ATTENTION_KEYS / 2);
    w->ds_bf16 = (uint16_t *)(void *)take(&memory, ATTENTION_KEYS * ATTENTION_KEYS / 2);
    w->dk = take(&memory, c->sum_keys * c->step);
    w->dv = take(&memory, c->sum_keys * c->step);
    for (int64_t i = 0; i < c->block / PANEL; i++)
        w->panel[i] = (backward_panel){.q = take(&memory, PANEL * c->step), .dy = take(&memory, PANEL * c->step),
                                       .dq = take(&memory, PANEL * c->step), .q_rows = take(&memory, PANEL * c->step),
                                       .dy_rows = take(&memory, PANEL * c->step), .lse = take(&memory, PANEL),
                                       .delta = take(&memory, PANEL)};
}

static void start_panel(const backward_head *w, const backward_panel *p, int64_t query, int64_t count, int aims)
{
    const backward_call *c = w->c;
    const void          *q = head_at(w->q, query), *dy = head_at(w->dy, query);
    if (c->amx) {
        amx_turned_pairs((uint32_t *)(void *)p->q, q, w->q.row, count, w->size, c->words, PANEL, PANEL);
        amx_turned_pairs((uint32_t *)(void *)p->dy, dy, w->dy.row, count, w->size, c->words, PANEL, PANEL);
        if (aims & WALK_DK_DV) {
            amx_row_pairs((uint32_t *)(void *)p->q_rows, q, w->q.row, count, w->size, c->step, ATTENTION_KEYS);
            amx_row_pairs((uint32_t *)(void *)p->dy_rows, dy, w->dy.row, count, w->size, c->step, ATTENTION_KEYS);
        }
    } else {
        panel_load(p->q, q, w->q.row, count, w->size, c->scale, c->bf16);
        panel_load(p->dy, dy, w->dy.row, count, w->size, 1.0f, c->bf16);
        if (aims & WALK_DK_DV) {
            panel_rows_load(p->q_rows, q, w->q.row, count, w->size, c->step, c->bf16);
            panel_rows_load(p->dy_rows, dy, w->dy.row, count, w->size, c->step, c->bf16);
        }
    }
    if (aims & WALK_DQ)
        memset(p->dq, 0, (size_t)(PANEL * c->step) * sizeof(float));
    for (int64_t i = 0; i < PANEL; i++) { /* columns without a query have probability 0 */
        p->lse[i] = i < count ? w->lse[query + i] : INFINITY;
        p->delta[i] = i < count && !(aims & WALK_DELTA) ? w->delta[query + i] : 0.0f;
    }
}

static void load_keys(const backward_head *w, int64_t key, int64_t columns, int aims)
{
    const backward_call *c = w->c;
    const void          *k = head_at(w->k, key), *v = head_at(w->v, key);
    if (c->amx) {
        amx_rows((uint16_t *)(void *)w->k_tile, k, w->k.row, columns, w->size, c->words);
        amx_rows((uint16_t *)(void *)w->v_tile, v, w->v.row, columns, w->size, c->words);
        if (aims & WALK_DQ)
            amx_turned_rows((uint16_t *)(void *)w->k_turned, k, w->k.row, columns, w->size, ATTENTION_KEYS);
    } else {
        panel_rows_load(w->k_tile, k, w->k.row, columns, w->size, c->step, c->bf16);
        panel_rows_load(w->v_tile, v, w->v.row, columns, w->size, c->step, c->bf16);
    }
}

/* scores (columns,PANEL) = rows of the tile times the turned panel */
static void multiply_tile(const backward_head *w, float *scores, const float *tile, const float *panel,
                          int64_t columns, int64_t vectors)
{
    const backward_call *c = w->c;
    if (c->amx)
        amx_multiply(&(amx_product){.out = scores, .out_step = PANEL, .a = (const uint16_t *)(const void *)tile,
                                    .a_step = c->words, .b = (const uint32_t *)(const void *)panel, .b_step = PANEL,
                                    .rows = attention_padded(columns, AMX_ROWS), .vectors = vectors,
                                    .depth = c->words});
    else
        panel_multiply(&(panel_product){.out = scores, .out_step = PANEL, .a = tile, .a_row = c->step, .a_step = 1,
                                        .b = panel, .b_step = PANEL, .rows = attention_padded(columns, PANEL_ROWS),
                                        .vectors = vectors, .depth = w->size});
}

static void add_dq(const backward_head *w, const backward_panel *p, int64_t columns, int64_t vectors)
{
    const backward_call *c = w->c;
    if (c->amx) {
        int64_t depth = attention_padded(columns, AMX_DEPTH);
        amx_pairs(w->ds_pairs, w->ds, PANEL, columns, vectors, depth);
        amx_multiply(&(amx_product){.out = p->dq, .out_step = PANEL,
                                    .a = (const uint16_t *)(const void *)w->k_turned, .a_step = ATTENTION_KEYS,
                                    .b = w->ds_pairs, .b_step = PANEL, .rows = c->step, .vectors = vectors,
                                    .depth = depth, .add = true});
    } else {
        panel_multiply(&(panel_product){.out = p->dq, .out_step = PANEL, .a = w->k_tile, .a_row = 1, .a_step = c->step,
                                        .b = w->ds, .b_step = PANEL, .rows = attention_padded(w->size, PANEL_ROWS),
                                        .vectors = vectors, .depth = columns, .mode = PANEL_ADD});
    }
}

/* sum (columns,step) += scores (columns, count of PANEL) rows (count,step) */
static void add_keys(const backward_head *w, float *sum, const float *scores, uint16_t *rounded, const float *rows,
                     int64_t columns, int64_t count)
{
    const backward_call *c = w->c;
    if (c->amx) {
        int64_t depth = attention_padded(count, AMX_DEPTH);
        amx_round(rounded, scores, PANEL, columns, attention_padded(count, PANEL_LANES), ATTENTION_KEYS);
        amx_multiply(&(amx_product){.out = sum, .out_step = c->step, .a = rounded, .a_step = ATTENTION_KEYS,
                                    .b = (const uint32_t *)(const void *)rows, .b_step = c->step,
                                    .rows = attention_padded(columns, AMX_ROWS), .vectors = c->step / PANEL_LANES,
                                    .depth = depth, .add = true});
    } else {
        panel_multiply(&(panel_product){.out = sum, .out_step = c->step, .a = scores, .a_row = PANEL, .a_step = 1,
                                        .b = rows, .b_step = c->step, .rows = attention_padded(columns, PANEL_ROWS),
                                        .vectors = c->step / PANEL_LANES, .depth = count, .mode = PANEL_ADD});
    }
}

/* One panel of `count` queries and one tile of keys; sums of dk and dv start at the key `first`. */
static void add_tile(const backward_head *w, const backward_panel *p, double *delta, int64_t query, int64_t count,
                     int64_t first, int64_t key, int64_t columns, int aims)
{
    const backward_call *c = w->c;
    int64_t              vectors = (count + PANEL_LANES - 1) / PANEL_LANES;
    float                times = c->amx ? c->scale : 1.0f; /* otherwise q has the scale */
    multiply_tile(w, w->p, w->k_tile, p->q, columns, vectors);
    multiply_tile(w, w->ds, w->v_tile, p->dy, columns, vectors);
    if (c->causal)
        attention_hide(w->p, query, key, columns, -INFINITY);
    if (aims & WALK_DELTA) {
        panel_delta(delta, w->p, w->ds, p->lse, columns, vectors, times);
        return;
    }
    panel_gradients(w->p, w->ds, p->lse, p->delta, columns, vectors, times, c->scale);
    if (aims & WALK_DQ)
        add_dq(w, p, columns, vectors);
    if (aims & WALK_DK_DV && c->dk)
        add_keys(w, w->dk + (key - first) * c->step, w->ds, w->ds_bf16, p->q_rows, columns, count);
    if (aims & WALK_DK_DV && c->dv)
        add_keys(w, w->dv + (key - first) * c->step, w->p, w->p_bf16, p->dy_rows, columns, count);
}

/* The block of queries from `query` and the keys [first, end). */
static void walk_block(const backward_head *w, int64_t query, int64_t first, int64_t end, const tensor *dq, int64_t b,
                       int64_t h, int aims)
{
    const backward_call *c = w->c;
    int64_t              rows = attention_least(c->block, w->queries - query);
    double               delta[ATTENTION_PANELS][PANEL] = {{0.0}};
    if (c->causal)
        end = attention_least(end, query + rows);
    for (int64_t r = 0; r < rows; r += PANEL)
        start_panel(w, &w->panel[r / PANEL], query + r, attention_least(PANEL, rows - r), aims);
    for (int64_t key = first; key < end; key += ATTENTION_KEYS) {
        int64_t columns = attention_least(ATTENTION_KEYS, end - key);
        load_keys(w, key, columns, aims);
        for (int64_t r = 0; r < rows; r += PANEL)
            add_tile(w, &w->panel[r / PANEL], delta[r / PANEL], query + r, attention_least(PANEL, rows - r), first, key,
                     columns, aims);
    }
    head_view to = aims & WALK_DQ ? head_view_of(dq, b, h) : (head_view){0};
    for (int64_t r = 0; aims & WALK_DQ && r < rows; r += PANEL)
        panel_store(head_at(to, query + r), w->panel[r / PANEL].dq, NULL, to.row, attention_least(PANEL, rows - r),
                    w->size, c->add_q, to.bf16);
    for (int64_t r = 0; aims & WALK_DELTA && r < rows; r++)
        w->delta[query + r] = (float)delta[r / PANEL][r % PANEL];
}

/* dk and dv of the keys [first, end), and dq if asked, which needs all keys. */
static void walk_keys(const backward_head *w, int64_t first, int64_t end, int64_t b, int64_t h, int aims)
{
    const backward_call *c = w->c;
    size_t               bytes = (size_t)(c->sum_keys * c->step) * sizeof(float);
    memset(w->dk, 0, bytes);
    memset(w->dv, 0, bytes);
    for (int64_t query = c->causal ? first / c->block * c->block : 0; query < w->queries; query += c->block)
        walk_block(w, query, first, end, c->dq, b, h, aims);
    if (c->dk) {
        head_view to = head_view_of(c->dk, b, h);
        panel_rows_store(head_at(to, first), w->dk, to.row, end - first, w->size, c->step, c->add_k, to.bf16);
    }
    if (c->dv) {
        head_view to = head_view_of(c->dv, b, h);
        panel_rows_store(head_at(to, first), w->dv, to.row, end - first, w->size, c->step, c->add_v, to.bf16);
    }
}

/* delta (B,H,T) = rowsum(dy * y) */
static void fill_delta(device *d, const backward_call *c)
{
    int64_t heads = c->q->dim[2], queries = c->q->dim[1], size = c->q->dim[3], count = c->q->dim[0] * heads;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < count * queries; i++) {
        int64_t      t = i % queries, bh = i / queries;
        const float *dy = head_at(head_view_of(c->dy, bh / heads, bh % heads), t);
        const float *y = head_at(head_view_of(c->y, bh / heads, bh % heads), t);
        double       sum = 0.0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < size; j++)
            sum += (double)dy[j] * (double)y[j];
        c->delta[i] = (float)sum;
    }
}

/* One piece of work: a whole head, some keys or one block of queries of it. */
static void work(const backward_call *c, float *memory, int64_t bh, int64_t from, int64_t count, int aims)
{
    int64_t       heads = c->q->dim[2], b = bh / heads, h = bh % heads;
    backward_head w;
    head_open(&w, c, memory, b, h);
    if (c->amx)
        amx_begin();
    if (aims & WALK_DK_DV)
        walk_keys(&w, from, attention_least(from + count, w.keys), b, h, aims);
    else
        walk_block(&w, from, 0, w.keys, c->dq, b, h, aims);
    if (c->amx)
        amx_end();
}

/* With a head for every thread, each does one after another: five products a tile. With fewer, first keys, then
 * queries are shared out, at the price of making the scores twice. In bf16 y is rounded, and dS is the small difference
 * of dP and delta: there delta is summed from the probabilities, in f32. */
static void run(device *d, const backward_call *c, float *scratch, int64_t floats, bool whole)
{
    int64_t count = c->q->dim[0] * c->q->dim[2], keys = c->k->dim[1];
    int64_t blocks = (c->q->dim[1] + c->block - 1) / c->block, parts = (keys + c->sum_keys - 1) / c->sum_keys;
    bool    columns = c->dk || c->dv, together = whole && columns && c->dq;
    if (!c->bf16)
        fill_delta(d, c);
#pragma omp parallel num_threads(d->threads)
    {
        float *mine = scratch + omp_get_thread_num() * floats;
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < (c->bf16 ? count * blocks : 0); i++)
            work(c, mine, i / blocks, i % blocks * c->block, 0, WALK_DELTA);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < (columns ? count * parts : 0); i++)
            work(c, mine, i / parts, i % parts * c->sum_keys, c->sum_keys,
                 together ? WALK_DK_DV | WALK_DQ : WALK_DK_DV);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < (c->dq && !together ? count * blocks : 0); i++)
            work(c, mine, i / blocks, i % blocks * c->block, 0, WALK_DQ);
    }
}

err cpu_attention_backward(device *d, tensor *dq, tensor *dk, tensor *dv, const tensor *dy, const tensor *y,
                           const tensor *lse, const tensor *q, const tensor *k, const tensor *v, float scale,
                           bool causal, bool add_q, bool add_k, bool add_v)
{
    backward_call c = {.dq = dq, .dk = dk, .dv = dv, .dy = dy, .y = y, .lse = lse, .q = q, .k = k, .v = v,
                       .scale = scale, .causal = causal, .add_q = add_q, .add_k = add_k, .add_v = add_v};
    TRY(cpu_one_type_strided(&c.bf16, "attention_backward", CPU_TENSORS(q, k, v, dy, y)));
    attention_need_rows("attention_backward", CPU_TENSORS(q, k, v, dy, y, dq, dk, dv));
    bool whole = q->dim[0] * q->dim[2] >= d->threads;
    c.step = attention_padded(q->dim[3], PANEL_LANES);
    c.words = attention_padded(q->dim[3], AMX_DEPTH);
    c.amx = c.bf16 && scale > 0.0f && amx_ready();
    c.block = attention_block(q->dim[1], q->dim[3]);
    c.sum_keys = attention_padded(k->dim[1], ATTENTION_KEYS);
    if (!whole)
        c.sum_keys = attention_least(c.sum_keys, SHARED_KEYS);
    int64_t floats = scratch_floats(&c);
    float  *scratch = NULL;
    size_t  bytes = (size_t)(q->dim[0] * q->dim[1] * q->dim[2]) * sizeof(float);
    void   *delta = NULL;
    TRY(d->memory->get(d->memory, &delta, bytes, LIFE_SCRATCH));
    err e = tile_scratch_get(d, &scratch, &floats);
    if (e == OK) {
        c.delta = delta;
        if (!d->dataless)
            run(d, &c, scratch, floats, whole);
        tile_scratch_put(d, scratch, floats);
    }
    d->memory->put(d->memory, delta, bytes, LIFE_SCRATCH);
    return e;
}
