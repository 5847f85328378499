#include "data/torch_bin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/file_kind.h"
#include "data/pickle.h"

enum { MAX_DEPTH = 16, MAX_NAME = 1024 };

typedef struct walk {
    torch_bin *t;
    char name[MAX_NAME];
    size_t visits_left; /* a pickle names each value with at least a byte, unless it shares dicts to blow up the walk */
} walk;

/* The record a storage lies in, exactly as long as it must be. */
static err storage_record(const zip_member **out, const torch_bin *t, const pickle_value *v, arena *memory)
{
    char path[64];
    const char *key = v->u.storage.key;
    int64_t bytes;
    if (strlen(key) > 20 || strspn(key, "0123456789") != strlen(key))
        return err_set(E_FORMAT, "storage key '%s' is not a number; the file is damaged",
                       stored_name_text(memory, key));
    if (__builtin_mul_overflow(v->u.storage.count, (int64_t)stored_type_bytes(v->u.storage.type), &bytes))
        return err_set(E_FORMAT, "storage '%s': its size overflows 64 bits; the file is damaged", key);
    snprintf(path, sizeof path, "data/%s", key);
    *out = zip_find(&t->archive, path);
    if (!*out)
        return err_set(E_FORMAT, "storage '%s' is not in the archive; the file is damaged", path);
    if ((uint64_t)bytes != (*out)->size)
        return err_set(E_FORMAT, "storage '%s' has %zu bytes, its type and count need %lld; the file is damaged", path,
                       (*out)->size, (long long)bytes);
    return OK;
}

/* Every element must lie inside the storage, and there are no more elements than it has. */
static err check_strides(bool *contiguous, const pickle_value *v, int64_t count)
{
    int64_t last = v->u.tensor.offset, span = 1;
    *contiguous = true;
    if (last < 0 || last > v->u.tensor.storage->u.storage.count)
        return err_set(E_FORMAT, "begins outside its storage; the file is damaged");
    for (int d = v->u.tensor.ndim - 1; d >= 0 && count > 0; d--) {
        int64_t stride = v->u.tensor.stride[d], reach;
        if (v->u.tensor.dim[d] == 1)
            continue;
        if (stride <= 0)
            return err_set(E_FORMAT, "has a stride of %lld; save it with .contiguous()", (long long)stride);
        *contiguous = *contiguous && stride == span;
        span *= v->u.tensor.dim[d];
        if (__builtin_mul_overflow(v->u.tensor.dim[d] - 1, stride, &reach) ||
            __builtin_add_overflow(last, reach, &last))
            return err_set(E_FORMAT, "reaches beyond 64 bits; the file is damaged");
    }
    if (count > 0 && last >= v->u.tensor.storage->u.storage.count)
        return err_set(E_FORMAT, "reaches element %lld of a storage of %lld; the file is damaged", (long long)last,
                       (long long)v->u.tensor.storage->u.storage.count);
    if (count > v->u.tensor.storage->u.storage.count)
        return err_set(E_FORMAT, "has more elements than its storage; save it with .contiguous()");
    return OK;
}

/* A row-major copy of a transposed or sliced tensor. */
static err gather(torch_bin *t, stored_tensor *s, const pickle_value *v)
{
    size_t limit = 0, element = stored_type_bytes(s->type);
    for (size_t i = 0; i < t->archive.count; i++)
        limit += t->archive.at[i].size;
    if (s->bytes > limit - t->copied)
        return err_set(E_FORMAT, "too many tensors share storages in another order; save them with .contiguous()");
    uint8_t *copy = malloc(s->bytes);
    if (!copy)
        return err_set(E_MEMORY, "cannot get %zu bytes for a contiguous copy", s->bytes);
    t->copied += s->bytes;
    t->copies = heap_grow(t->copies, (t->copy_count + 1) * sizeof *t->copies);
    t->copies[t->copy_count++] = copy;
    for (int64_t i = 0; i < s->count; i++) {
        int64_t rest = i, from = 0;
        for (int d = s->ndim - 1; d >= 0; d--) {
            from += rest % s->dim[d] * v->u.tensor.stride[d];
            rest /= s->dim[d];
        }
        memcpy(copy + (size_t)i * element, s->data + (size_t)from * element, element);
    }
    s->data = copy;
    return OK;
}

static err fill_tensor(torch_bin *t, stored_tensor *s, const pickle_value *v)
{
    const zip_member *record = NULL;
    bool contiguous = true;
    TRY(storage_record(&record, t, v->u.tensor.storage, &t->memory));
    s->type = v->u.tensor.storage->u.storage.type;
    s->ndim = v->u.tensor.ndim;
    s->dim = v->u.tensor.dim;
    if (!stored_size(&s->count, &s->bytes, s->type, s->ndim, s->dim))
        return err_set(E_FORMAT, "the number of elements overflows 64 bits; the file is damaged");
    TRY(check_strides(&contiguous, v, s->count));
    s->data = record->data + (size_t)v->u.tensor.offset * stored_type_bytes(s->type);
    return contiguous ? OK : gather(t, s, v);
}

static err visit(walk *w, const pickle_value *v, size_t length, int depth);

static err visit_item(walk *w, const char *key, const pickle_value *v, size_t length, int depth)
{
    int added = snprintf(w->name + length, MAX_NAME - length, length ? ".%s" : "%s", key);
    if (added < 0 || (size_t)added >= MAX_NAME - length)
        return err_set(E_FORMAT, "a tensor's name is longer than %d bytes", MAX_NAME);
    return visit(w, v, length + (size_t)added, depth + 1);
}

static err visit_items(walk *w, const pickle_value *v, size_t length, int depth)
{
    char digits[24];
    bool dict = v->kind == PICKLE_DICT;
    for (size_t i = 0; i < v->u.list.count; i += dict ? 2 : 1) {
        const pickle_value *key = v->u.list.item[i];
        if (dict && key->kind == PICKLE_TEXT) {
            TRY(visit_item(w, key->u.text, v->u.list.item[i + 1], length, depth));
            continue;
        }
        snprintf(digits, sizeof digits, "%lld", dict ? (long long)key->u.whole : (long long)i);
        TRY(visit_item(w, digits, v->u.list.item[dict ? i + 1 : i], length, depth));
    }
    return OK;
}

static err visit(walk *w, const pickle_value *v, size_t length, int depth)
{
    if (w->visits_left-- == 0 || depth > MAX_DEPTH)
        return err_set(E_FORMAT, "the dicts contain each other or nest deeper than %d; the file is damaged", MAX_DEPTH);
    if (v->kind == PICKLE_TENSOR) {
        stored_tensor *s = tensor_table_add(&w->t->tensors);
        s->name = arena_copy_string(&w->t->memory, w->name);
        err e = fill_tensor(w->t, s, v);
        return e ? err_prefix(e, "%s", stored_name_text(&w->t->memory, s->name)) : OK;
    }
    if (v->kind == PICKLE_DICT || v->kind == PICKLE_LIST || v->kind == PICKLE_TUPLE)
        return visit_items(w, v, length, depth);
    return OK;
}

static err check_byteorder(const torch_bin *t)
{
    const zip_member *order = zip_find(&t->archive, "byteorder");
    if (order && !(order->size == 6 && memcmp(order->data, "little", 6) == 0))
        return err_set(E_FORMAT, "byteorder is not little; save the file again on a little-endian machine");
    return OK;
}

static err parse(torch_bin *t, const uint8_t *bytes, size_t size)
{
    file_kind kind = file_kind_of(bytes, size);
    if (kind != FILE_ZIP)
        return file_kind_refuse(kind, "weights saved by torch.save (a zip)");
    TRY(zip_parse(&t->archive, bytes, size));
    TRY(check_byteorder(t));
    const zip_member *pickle = zip_find(&t->archive, "data.pkl");
    if (!pickle)
        return err_set(E_FORMAT, "a zip without data.pkl; torch.save did not write this");
    pickle_value *top = NULL;
    TRY(pickle_load(&top, &t->memory, pickle->data, pickle->size));
    if (top->kind != PICKLE_DICT)
        return err_set(E_FORMAT, "holds no dict of tensors at its top; save a state dict");
    walk w = {.t = t, .visits_left = pickle->size};
    TRY(visit(&w, top, 0, 0));
    const char *twice = tensor_table_seal(&t->tensors);
    return twice ? err_set(E_FORMAT, "%s: appears twice", stored_name_text(&t->memory, twice)) : OK;
}

err torch_bin_parse(torch_bin **out, const void *bytes, size_t size, const char *label)
{
    torch_bin *t = heap_get(sizeof *t);
    *t = (torch_bin){0};
    err e = parse(t, bytes, size);
    if (e) {
        torch_bin_close(t);
        return err_prefix(e, "%s", label);
    }
    *out = t;
    return OK;
}

err torch_bin_open(torch_bin **out, const char *path)
{
    file_map map;
    TRY(file_map_open(&map, path));
    err e = torch_bin_parse(out, map.bytes, map.size, path);
    if (e)
        file_map_close(&map);
    else
        (*out)->map = map;
    return e;
}

void torch_bin_close(torch_bin *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->copy_count; i++)
        free(t->copies[i]);
    free(t->copies);
    tensor_table_free(&t->tensors);
    zip_free(&t->archive);
    arena_free(&t->memory);
    if (t->map.bytes)
        file_map_close(&t->map);
    free(t);
}
