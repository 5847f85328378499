/* Attention without the score matrix: for a block of queries the keys are walked tile by tile, with a running maximum
 * and sum per query (Milakov and Gimelshein, "Online normalizer calculation for softmax"; Dao et al.,
 * "FlashAttention"). Queries lie side by side in the registers, keys and values are broadcast, so that nothing but the
 * queries is turned and no sum goes across a register. What a query gets does not depend on its block. */
#include "autograd/cpu/amx.h"
#include "autograd/cpu/attention_parts.h"

typedef struct forward_call {
    tensor       *y, *lse;
    const tensor *q, *k, *v;
    float         scale;
    bool          causal, bf16, amx;
    int64_t       block; /* queries */
    int64_t       step;  /* of a row of keys or values: the head size, padded */
    int64_t       words; /* the same for AMX, in bf16 */
} forward_call;

/* A block's scratch, floats at multiples of 16. For AMX the same memory holds q as pairs, k as it is and v turned, and
 * `pairs` p in bf16. */
typedef struct forward_scratch {
    float       *q, *out; /* for each panel: (step,PANEL) */
    float       *k, *v;   /* (ATTENTION_KEYS,step) */
    float       *p;       /* (ATTENTION_KEYS,PANEL) */
    uint32_t    *pairs;   /* (ATTENTION_KEYS / 2,PANEL) */
    panel_state *state;   /* one for each panel */
} forward_scratch;

static forward_scratch scratch_of(const forward_call *c, float *memory)
{
    forward_scratch s = {.q = memory};
    s.out = s.q + c->block * c->step;
    s.k = s.out + c->block * c->step;
    s.v = s.k + ATTENTION_KEYS * c->step;
    s.p = s.v + ATTENTION_KEYS * c->step;
    s.pairs = (uint32_t *)(void *)(s.p + ATTENTION_KEYS * PANEL);
    s.state = (panel_state *)(void *)(s.pairs + ATTENTION_KEYS / 2 * PANEL);
    return s;
}

static int64_t scratch_floats(const forward_call *c)
{
    return 2 * (c->block + ATTENTION_KEYS) * c->step + ATTENTION_KEYS * PANEL * 3 / 2 +
           c->block / PANEL * (int64_t)(sizeof(panel_state) / sizeof(float));
}

static void start_panel(const forward_call *c, const forward_scratch *s, int64_t panel, const void *q, int64_t row,
                        int64_t count)
{
    panel_state *state = s->state + panel;
    float       *to = s->q + panel * PANEL * c->step;
    if (c->amx)
        amx_turned_pairs((uint32_t *)(void *)to, q, row, count, c->q->dim[3], c->words, PANEL, PANEL);
    else
        panel_load(to, q, row, count, c->q->dim[3], c->scale, c->bf16);
    memset(s->out + panel * PANEL * c->step, 0, (size_t)(PANEL * c->step) * sizeof(float));
    for (int i = 0; i < PANEL; i++) {
        state->most[i] = -INFINITY;
        state->sum[i] = 0.0;
    }
}

static void load_keys(const forward_call *c, const forward_scratch *s, head_view k, head_view v, int64_t key,
                      int64_t columns)
{
    int64_t size = c->q->dim[3];
    if (c->amx) {
        amx_rows((uint16_t *)(void *)s->k, head_at(k, key), k.row, columns, size, c->words);
        amx_turned_rows((uint16_t *)(void *)s->v, head_at(v, key), v.row, columns, size, ATTENTION_KEYS);
    } else {
        panel_rows_load(s->k, head_at(k, key), k.row, columns, size, c->step, c->bf16);
        panel_rows_load(s->v, head_at(v, key), v.row, columns, size, c->step, c->bf16);
    }
}

/* add_keys by AMX. What was summed is brought to the new maximum before, which seldom moves after the first tiles. */
static void add_keys_amx(const forward_call *c, const forward_scratch *s, int64_t panel, int64_t query, int64_t count,
                         int64_t key, int64_t columns)
{
    int64_t     vectors = (count + PANEL_LANES - 1) / PANEL_LANES;
    float      *out = s->out + panel * PANEL * c->step;
    amx_product scores = {.out = s->p, .out_step = PANEL, .a = (uint16_t *)(void *)s->k, .a_step = c->words,
                          .b = (uint32_t *)(void *)(s->q + panel * PANEL * c->step), .b_step = PANEL,
                          .rows = attention_padded(columns, AMX_ROWS), .vectors = vectors, .depth = c->words};
    amx_multiply(&scores);
    if (c->causal)
        attention_hide(s->p, query, key, columns, -INFINITY);
    panel_softmax(s->p, s->state + panel, columns, vectors, c->scale);
    if (key)
        panel_rescale(out, s->state[panel].factor, c->q->dim[3], vectors);
    amx_product values = {.out = out, .out_step = PANEL, .a = (uint16_t *)(void *)s->v, .a_step = ATTENTION_KEYS,
                          .b = s->pairs, .b_step = PANEL, .rows = c->step, .vectors = vectors,
                          .depth = attention_padded(columns, AMX_DEPTH), .add = key > 0};
    amx_pairs(s->pairs, s->p, PANEL, columns, vectors, values.depth);
    amx_multiply(&values);
}

/* One tile of keys for one panel of queries from `query`. */
static void add_keys(const forward_call *c, const forward_scratch *s, int64_t panel, int64_t query, int64_t count,
                     int64_t key, int64_t columns)
{
    int64_t       vectors = (count + PANEL_LANES - 1) / PANEL_LANES;
    panel_product scores = {.out = s->p, .out_step = PANEL, .a = s->k, .a_row = c->step, .a_step = 1,
                            .b = s->q + panel * PANEL * c->step, .b_step = PANEL, .vectors = vectors,
                            .rows = attention_padded(columns, PANEL_ROWS), .depth = c->q->dim[3]};
    panel_multiply(&scores);
    if (c->causal)
        attention_hide(s->p, query, key, columns, -INFINITY);
    panel_softmax(s->p, s->state + panel, columns, vectors, 1.0f);
    panel_product values = {.out = s->out + panel * PANEL * c->step, .out_step = PANEL, .a = s->v, .a_row = 1,
                            .a_step = c->step, .b = s->p, .b_step = PANEL, .vectors = vectors, .depth = columns,
                            .rows = attention_padded(c->q->dim[3], PANEL_ROWS), .mode = PANEL_RESCALE,
                            .factor = s->state[panel].factor};
    panel_multiply(&values);
}

static void finish_panel(const forward_call *c, const forward_scratch *s, int64_t panel, void *y, int64_t row,
                         float *lse, int64_t count)
{
    panel_state *state = s->state + panel;
    for (int64_t i = 0; i < count; i++) {
        state->factor[i] = (float)(1.0 / state->sum[i]);
        if (lse)
            lse[i] = (float)((double)state->most[i] + log(state->sum[i]));
    }
    panel_store(y, s->out + panel * PANEL * c->step, state->factor, row, count, c->q->dim[3], false, c->bf16);
}

static void query_block(const forward_call *c, float *memory, int64_t b, int64_t h, int64_t from)
{
    int64_t queries = c->q->dim[1], rows = attention_least(c->block, queries - from);
    int64_t end = c->causal ? attention_least(c->k->dim[1], from + rows) : c->k->dim[1];
    head_view q = head_view_of(c->q, b, h), k = head_view_of(c->k, b, h), v = head_view_of(c->v, b, h);
    head_view y = head_view_of(c->y, b, h);
    forward_scratch s = scratch_of(c, memory);
    if (c->amx)
        amx_begin();
    for (int64_t r = 0; r < rows; r += PANEL)
        start_panel(c, &s, r / PANEL, head_at(q, from + r), q.row, attention_least(PANEL, rows - r));
    for (int64_t key = 0; key < end; key += ATTENTION_KEYS) {
        int64_t columns = attention_least(ATTENTION_KEYS, end - key);
        load_keys(c, &s, k, v, key, columns);
        for (int64_t r = 0; r < rows; r += PANEL)
            (c->amx ? add_keys_amx : add_keys)(c, &s, r / PANEL, from + r, attention_least(PANEL, rows - r), key,
                                               columns);
    }
    if (c->amx)
        amx_end();
    float *lse = c->lse ? (float *)c->lse->data + (b * c->q->dim[2] + h) * queries + from : NULL;
    for (int64_t r = 0; r < rows; r += PANEL)
        finish_panel(c, &s, r / PANEL, head_at(y, from + r), y.row, lse ? lse + r : NULL,
                     attention_least(PANEL, rows - r));
}

err cpu_attention(device *d, tensor *y, tensor *lse, const tensor *q, const tensor *k, const tensor *v, float scale,
                  bool causal)
{
    forward_call c = {.y = y, .lse = lse, .q = q, .k = k, .v = v, .scale = scale, .causal = causal};
    TRY(cpu_one_type_strided(&c.bf16, "attention", CPU_TENSORS(y, q, k, v)));
    attention_need_rows("attention", CPU_TENSORS(y, q, k, v));
    c.step = attention_padded(q->dim[3], PANEL_LANES);
    c.words = attention_padded(q->dim[3], AMX_DEPTH);
    c.amx = c.bf16 && scale > 0.0f && amx_ready(); /* masked scores are -infinity before they are scaled */
    c.block = attention_block(q->dim[1], q->dim[3]);
    int64_t heads = q->dim[2], blocks = (q->dim[1] + c.block - 1) / c.block, floats = scratch_floats(&c);
    float *scratch = NULL;
    TRY(tile_scratch_get(d, &scratch, &floats));
#pragma omp parallel for num_threads(d->threads) schedule(dynamic) if (!d->dataless)
    for (int64_t i = 0; i < (d->dataless ? 0 : q->dim[0] * heads * blocks); i++)
        query_block(&c, scratch + omp_get_thread_num() * floats, i / blocks / heads, i / blocks % heads,
                    i % blocks * c.block);
    tile_scratch_put(d, scratch, floats);
    return OK;
}
