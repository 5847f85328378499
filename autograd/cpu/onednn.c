#include "autograd/cpu/onednn_kept.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { CACHE_SLOTS = 1024, PROBES = 8 };

struct onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    kept         *slot[CACHE_SLOTS]; /* by hash of the key */
};

err onednn_refused(dnnl_status_t status, const char *what, const key *k)
{
    const int64_t *w = k->word;
    return err_set(status == dnnl_out_of_memory ? E_MEMORY : E_DEVICE,
                   "cpu: oneDNN cannot do %s of %" PRId64 " x %" PRId64 " x %" PRId64 " x %" PRId64 " (status %d)",
                   what, w[1], w[2], w[3], w[4], (int)status);
}

static void kept_free(kept *p)
{
    if (!p)
        return;
    if (p->primitive)
        dnnl_primitive_destroy(p->primitive);
    if (p->desc)
        dnnl_primitive_desc_destroy(p->desc);
    if (p->reorder)
        dnnl_primitive_destroy(p->reorder);
    if (p->reorder_desc)
        dnnl_primitive_desc_destroy(p->reorder_desc);
    free(p);
}

err onednn_open(onednn **out)
{
    onednn *o = heap_get(sizeof *o);
    *o = (onednn){0};
    if (dnnl_engine_create(&o->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&o->stream, o->engine, dnnl_stream_default_flags) != dnnl_success) {
        onednn_close(o);
        return err_set(E_DEVICE, "cpu: oneDNN cannot start an engine; is libdnnl of this machine's architecture?");
    }
    *out = o;
    return OK;
}

void onednn_close(onednn *o)
{
    if (!o)
        return;
    for (int i = 0; i < CACHE_SLOTS; i++)
        kept_free(o->slot[i]);
    if (o->stream)
        dnnl_stream_destroy(o->stream);
    if (o->engine)
        dnnl_engine_destroy(o->engine);
    free(o);
}

bool onednn_has_bf16(void)
{
    dnnl_cpu_isa_t need = dnnl_cpu_isa_avx512_core;
    return ((unsigned)dnnl_get_effective_cpu_isa() & (unsigned)need) == (unsigned)need;
}

bool onednn_has_blocks(dtype type)
{
    dnnl_cpu_isa_t need = type == DT_BF16 ? dnnl_cpu_isa_avx512_core_bf16 : dnnl_cpu_isa_avx512_core;
    return ((unsigned)dnnl_get_effective_cpu_isa() & (unsigned)need) == (unsigned)need;
}

dnnl_engine_t onednn_engine(onednn *o)
{
    return o->engine;
}

static int slot_of(const key *k)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (int i = 0; i < KEY_WORDS; i++) {
        h ^= (uint64_t)k->word[i];
        h *= 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
    }
    return (int)(h % CACHE_SLOTS);
}

/* ---- making primitives ---- */

static dnnl_data_type_t type_of(int64_t type)
{
    return type == DT_BF16 ? dnnl_bf16 : dnnl_f32;
}

static dnnl_status_t matrix_desc(dnnl_memory_desc_t *out, int64_t type, int64_t rows, int64_t columns, int64_t row,
                                 int64_t column)
{
    return dnnl_memory_desc_init_by_strides(out, 2, (dnnl_dims_t){rows, columns}, type_of(type),
                                            (dnnl_dims_t){row, column});
}

static dnnl_status_t batch_desc(dnnl_memory_desc_t *out, int64_t type, int64_t count, int64_t rows, int64_t columns,
                                int64_t each, int64_t row, int64_t column)
{
    return dnnl_memory_desc_init_by_strides(out, 3, (dnnl_dims_t){count, rows, columns}, type_of(type),
                                            (dnnl_dims_t){each, row, column});
}

dnnl_status_t onednn_finish(onednn *o, kept *p, const_dnnl_op_desc_t op, bool sum)
{
    dnnl_primitive_attr_t attributes;
    dnnl_post_ops_t after = NULL;
    DNNL(dnnl_primitive_attr_create(&attributes));
    dnnl_status_t status = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    if (status == dnnl_success && sum) {
        status = dnnl_post_ops_create(&after);
        if (status == dnnl_success)
            status = dnnl_post_ops_append_sum(after, 1.0f);
        if (status == dnnl_success)
            status = dnnl_primitive_attr_set_post_ops(attributes, after);
    }
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(&p->desc, op, attributes, o->engine, NULL);
    if (status == dnnl_success)
        status = dnnl_primitive_create(&p->primitive, p->desc);
    if (after)
        dnnl_post_ops_destroy(after);
    dnnl_primitive_attr_destroy(attributes);
    if (status == dnnl_success)
        p->scratch = *dnnl_primitive_desc_query_md(p->desc, dnnl_query_scratchpad_md, 0);
    return status;
}

/* words: kind, m, k, n, a.row, a.column, b.row, b.column, bias, add, type of a and b, type of y, b blocked */
static dnnl_status_t make_matmul(onednn *o, kept *p)
{
    const int64_t *w = p->k.word;
    DNNL(matrix_desc(&p->a, w[10], w[1], w[2], w[4], w[5]));
    if (w[12])
        DNNL(dnnl_memory_desc_init_by_tag(&p->b, 2, (dnnl_dims_t){w[2], w[3]}, type_of(w[10]),
                                          w[10] == DT_BF16 ? dnnl_BA16a64b2a : dnnl_BA16a64b));
    else
        DNNL(matrix_desc(&p->b, w[10], w[2], w[3], w[6], w[7]));
    DNNL(matrix_desc(&p->c, w[11], w[1], w[3], w[3], 1));
    DNNL(matrix_desc(&p->bias, w[10], 1, w[3], w[3], 1));
    dnnl_matmul_desc_t op;
    DNNL(dnnl_matmul_desc_init(&op, &p->a, &p->b, w[8] ? &p->bias : NULL, &p->c));
    return onednn_finish(o, p, &op, w[9] != 0);
}

/* words: kind, count, m, k, n, a.each, a.row, a.column, b.each, b.row, b.column, type of a and b, type of y */
static dnnl_status_t make_batch(onednn *o, kept *p)
{
    const int64_t *w = p->k.word;
    DNNL(batch_desc(&p->a, w[11], w[1], w[2], w[3], w[5], w[6], w[7]));
    DNNL(batch_desc(&p->b, w[11], w[1], w[3], w[4], w[8], w[9], w[10]));
    DNNL(batch_desc(&p->c, w[12], w[1], w[2], w[4], w[2] * w[4], w[4], 1));
    dnnl_matmul_desc_t op;
    DNNL(dnnl_matmul_desc_init(&op, &p->a, &p->b, NULL, &p->c));
    return onednn_finish(o, p, &op, false);
}

/* The slot of k: the one that has it, else the first empty one of a few, else the first. */
static int find_slot(const onednn *o, const key *k)
{
    int first = slot_of(k);
    for (int i = 0; i < PROBES; i++) {
        int at = (first + i) % CACHE_SLOTS;
        if (!o->slot[at] || !memcmp(&o->slot[at]->k, k, sizeof *k))
            return at;
    }
    return first;
}

err onednn_find(onednn *o, kept **out, const key *k, onednn_make *make, const char *what)
{
    int at = find_slot(o, k);
    kept *p = o->slot[at];
    if (!p || memcmp(&p->k, k, sizeof *k)) {
        kept_free(p);
        o->slot[at] = NULL;
        p = heap_get(sizeof *p);
        *p = (kept){.k = *k};
        dnnl_status_t status = make(o, p);
        if (status != dnnl_success) {
            kept_free(p);
            return onednn_refused(status, what, k);
        }
        o->slot[at] = p;
    }
    *out = p;
    return OK;
}

/* ---- running them ---- */

dnnl_status_t onednn_bind(onednn *o, arguments *a, int which, const dnnl_memory_desc_t *desc, const void *data)
{
    dnnl_memory_t memory;
    DNNL(dnnl_memory_create(&memory, desc, o->engine, (void *)(uintptr_t)data));
    a->item[a->count++] = (dnnl_exec_arg_t){which, memory};
    return dnnl_success;
}

dnnl_status_t onednn_execute(onednn *o, arguments *a, dnnl_primitive_t p, dnnl_status_t bound)
{
    dnnl_status_t status = bound;
    if (status == dnnl_success)
        status = dnnl_primitive_execute(p, o->stream, a->count, a->item);
    if (status == dnnl_success)
        status = dnnl_stream_wait(o->stream);
    for (int i = 0; i < a->count; i++)
        dnnl_memory_destroy(a->item[i].memory);
    return status;
}

err onednn_take(device *d, void **out, size_t bytes)
{
    *out = NULL;
    return bytes ? d->memory->get(d->memory, out, bytes, LIFE_SCRATCH) : OK;
}

void onednn_give(device *d, void *memory, size_t bytes)
{
    if (memory)
        d->memory->put(d->memory, memory, bytes, LIFE_SCRATCH);
}

static err run_matmul(device *d, const key *id, onednn_make *make, void *y, const void *a, const void *b,
                      const void *bias)
{
    onednn *o = d->state;
    kept *p = NULL;
    TRY(onednn_find(o, &p, id, make, "a matrix product"));
    void *scratch = NULL;
    size_t bytes = dnnl_memory_desc_get_size(&p->scratch);
    TRY(onednn_take(d, &scratch, bytes));
    if (d->dataless) {
        onednn_give(d, scratch, bytes);
        return OK;
    }
    arguments args = {.count = 0};
    dnnl_status_t s = onednn_bind(o, &args, DNNL_ARG_SRC, &p->a, a);
    s = s ? s : onednn_bind(o, &args, DNNL_ARG_WEIGHTS, &p->b, b);
    s = s ? s : onednn_bind(o, &args, DNNL_ARG_DST, &p->c, y);
    s = s || !bias ? s : onednn_bind(o, &args, DNNL_ARG_BIAS, &p->bias, bias);
    s = s || !scratch ? s : onednn_bind(o, &args, DNNL_ARG_SCRATCHPAD, &p->scratch, scratch);
    s = onednn_execute(o, &args, p->primitive, s);
    onednn_give(d, scratch, bytes);
    return s == dnnl_success ? OK : onednn_refused(s, "a matrix product", id);
}

err onednn_matmul(device *d, void *y, dtype y_type, matrix a, matrix b, const void *bias, int64_t m, int64_t k,
                  int64_t n, bool add)
{
    CHECK(a.type == b.type && (y_type == a.type || y_type == DT_F32), "a product of %s and %s into %s",
          dtype_name(a.type), dtype_name(b.type), dtype_name(y_type));
    if (!m || !n)
        return OK;
    key id = {{KIND_MATMUL, m, k, n, a.row, a.column, b.row, b.column, bias != NULL, add, a.type, y_type,
               b.blocked}};
    return run_matmul(d, &id, make_matmul, y, a.data, b.data, bias);
}

err onednn_matmul_batch(device *d, void *y, dtype y_type, matrix_batch a, matrix_batch b, int64_t count, int64_t m,
                        int64_t k, int64_t n)
{
    CHECK(a.type == b.type && (y_type == a.type || y_type == DT_F32), "a product of %s and %s into %s",
          dtype_name(a.type), dtype_name(b.type), dtype_name(y_type));
    if (!count || !m || !n)
        return OK;
    key id = {{KIND_BATCH, count, m, k, n, a.each, a.row, a.column, b.each, b.row, b.column, a.type, y_type}};
    return run_matmul(d, &id, make_batch, y, a.data, b.data, NULL);
}
