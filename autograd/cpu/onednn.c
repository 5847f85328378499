#include "autograd/cpu/onednn.h"

#include <dnnl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_WORDS = 20, CACHE_SLOTS = 1024, PROBES = 8, MAX_ARGUMENTS = 8 };

typedef struct key {
    int64_t word[KEY_WORDS];
} key;

/* A primitive for one shape. For convolutions also the weights' layout that it wants. */
typedef struct kept {
    key                    k;
    dnnl_primitive_t       primitive;
    dnnl_primitive_desc_t  desc;
    dnnl_primitive_t       reorder; /* of the weights into their inner layout; NULL: as they lie */
    dnnl_primitive_desc_t  reorder_desc;
    dnnl_memory_desc_t     a, b, c, bias, inner, scratch, reorder_scratch;
} kept;

struct onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    kept         *slot[CACHE_SLOTS]; /* by hash of the key */
};

static err refused(dnnl_status_t status, const char *what, const key *k)
{
    const int64_t *w = k->word;
    return err_set(status == dnnl_out_of_memory ? E_MEMORY : E_DEVICE,
                   "cpu: oneDNN cannot do %s of %" PRId64 " x %" PRId64 " x %" PRId64 " x %" PRId64 " (status %d)",
                   what, w[1], w[2], w[3], w[4], (int)status);
}

#define DNNL(call)                             \
    do {                                       \
        dnnl_status_t status_ = (call);        \
        if (status_ != dnnl_success)           \
            return status_;                    \
    } while (0)

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

static dnnl_status_t matrix_desc(dnnl_memory_desc_t *out, int64_t rows, int64_t columns, int64_t row, int64_t column)
{
    return dnnl_memory_desc_init_by_strides(out, 2, (dnnl_dims_t){rows, columns}, dnnl_f32, (dnnl_dims_t){row, column});
}

static dnnl_status_t finish(onednn *o, kept *p, const_dnnl_op_desc_t op, bool sum)
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

enum { KIND_MATMUL = 1, KIND_CONV, KIND_CONV_DX, KIND_BATCH };

/* words: kind, m, k, n, a.row, a.column, b.row, b.column, bias, add */
static dnnl_status_t make_matmul(onednn *o, kept *p)
{
    const int64_t *w = p->k.word;
    DNNL(matrix_desc(&p->a, w[1], w[2], w[4], w[5]));
    DNNL(matrix_desc(&p->b, w[2], w[3], w[6], w[7]));
    DNNL(matrix_desc(&p->c, w[1], w[3], w[3], 1));
    DNNL(matrix_desc(&p->bias, 1, w[3], w[3], 1));
    dnnl_matmul_desc_t op;
    DNNL(dnnl_matmul_desc_init(&op, &p->a, &p->b, w[8] ? &p->bias : NULL, &p->c));
    return finish(o, p, &op, w[9] != 0);
}

/* words: kind, count, m, k, n, b.each, b.row, b.column */
static dnnl_status_t make_batch(onednn *o, kept *p)
{
    const int64_t *w = p->k.word;
    DNNL(dnnl_memory_desc_init_by_tag(&p->a, 3, (dnnl_dims_t){w[1], w[2], w[3]}, dnnl_f32, dnnl_abc));
    DNNL(dnnl_memory_desc_init_by_strides(&p->b, 3, (dnnl_dims_t){w[1], w[3], w[4]}, dnnl_f32,
                                          (dnnl_dims_t){w[5], w[6], w[7]}));
    DNNL(dnnl_memory_desc_init_by_tag(&p->c, 3, (dnnl_dims_t){w[1], w[2], w[4]}, dnnl_f32, dnnl_abc));
    dnnl_matmul_desc_t op;
    DNNL(dnnl_matmul_desc_init(&op, &p->a, &p->b, NULL, &p->c));
    return finish(o, p, &op, false);
}

/* words: kind, B, H, W, I, OH, OW, O, KH, KW, stride, pads (top, left, bottom, right), bias, add */
static dnnl_status_t conv_descs(kept *p)
{
    const int64_t *w = p->k.word;
    DNNL(dnnl_memory_desc_init_by_tag(&p->a, 4, (dnnl_dims_t){w[1], w[4], w[2], w[3]}, dnnl_f32, dnnl_nhwc));
    DNNL(dnnl_memory_desc_init_by_tag(&p->b, 4, (dnnl_dims_t){w[7], w[4], w[8], w[9]}, dnnl_f32, dnnl_ohwi));
    DNNL(dnnl_memory_desc_init_by_tag(&p->inner, 4, (dnnl_dims_t){w[7], w[4], w[8], w[9]}, dnnl_f32,
                                      dnnl_format_tag_any));
    DNNL(dnnl_memory_desc_init_by_tag(&p->c, 4, (dnnl_dims_t){w[1], w[7], w[5], w[6]}, dnnl_f32, dnnl_nhwc));
    return dnnl_memory_desc_init_by_tag(&p->bias, 1, (dnnl_dims_t){w[7]}, dnnl_f32, dnnl_x);
}

static dnnl_status_t make_reorder(onednn *o, kept *p)
{
    p->inner = *dnnl_primitive_desc_query_md(p->desc, dnnl_query_weights_md, 0);
    if (dnnl_memory_desc_equal(&p->inner, &p->b))
        return dnnl_success;
    dnnl_primitive_attr_t attributes;
    DNNL(dnnl_primitive_attr_create(&attributes));
    dnnl_status_t status = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    if (status == dnnl_success)
        status = dnnl_reorder_primitive_desc_create(&p->reorder_desc, &p->b, o->engine, &p->inner, o->engine,
                                                    attributes);
    dnnl_primitive_attr_destroy(attributes);
    DNNL(status);
    p->reorder_scratch = *dnnl_primitive_desc_query_md(p->reorder_desc, dnnl_query_scratchpad_md, 0);
    return dnnl_primitive_create(&p->reorder, p->reorder_desc);
}

static dnnl_status_t make_conv(onednn *o, kept *p)
{
    const int64_t *w = p->k.word;
    DNNL(conv_descs(p));
    dnnl_dims_t stride = {w[10], w[10]}, before = {w[11], w[12]}, after = {w[13], w[14]};
    dnnl_convolution_desc_t op;
    if (w[0] == KIND_CONV)
        DNNL(dnnl_convolution_forward_desc_init(&op, dnnl_forward_inference, dnnl_convolution_direct, &p->a, &p->inner,
                                                w[15] ? &p->bias : NULL, &p->c, stride, before, after));
    else
        DNNL(dnnl_convolution_backward_data_desc_init(&op, dnnl_convolution_direct, &p->a, &p->inner, &p->c, stride,
                                                      before, after));
    DNNL(finish(o, p, &op, w[16] != 0));
    return make_reorder(o, p);
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

static err find(onednn *o, kept **out, const key *k, const char *what)
{
    int at = find_slot(o, k);
    kept *p = o->slot[at];
    if (!p || memcmp(&p->k, k, sizeof *k)) {
        kept_free(p);
        o->slot[at] = NULL;
        p = heap_get(sizeof *p);
        *p = (kept){.k = *k};
        dnnl_status_t status = k->word[0] == KIND_MATMUL  ? make_matmul(o, p)
                               : k->word[0] == KIND_BATCH ? make_batch(o, p)
                                                          : make_conv(o, p);
        if (status != dnnl_success) {
            kept_free(p);
            return refused(status, what, k);
        }
        o->slot[at] = p;
    }
    *out = p;
    return OK;
}

/* ---- running them ---- */

typedef struct arguments {
    dnnl_exec_arg_t item[MAX_ARGUMENTS];
    int             count;
} arguments;

static dnnl_status_t bind(onednn *o, arguments *a, int which, const dnnl_memory_desc_t *desc, const void *data)
{
    dnnl_memory_t memory;
    DNNL(dnnl_memory_create(&memory, desc, o->engine, (void *)(uintptr_t)data));
    a->item[a->count++] = (dnnl_exec_arg_t){which, memory};
    return dnnl_success;
}

static dnnl_status_t execute(onednn *o, arguments *a, dnnl_primitive_t p, dnnl_status_t bound)
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

static err take(device *d, void **out, size_t bytes)
{
    *out = NULL;
    return bytes ? d->memory->get(d->memory, out, bytes, LIFE_SCRATCH) : OK;
}

static void give(device *d, void *memory, size_t bytes)
{
    if (memory)
        d->memory->put(d->memory, memory, bytes, LIFE_SCRATCH);
}

static err run_matmul(device *d, const key *id, float *y, const float *a, const float *b, const float *bias)
{
    onednn *o = d->state;
    kept *p = NULL;
    TRY(find(o, &p, id, "a matrix product"));
    void *scratch = NULL;
    size_t bytes = dnnl_memory_desc_get_size(&p->scratch);
    TRY(take(d, &scratch, bytes));
    arguments args = {.count = 0};
    dnnl_status_t s = bind(o, &args, DNNL_ARG_SRC, &p->a, a);
    s = s ? s : bind(o, &args, DNNL_ARG_WEIGHTS, &p->b, b);
    s = s ? s : bind(o, &args, DNNL_ARG_DST, &p->c, y);
    s = s || !bias ? s : bind(o, &args, DNNL_ARG_BIAS, &p->bias, bias);
    s = s || !scratch ? s : bind(o, &args, DNNL_ARG_SCRATCHPAD, &p->scratch, scratch);
    s = execute(o, &args, p->primitive, s);
    give(d, scratch, bytes);
    return s == dnnl_success ? OK : refused(s, "a matrix product", id);
}

err onednn_matmul(device *d, float *y, matrix a, matrix b, const float *bias, int64_t m, int64_t k, int64_t n,
                  bool add)
{
    if (!m || !n)
        return OK;
    key id = {{KIND_MATMUL, m, k, n, a.row, a.column, b.row, b.column, bias != NULL, add}};
    return run_matmul(d, &id, y, a.data, b.data, bias);
}

err onednn_matmul_batch(device *d, float *y, const float *a, matrix_batch b, int64_t count, int64_t m, int64_t k,
                        int64_t n)
{
    key id = {{KIND_BATCH, count, m, k, n, b.each, b.row, b.column}};
    return run_matmul(d, &id, y, a, b.data, NULL);
}

/* The weights in the layout that the primitive wants; *out is w itself or scratch of *bytes. */
static err arrange_weights(device *d, const void **out, void **scratch, size_t *bytes, const kept *p, const float *w)
{
    *out = w;
    *scratch = NULL;
    *bytes = dnnl_memory_desc_get_size(&p->inner);
    if (!p->reorder)
        return OK;
    onednn *o = d->state;
    void *own = NULL;
    size_t own_bytes = dnnl_memory_desc_get_size(&p->reorder_scratch);
    TRY(take(d, scratch, *bytes));
    err e = take(d, &own, own_bytes);
    if (e == OK) {
        arguments args = {.count = 0};
        dnnl_status_t s = bind(o, &args, DNNL_ARG_FROM, &p->b, w);
        s = s ? s : bind(o, &args, DNNL_ARG_TO, &p->inner, *scratch);
        s = s || !own ? s : bind(o, &args, DNNL_ARG_SCRATCHPAD, &p->reorder_scratch, own);
        s = execute(o, &args, p->reorder, s);
        give(d, own, own_bytes);
        e = s == dnnl_success ? OK : refused(s, "a layout of weights", &p->k);
    }
    if (e != OK)
        give(d, *scratch, *bytes);
    *out = *scratch;
    return e;
}

static key conv_key(int kind, const conv_shape *s, bool bias, bool add)
{
    const conv_geometry *g = &s->geometry;
    return (key){{kind, s->batch, s->height, s->width, s->in, s->out_height, s->out_width, s->out, s->kernel_height,
                  s->kernel_width, g->stride, g->pad_top, g->pad_left, g->pad_bottom, g->pad_right, bias, add}};
}

static err run_conv(device *d, const key *id, const float *a, const float *w, const float *bias, const float *c)
{
    onednn *o = d->state;
    bool forward = id->word[0] == KIND_CONV;
    kept *p = NULL;
    TRY(find(o, &p, id, "a convolution"));
    const void *weights = NULL;
    void *arranged = NULL, *scratch = NULL;
    size_t arranged_bytes = 0, bytes = dnnl_memory_desc_get_size(&p->scratch);
    TRY(arrange_weights(d, &weights, &arranged, &arranged_bytes, p, w));
    err e = take(d, &scratch, bytes);
    if (e == OK) {
        arguments args = {.count = 0};
        dnnl_status_t s = bind(o, &args, forward ? DNNL_ARG_SRC : DNNL_ARG_DIFF_SRC, &p->a, a);
        s = s ? s : bind(o, &args, DNNL_ARG_WEIGHTS, &p->inner, weights);
        s = s ? s : bind(o, &args, forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, &p->c, c);
        s = s || !bias ? s : bind(o, &args, DNNL_ARG_BIAS, &p->bias, bias);
        s = s || !scratch ? s : bind(o, &args, DNNL_ARG_SCRATCHPAD, &p->scratch, scratch);
        s = execute(o, &args, p->primitive, s);
        give(d, scratch, bytes);
        e = s == dnnl_success ? OK : refused(s, "a convolution", id);
    }
    if (arranged)
        give(d, arranged, arranged_bytes);
    return e;
}

err onednn_conv(device *d, float *y, const float *x, const float *w, const float *bias, const conv_shape *s, bool add)
{
    key id = conv_key(KIND_CONV, s, bias != NULL, add);
    return run_conv(d, &id, x, w, bias, y);
}

err onednn_conv_dx(device *d, float *dx, const float *dy, const float *w, const conv_shape *s)
{
    key id = conv_key(KIND_CONV_DX, s, false, false);
    return run_conv(d, &id, dx, w, NULL, dy);
}
