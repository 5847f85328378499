#include "model/bind.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/device.h"
#include "base/hash.h"

enum { SHOWN_OF_EACH = 20 };
enum { MISSING, WRONG_SHAPE, WRONG_TYPE, UNUSED, PROBLEM_KINDS };

typedef struct name_set { /* open addressing; capacity is a power of two, at most half full */
    const char **slot;
    size_t       count, capacity;
} name_set;

typedef struct finding {
    const char *shown[SHOWN_OF_EACH];
    int64_t     count;
} finding;

struct binder {
    bind_visit visit;
    void      *user;
    arena      text; /* names and messages until bind_end */
    char      *path;
    size_t     path_room;
    weight_stack *stack; /* whose part is being visited */

    /* of a loading binder */
    const weight_source *source; /* NULL: only walks */
    arena               *owner;
    device              *dev;
    dtype                type;
    bool                 trainable, forward_only;
    name_set             used;
    finding              found[PROBLEM_KINDS];
    tensor            ***loaded; /* slots filled so far */
    size_t               loaded_count, loaded_room;
    err                  failed; /* first error that is no fault of the file: memory, device */
    const char          *failure;
};

/* ---- the set of names asked for ---- */

static size_t set_place(const name_set *s, const char *name)
{
    size_t at = (size_t)hash_fnv1a(name, strlen(name)) & (s->capacity - 1);
    while (s->slot[at] && strcmp(s->slot[at], name))
        at = (at + 1) & (s->capacity - 1);
    return at;
}

static void set_grow(name_set *s)
{
    name_set bigger = {.capacity = s->capacity ? 2 * s->capacity : 1024};
    bigger.slot = heap_get(bigger.capacity * sizeof *bigger.slot);
    memset(bigger.slot, 0, bigger.capacity * sizeof *bigger.slot);
    for (size_t i = 0; i < s->capacity; i++)
        if (s->slot[i])
            bigger.slot[set_place(&bigger, s->slot[i])] = s->slot[i];
    bigger.count = s->count;
    free(s->slot);
    *s = bigger;
}

/* False when the name was there before. */
static bool set_add(name_set *s, const char *name)
{
    if (2 * s->count >= s->capacity)
        set_grow(s);
    size_t at = set_place(s, name);
    if (s->slot[at])
        return false;
    s->slot[at] = name;
    s->count++;
    return true;
}

static bool set_has(const name_set *s, const char *name)
{
    return s->capacity && s->slot[set_place(s, name)];
}

/* ---- paths ---- */

static void path_reserve(binder *b, size_t bytes)
{
    if (bytes <= b->path_room)
        return;
    b->path_room = 2 * bytes;
    b->path = heap_grow(b->path, b->path_room);
}

int bind_enter(binder *b, const char *format, ...)
{
    size_t at = strlen(b->path);
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    CHECK(length > 0, "path part '%s'", format);
    path_reserve(b, at + 1 + (size_t)length + 1);
    size_t from = at;
    if (at)
        b->path[from++] = '.';
    vsnprintf(b->path + from, (size_t)length + 1, format, again);
    va_end(again);
    return (int)at;
}

void bind_leave(binder *b, int at)
{
    CHECK(at >= 0 && (size_t)at <= strlen(b->path), "leaving '%s' at %d", b->path, at);
    b->path[at] = 0;
}

/* ---- loading ---- */

static void find_problem(binder *b, int kind, const char *text)
{
    finding *f = &b->found[kind];
    if (f->count < SHOWN_OF_EACH)
        f->shown[f->count] = arena_copy_string(&b->text, text);
    f->count++;
}

static void keep_failure(binder *b, err code)
{
    if (code == OK || b->failed != OK)
        return;
    b->failed = code;
    b->failure = arena_copy_string(&b->text, err_message());
}

/* ndim may be anything a file says; a view holds the first TENSOR_MAX_DIM dimensions. */
static char *dims_text(arena *a, int ndim, const int64_t *dim)
{
    char *text = arena_copy_string(a, "(");
    for (int i = 0; i < ndim && i < TENSOR_MAX_DIM; i++)
        text = arena_print(a, "%s%s%lld", text, i ? "," : "", (long long)dim[i]);
    return arena_print(a, "%s%s)", text, ndim > TENSOR_MAX_DIM ? ",..." : "");
}

static bool view_fits(binder *b, const weight_view *v, const char *path, int ndim, const int64_t *dim)
{
    if (v->type != DT_F32 && v->type != DT_F16 && v->type != DT_BF16) {
        find_problem(b, WRONG_TYPE, arena_print(&b->text, "%s: file %s, expected F32, F16 or BF16", path,
                                                v->type_name ? v->type_name : dtype_name(v->type)));
        return false;
    }
    bool same = v->ndim >= ndim && v->ndim <= TENSOR_MAX_DIM;
    for (int i = 0; same && i < v->ndim; i++)
        same = v->dim[i] == (i < ndim ? dim[i] : 1); /* a linear layer may be stored as a 1x1 convolution */
    if (!same)
        find_problem(b, WRONG_SHAPE, arena_print(&b->text, "%s: file %s, model %s", path,
                                                 dims_text(&b->text, v->ndim, v->dim), dims_text(&b->text, ndim, dim)));
    return same;
}

static void permute_filter(char *to, const char *from, size_t ins, size_t kernel, size_t size)
{
    for (size_t k = 0; k < kernel; k++)
        for (size_t i = 0; i < ins; i++, to += size)
            memcpy(to, from + (i * kernel + k) * size, size);
}

/* to (O,K,I) = from (O,I,K), elements of `size` bytes; K = KH*KW. */
static void permute_conv(char *to, const char *from, size_t outs, size_t ins, size_t kernel, size_t size)
{
    size_t filter = ins * kernel * size;
#pragma omp parallel for schedule(static)
    for (size_t o = 0; o < outs; o++) {
        if (size == 2) /* sizes the compiler knows: moves instead of calls */
            permute_filter(to + o * filter, from + o * filter, ins, kernel, 2);
        else if (size == 4)
            permute_filter(to + o * filter, from + o * filter, ins, kernel, 4);
        else
            permute_filter(to + o * filter, from + o * filter, ins, kernel, size);
    }
}

/* Uploads straight from the file where order and alignment allow, else through one copy of this weight. */
static err upload_weight(tensor *t, const weight_view *v, weight_kind kind)
{
    size_t kernel = kind == WEIGHT_CONV ? (size_t)(v->dim[2] * v->dim[3]) : 1;
    size_t size = dtype_bytes(v->type), count = (size_t)tensor_count(t);
    if (t->dev->dataless)
        return OK;
    if (kernel == 1 && (uintptr_t)v->data % size == 0)
        return tensor_upload(t, v->data, v->type);
    if (!count)
        return OK;
    char *copy = malloc(count * size);
    if (!copy)
        return err_set(E_MEMORY, "%s: no memory for a copy of %zu bytes while loading", t->name, count * size);
    if (kernel == 1)
        memcpy(copy, v->data, count * size);
    else
        permute_conv(copy, v->data, (size_t)v->dim[0], (size_t)v->dim[1], kernel, size);
    err e = tensor_upload(t, copy, v->type);
    free(copy);
    return e;
}

static void remember_loaded(binder *b, tensor **slot)
{
    if (b->loaded_count == b->loaded_room) {
        b->loaded_room = b->loaded_room ? 2 * b->loaded_room : 1024;
        b->loaded = heap_grow(b->loaded, b->loaded_room * sizeof *b->loaded);
    }
    b->loaded[b->loaded_count++] = slot;
}

static err make_stack(binder *b, arena *owner, device *dev, lifetime life, const char *name, dtype type, int ndim,
                      const int64_t *dim)
{
    int64_t all[TENSOR_MAX_DIM];
    memcpy(all, dim, (size_t)ndim * sizeof *dim);
    all[0] = b->stack->rows;
    TRY(tensor_new(&b->stack->t, owner, dev, life, name, type, ndim, all));
    if (b->source)
        remember_loaded(b, &b->stack->t);
    return OK;
}

err bind_make(binder *b, tensor **slot, arena *owner, device *dev, lifetime life, const char *name, dtype type, int ndim,
              const int64_t *dim)
{
    if (!b->stack)
        return tensor_new(slot, owner, dev, life, name, type, ndim, dim);
    if (!b->stack->t)
        TRY(make_stack(b, owner, dev, life, name, type, ndim, dim));
    *slot = tensor_rows_view(owner, b->stack->t, name, b->stack->bound, dim[0]);
    return OK;
}

static err lay_out(binder *b, tensor *w, weight_use use)
{
    return b->trainable || b->dev->dataless ? OK : b->dev->p->lay_out(b->dev, w, use);
}

/* Places of a filter. Those of one place may be read as linear layers, so they stay plain. */
static int64_t kernel_of(const tensor *w)
{
    return w->dim[1] * w->dim[2];
}

static err load_weight(binder *b, tensor **slot, const weight_view *v, const char *path, weight_kind kind, int ndim,
                       const int64_t *dim)
{
    int64_t on_device[TENSOR_MAX_DIM];
    memcpy(on_device, dim, (size_t)ndim * sizeof *dim);
    if (kind == WEIGHT_CONV) {
        on_device[1] = dim[2];
        on_device[2] = dim[3];
        on_device[3] = dim[1];
    }
    TRY(bind_make(b, slot, b->owner, b->dev, b->trainable ? LIFE_STATE : LIFE_WEIGHTS, arena_copy_string(b->owner, path),
                  b->type, ndim, on_device));
    (*slot)->needs_grad = b->trainable;
    remember_loaded(b, slot);
    err e = upload_weight(*slot, v, kind);
    if (b->source->done)
        b->source->done(b->source, v);
    if (e == OK && kind == WEIGHT_CONV && kernel_of(*slot) > 1)
        return lay_out(b, *slot, b->forward_only ? USE_FORWARD : USE_BOTH);
    return e == OK && kind == WEIGHT_LINEAR && !b->stack && b->forward_only ? lay_out(b, *slot, USE_FORWARD) : e;
}

static void load_visit(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    weight_view view = {0};
    bool        first = set_add(&b->used, arena_copy_string(&b->text, path));
    CHECK(first, "%s is bound twice", path);
    if (!b->source->find(b->source, &view, path)) {
        find_problem(b, MISSING, arena_print(&b->text, "%s %s", path, dims_text(&b->text, ndim, dim)));
        return;
    }
    if (view_fits(b, &view, path, ndim, dim) && b->failed == OK)
        keep_failure(b, load_weight(b, slot, &view, path, kind, ndim, dim));
}

static binder *binder_new(bind_visit visit, void *user)
{
    binder *b = heap_get(sizeof *b);
    *b = (binder){.visit = visit, .user = user, .path_room = 256};
    b->path = heap_get(b->path_room);
    b->path[0] = 0;
    return b;
}

err bind_load_begin(binder **out, arena *owner, device *dev, dtype type, const weight_source *source, bool trainable)
{
    binder *b = binder_new(load_visit, NULL);
    b->owner = owner;
    b->dev = dev;
    b->type = trainable ? DT_F32 : type;
    b->source = source;
    b->trainable = trainable;
    *out = b;
    return OK;
}

err bind_walk_begin(binder **out, arena *owner, bind_visit visit, void *user)
{
    *out = binder_new(visit, user);
    (*out)->owner = owner;
    return OK;
}

void bind_forward_only(binder *b)
{
    b->forward_only = true;
}

void *bind_user(binder *b)
{
    return b->user;
}

void bind_visit_release(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    (void)b, (void)path, (void)kind, (void)ndim, (void)dim;
    tensor_release(*slot);
    *slot = NULL;
}

/* ---- naming weights ---- */

void bind_tensor(binder *b, tensor **slot, const char *leaf, weight_kind kind, int ndim, const int64_t *dim)
{
    CHECK(ndim >= 0 && ndim <= TENSOR_MAX_DIM && (kind != WEIGHT_CONV || ndim == 4), "%s.%s: %d dimensions", b->path,
          leaf, ndim);
    int at = bind_enter(b, "%s", leaf);
    b->visit(b, slot, b->path, kind, ndim, dim);
    bind_leave(b, at);
}

void bind_linear(binder *b, linear *m, const char *at, int64_t out, int64_t in, bool bias)
{
    int here = bind_enter(b, "%s", at);
    bind_tensor(b, &m->w, "weight", WEIGHT_LINEAR, DIMS(out, in));
    if (bias)
        bind_tensor(b, &m->b, "bias", WEIGHT_PLAIN, DIMS(out));
    bind_leave(b, here);
}

void bind_conv(binder *b, conv *m, const char *at, int64_t out, int64_t in, int64_t kernel)
{
    int here = bind_enter(b, "%s", at);
    bind_tensor(b, &m->w, "weight", WEIGHT_CONV, DIMS(out, in, kernel, kernel));
    bind_tensor(b, &m->b, "bias", WEIGHT_PLAIN, DIMS(out));
    bind_leave(b, here);
}

void bind_norm(binder *b, norm *m, const char *at, int64_t channels)
{
    int here = bind_enter(b, "%s", at);
    bind_tensor(b, &m->w, "weight", WEIGHT_PLAIN, DIMS(channels));
    bind_tensor(b, &m->b, "bias", WEIGHT_PLAIN, DIMS(channels));
    bind_leave(b, here);
}

/* ---- stacks ---- */

void bind_stack_begin(weight_stack *s, int64_t rows)
{
    s->rows = rows;
    s->bound = 0;
}

void bind_part(binder *b, weight_stack *s, tensor **slot, const char *leaf, int ndim, const int64_t *dim)
{
    CHECK(!b->stack && s->bound + dim[0] <= s->rows, "%s.%s: rows %lld + %lld of %lld", b->path, leaf, (long long)s->bound,
          (long long)dim[0], (long long)s->rows);
    b->stack = s;
    bind_tensor(b, slot, leaf, WEIGHT_PLAIN, ndim, dim);
    b->stack = NULL;
    s->bound += dim[0];
    if (s->t && *slot)
        s->t->needs_grad = (*slot)->needs_grad;
}

void bind_stack_end(binder *b, weight_stack *s)
{
    CHECK(s->bound == s->rows, "%s: %lld of %lld rows of a stack", b->path, (long long)s->bound, (long long)s->rows);
    if (b->visit != bind_visit_release)
        return;
    tensor_release(s->t);
    s->t = NULL;
}

static void drop_parts(qkv_weights *m)
{
    for (int i = 0; i < 2 * QKV; i++) {
        tensor_release(m->part[i]);
        m->part[i] = NULL;
    }
}

void bind_qkv(binder *b, qkv_weights *m, const char *const at[QKV], int64_t channels, int64_t in, bool bias)
{
    bind_stack_begin(&m->w, QKV * channels);
    bind_stack_begin(&m->b, bias ? QKV * channels : 0);
    for (int i = 0; i < QKV; i++) {
        int here = bind_enter(b, "%s", at[i]);
        bind_part(b, &m->w, &m->part[i], "weight", DIMS(channels, in));
        if (bias)
            bind_part(b, &m->b, &m->part[QKV + i], "bias", DIMS(channels));
        bind_leave(b, here);
    }
    drop_parts(m);
    if (m->w.t && b->source && b->forward_only && b->failed == OK)
        keep_failure(b, lay_out(b, m->w.t, USE_FORWARD));
    bind_stack_end(b, &m->w);
    bind_stack_end(b, &m->b);
}

void bind_ignore(binder *b, const char *name)
{
    size_t length = strlen(name);
    if (!b->source)
        return;
    if (!length || name[length - 1] != '*') {
        set_add(&b->used, arena_copy_string(&b->text, name));
        return;
    }
    for (size_t i = 0; i < b->source->count; i++)
        if (!strncmp(b->source->name(b->source, i), name, length - 1))
            set_add(&b->used, arena_copy_string(&b->text, b->source->name(b->source, i)));
}

bool bind_has(const binder *b, const char *path_leaf)
{
    if (!b->source)
        return false;
    arena       text = {0};
    weight_view view;
    const char *name = b->path[0] ? arena_print(&text, "%s.%s", b->path, path_leaf) : path_leaf;
    bool        found = b->source->find(b->source, &view, name);
    arena_free(&text);
    return found;
}

/* ---- the verdict ---- */

static void find_unused(binder *b)
{
    for (size_t i = 0; i < b->source->count; i++) {
        const char *name = b->source->name(b->source, i);
        if (!set_has(&b->used, name))
            find_problem(b, UNUSED, name);
    }
}

static err report(binder *b)
{
    static const char *const title[PROBLEM_KINDS] = {
        [MISSING] = "missing", [WRONG_SHAPE] = "of wrong shape", [WRONG_TYPE] = "of wrong type", [UNUSED] = "unknown"};
    char *text = arena_copy_string(&b->text, "");
    bool  any = false;
    for (int kind = 0; kind < PROBLEM_KINDS; kind++) {
        const finding *f = &b->found[kind];
        if (!f->count)
            continue;
        text = arena_print(&b->text, "%s%s%lld tensor%s %s: ", text, any ? "; " : "", (long long)f->count,
                           f->count == 1 ? "" : "s", title[kind]);
        any = true;
        for (int i = 0; i < f->count && i < SHOWN_OF_EACH; i++)
            text = arena_print(&b->text, "%s%s%s", text, i ? ", " : "", f->shown[i]);
        if (f->count > SHOWN_OF_EACH)
            text = arena_print(&b->text, "%s, ...", text);
    }
    if (any)
        return err_set(E_MODEL, "%s: %s", b->source->label, text);
    return b->failed == OK ? OK : err_set(b->failed, "%s", b->failure);
}

err bind_end(binder *b)
{
    err e = OK;
    CHECK(!b->path[0], "the walk ended inside '%s'", b->path);
    if (b->source) {
        find_unused(b);
        e = report(b);
    }
    for (size_t i = 0; e != OK && i < b->loaded_count; i++) {
        tensor_release(*b->loaded[i]);
        *b->loaded[i] = NULL;
    }
    free(b->loaded);
    free(b->used.slot);
    free(b->path);
    arena_free(&b->text);
    free(b);
    return e;
}
