#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "data/safetensors.h"

struct safetensors_writer {
    file_writer *file;
    tensor_table tensors;
    text_pair *notes;
    size_t note_count;
    bool header_written;
    uint64_t data_bytes, written; /* declared, given so far */
    size_t next;                  /* the tensor that safetensors_write_f32 writes */
    arena memory;
};

err safetensors_create(safetensors_writer **out, const char *path)
{
    file_writer *file;
    TRY(file_create(&file, path));
    safetensors_writer *w = heap_get(sizeof *w);
    *w = (safetensors_writer){.file = file};
    *out = w;
    return OK;
}

void safetensors_note(safetensors_writer *w, const char *key, const char *value)
{
    CHECK(!w->header_written, "note '%s' after data", key);
    w->notes = heap_grow(w->notes, (w->note_count + 1) * sizeof *w->notes);
    w->notes[w->note_count++] = (text_pair){arena_copy_string(&w->memory, key), arena_copy_string(&w->memory, value)};
}

void safetensors_declare(safetensors_writer *w, const char *name, stored_type type, int ndim, const int64_t *dim)
{
    CHECK(!w->header_written, "tensor '%s' declared after data", name);
    stored_tensor *t = tensor_table_add(&w->tensors);
    int64_t *copy = ARENA_ARRAY(&w->memory, int64_t, ndim);
    for (int d = 0; d < ndim; d++)
        copy[d] = dim[d];
    t->name = arena_copy_string(&w->memory, name);
    t->type = type;
    t->ndim = ndim;
    t->dim = copy;
    CHECK(stored_size(&t->count, &t->bytes, type, ndim, dim), "shape of '%s' overflows", name);
    w->data_bytes += t->bytes;
}

/* Text of the header, grown as needed. */
typedef struct text {
    char *bytes;
    size_t size, capacity;
} text;

static void put(text *t, const char *bytes, size_t size)
{
    if (t->capacity - t->size < size) {
        t->capacity = 2 * t->capacity + size + 4096;
        t->bytes = heap_grow(t->bytes, t->capacity);
    }
    memcpy(t->bytes + t->size, bytes, size);
    t->size += size;
}

static void put_text(text *t, const char *words)
{
    put(t, words, strlen(words));
}

static void put_whole(text *t, uint64_t value)
{
    char digits[24];
    put(t, digits, (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)value));
}

static err put_string(text *t, const char *words)
{
    put_text(t, "\"");
    for (const char *at = words; *at;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t length = utf8proc_iterate((const utf8proc_uint8_t *)at, -1, &code);
        if (length < 1)
            return err_set(E_FORMAT, "'%s': not UTF-8, cannot be written to a safetensors header", words);
        char escape[8];
        if (code < 0x20)
            put(t, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", (unsigned)code));
        else if (code == '"' || code == '\\')
            put(t, code == '"' ? "\\\"" : "\\\\", 2);
        else
            put(t, at, (size_t)length);
        at += length;
    }
    put_text(t, "\"");
    return OK;
}

static int compare_notes(const void *a, const void *b)
{
    return strcmp(((const text_pair *)a)->key, ((const text_pair *)b)->key);
}

static err compose_notes(safetensors_writer *w, text *t)
{
    qsort(w->notes, w->note_count, sizeof *w->notes, compare_notes);
    put_text(t, "\"__metadata__\":{");
    for (size_t i = 0; i < w->note_count; i++) {
        CHECK(i == 0 || strcmp(w->notes[i - 1].key, w->notes[i].key) != 0, "note '%s' twice", w->notes[i].key);
        put_text(t, i ? "," : "");
        TRY(put_string(t, w->notes[i].key));
        put_text(t, ":");
        TRY(put_string(t, w->notes[i].value));
    }
    put_text(t, "}");
    return OK;
}

static err compose_tensor(text *t, const stored_tensor *s, uint64_t offset)
{
    TRY(put_string(t, s->name));
    put_text(t, ":{\"dtype\":\"");
    put_text(t, stored_type_name(s->type));
    put_text(t, "\",\"shape\":[");
    for (int d = 0; d < s->ndim; d++) {
        put_text(t, d ? "," : "");
        put_whole(t, (uint64_t)s->dim[d]);
    }
    put_text(t, "],\"data_offsets\":[");
    put_whole(t, offset);
    put_text(t, ",");
    put_whole(t, offset + s->bytes);
    put_text(t, "]}");
    return OK;
}

static err compose_header(safetensors_writer *w, text *t)
{
    uint64_t offset = 0;
    put_text(t, "{");
    if (w->note_count)
        TRY(compose_notes(w, t));
    for (size_t i = 0; i < w->tensors.count; i++) {
        put_text(t, i || w->note_count ? "," : "");
        TRY(compose_tensor(t, &w->tensors.at[i], offset));
        offset += w->tensors.at[i].bytes;
    }
    put_text(t, "}");
    while (t->size % 8)
        put_text(t, " ");
    if (t->size > SAFETENSORS_MAX_HEADER)
        return err_set(E_FORMAT, "the header would take %zu bytes, at most %d are allowed", t->size,
                       SAFETENSORS_MAX_HEADER);
    return OK;
}

static err write_header(safetensors_writer *w)
{
    const char *twice = tensor_table_seal(&w->tensors);
    if (twice)
        return err_set(E_FORMAT, "tensor '%s' would be written twice", twice);
    text t = {0};
    err e = compose_header(w, &t);
    if (!e) {
        uint8_t length[8];
        for (int i = 0; i < 8; i++)
            length[i] = (uint8_t)((uint64_t)t.size >> (8 * i));
        e = file_write(w->file, length, sizeof length);
    }
    if (!e)
        e = file_write(w->file, t.bytes, t.size);
    free(t.bytes);
    return e;
}

err safetensors_write(safetensors_writer *w, const void *data, size_t bytes)
{
    if (!w->header_written) {
        w->header_written = true;
        TRY(write_header(w));
    }
    CHECK(bytes <= w->data_bytes - w->written, "%zu bytes beyond the declared tensors", bytes);
    w->written += bytes;
    return bytes ? file_write(w->file, data, bytes) : OK;
}

err safetensors_write_f32(safetensors_writer *w, const float *values)
{
    enum { CHUNK = 4096 };
    uint32_t chunk[CHUNK];
    CHECK(w->next < w->tensors.count, "%zu tensors were declared", w->tensors.count);
    const stored_tensor *t = &w->tensors.at[w->next++];
    for (int64_t at = 0; at < t->count; at += CHUNK) {
        int64_t n = t->count - at < CHUNK ? t->count - at : CHUNK;
        stored_from_f32(chunk, t->type, values + at, n);
        TRY(safetensors_write(w, chunk, (size_t)n * stored_type_bytes(t->type)));
    }
    return OK;
}

static void free_writer(safetensors_writer *w)
{
    tensor_table_free(&w->tensors);
    free(w->notes);
    arena_free(&w->memory);
    free(w);
}

err safetensors_publish(safetensors_writer *w)
{
    err e = safetensors_write(w, NULL, 0); /* the header of a file without data */
    if (e) {
        safetensors_discard(w);
        return e;
    }
    CHECK(w->written == w->data_bytes, "%llu of %llu bytes given", (unsigned long long)w->written,
          (unsigned long long)w->data_bytes);
    e = file_publish(w->file);
    free_writer(w);
    return e;
}

void safetensors_discard(safetensors_writer *w)
{
    if (!w)
        return;
    file_discard(w->file);
    free_writer(w);
}
