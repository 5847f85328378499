#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/torch_bin.h"

typedef struct item {
    const char *group; /* NULL: in the outer dict */
    const char *name;
    stored_type type;
    int ndim;
    const int64_t *dim;
    int64_t count;
    size_t bytes;
} item;

struct torch_bin_writer {
    zip_writer *archive;
    item *at;
    size_t count, next;
    bool header_written;
    arena memory;
};

err torch_bin_create(torch_bin_writer **out, const char *path)
{
    zip_writer *archive;
    TRY(zip_create(&archive, path, "archive"));
    torch_bin_writer *w = heap_get(sizeof *w);
    *w = (torch_bin_writer){.archive = archive};
    *out = w;
    return OK;
}

void torch_bin_declare(torch_bin_writer *w, const char *group, const char *name, stored_type type, int ndim,
                       const int64_t *dim)
{
    CHECK(!w->header_written, "tensor '%s' declared after data", name);
    CHECK(stored_type_torch(type), "torch has no storage of type %s", stored_type_name(type));
    int64_t *copy = ARENA_ARRAY(&w->memory, int64_t, ndim);
    for (int d = 0; d < ndim; d++)
        copy[d] = dim[d];
    item i = {.name = arena_copy_string(&w->memory, name), .type = type, .ndim = ndim, .dim = copy};
    CHECK(stored_size(&i.count, &i.bytes, type, ndim, dim), "shape of '%s' overflows", name);
    const item *last = w->count ? &w->at[w->count - 1] : NULL;
    bool same = group && last && last->group && strcmp(last->group, group) == 0;
    i.group = same ? last->group : group ? arena_copy_string(&w->memory, group) : NULL;
    w->at = heap_grow(w->at, (w->count + 1) * sizeof *w->at);
    w->at[w->count++] = i;
}

/* data.pkl, grown as needed. */
typedef struct pickle {
    uint8_t *bytes;
    size_t size, capacity;
} pickle;

static void put(pickle *p, const void *bytes, size_t size)
{
    if (p->capacity - p->size < size) {
        p->capacity = 2 * p->capacity + size + 4096;
        p->bytes = heap_grow(p->bytes, p->capacity);
    }
    memcpy(p->bytes + p->size, bytes, size);
    p->size += size;
}

static void put_words(pickle *p, const char *words)
{
    put(p, words, strlen(words));
}

static void put_little(pickle *p, char code, uint64_t value, int bytes)
{
    uint8_t text[9] = {(uint8_t)code};
    for (int i = 0; i < bytes; i++)
        text[1 + i] = (uint8_t)(value >> (8 * i));
    put(p, text, 1 + (size_t)bytes);
}

static void put_text(pickle *p, const char *text)
{
    put_little(p, 'X', strlen(text), 4); /* BINUNICODE */
    put_words(p, text);
}

static void put_whole(pickle *p, int64_t value)
{
    if (value <= INT32_MAX) {
        put_little(p, 'J', (uint64_t)value, 4); /* BININT */
        return;
    }
    put_words(p, "\x8a"); /* LONG1 of 8 bytes */
    put_little(p, 8, (uint64_t)value, 8);
}

static void put_tuple(pickle *p, int count, const int64_t *value)
{
    put_words(p, "(");
    for (int i = 0; i < count; i++)
        put_whole(p, value[i]);
    put_words(p, "t");
}

/* torch._utils._rebuild_tensor_v2(('storage', torch.XStorage, KEY, 'cpu', count), 0, size, stride, False,
 * OrderedDict()) */
static void put_tensor(pickle *p, const item *t, size_t key, arena *memory)
{
    char digits[24];
    int64_t *stride = ARENA_ARRAY(memory, int64_t, t->ndim), span = 1;
    for (int d = t->ndim - 1; d >= 0; d--) {
        stride[d] = span;
        span *= t->dim[d] ? t->dim[d] : 1;
    }
    snprintf(digits, sizeof digits, "%zu", key);
    put_words(p, "ctorch._utils\n_rebuild_tensor_v2\n((");
    put_text(p, "storage");
    put_words(p, "ctorch\n");
    put_words(p, stored_type_torch(t->type));
    put_words(p, "\n");
    put_text(p, digits);
    put_text(p, "cpu");
    put_whole(p, t->count);
    put_words(p, "tQ");
    put_whole(p, 0);
    put_tuple(p, t->ndim, t->dim);
    put_tuple(p, t->ndim, stride);
    put_words(p, "\x89" "ccollections\nOrderedDict\n)RtR");
}

static void compose_pickle(torch_bin_writer *w, pickle *p)
{
    const char *open = NULL;
    put_words(p, "\x80\x02}(");
    for (size_t i = 0; i < w->count; i++) {
        const item *t = &w->at[i];
        if (open && t->group != open)
            put_words(p, "u");
        if (t->group && t->group != open) {
            put_text(p, t->group);
            put_words(p, "}(");
        }
        open = t->group;
        put_text(p, t->name);
        put_tensor(p, t, i, &w->memory);
    }
    put_words(p, open ? "uu." : "u.");
}

static err write_member(torch_bin_writer *w, const char *name, const void *bytes, size_t size)
{
    TRY(zip_begin_member(w->archive, name));
    TRY(zip_write(w->archive, bytes, size));
    return zip_end_member(w->archive);
}

static err write_header(torch_bin_writer *w)
{
    if (w->header_written)
        return OK;
    w->header_written = true;
    pickle p = {0};
    compose_pickle(w, &p);
    err e = write_member(w, "data.pkl", p.bytes, p.size);
    free(p.bytes);
    return e ? e : write_member(w, "byteorder", "little", 6);
}

static err begin_tensor(torch_bin_writer *w, const item **out)
{
    char name[32];
    TRY(write_header(w));
    CHECK(w->next < w->count, "%zu tensors were declared", w->count);
    snprintf(name, sizeof name, "data/%zu", w->next);
    *out = &w->at[w->next++];
    return zip_begin_member(w->archive, name);
}

err torch_bin_write(torch_bin_writer *w, const void *data)
{
    const item *t = NULL;
    TRY(begin_tensor(w, &t));
    TRY(zip_write(w->archive, data, t->bytes));
    return zip_end_member(w->archive);
}

err torch_bin_write_f32(torch_bin_writer *w, const float *values)
{
    enum { CHUNK = 4096 };
    uint32_t chunk[CHUNK];
    const item *t = NULL;
    TRY(begin_tensor(w, &t));
    for (int64_t at = 0; at < t->count; at += CHUNK) {
        int64_t n = t->count - at < CHUNK ? t->count - at : CHUNK;
        stored_from_f32(chunk, t->type, values + at, n);
        TRY(zip_write(w->archive, chunk, (size_t)n * stored_type_bytes(t->type)));
    }
    return zip_end_member(w->archive);
}

static void free_writer(torch_bin_writer *w)
{
    free(w->at);
    arena_free(&w->memory);
    free(w);
}

err torch_bin_publish(torch_bin_writer *w)
{
    CHECK(w->next == w->count, "%zu of %zu tensors given", w->next, w->count);
    err e = write_header(w);
    if (!e)
        e = write_member(w, "version", "3\n", 2);
    if (e) {
        torch_bin_discard(w);
        return e;
    }
    e = zip_publish(w->archive);
    free_writer(w);
    return e;
}

void torch_bin_discard(torch_bin_writer *w)
{
    if (!w)
        return;
    zip_discard(w->archive);
    free_writer(w);
}
