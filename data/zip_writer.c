#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "data/zip.h"

enum {
    ALIGNMENT = 64,
    FLAGS = 0x0808, /* sizes follow the data; names are UTF-8 */
    DOS_DATE = 0x21 /* 1 January 1980 */
};

typedef struct member {
    char *name;
    uint32_t crc;
    uint64_t local, size;
} member;

struct zip_writer {
    file_writer *file;
    char *folder;
    member *at;
    size_t count;
    uint64_t offset;
    arena memory;
};

static uint8_t *put(uint8_t *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        *at++ = (uint8_t)(value >> (8 * i));
    return at;
}

static err emit(zip_writer *w, const void *bytes, size_t size)
{
    w->offset += size;
    return file_write(w->file, bytes, size);
}

err zip_create(zip_writer **out, const char *path, const char *folder)
{
    file_writer *file;
    TRY(file_create(&file, path));
    zip_writer *w = heap_get(sizeof *w);
    *w = (zip_writer){.file = file};
    w->folder = arena_copy_string(&w->memory, folder);
    *out = w;
    return OK;
}

err zip_begin_member(zip_writer *w, const char *name)
{
    w->at = heap_grow(w->at, (w->count + 1) * sizeof *w->at);
    member *m = &w->at[w->count++];
    *m = (member){.name = arena_print(&w->memory, "%s/%s", w->folder, name), .local = w->offset};
    size_t length = strlen(m->name);
    size_t data = (size_t)(w->offset % ALIGNMENT) + 30 + length + 4; /* behind an extra field without contents */
    size_t padding = (ALIGNMENT - data % ALIGNMENT) % ALIGNMENT;
    uint8_t header[30], extra[4 + ALIGNMENT] = {0}, *at = header;
    at = put(at, 0x04034b50, 4);
    at = put(at, 20, 2); /* version needed: 2.0 */
    at = put(at, FLAGS, 2);
    at = put(at, 0, 2);  /* stored */
    at = put(at, 0, 2);  /* time */
    at = put(at, DOS_DATE, 2);
    at = put(at, 0, 4);  /* checksum and sizes follow the data */
    at = put(at, 0, 8);
    at = put(at, length, 2);
    put(at, 4 + padding, 2);
    put(put(extra, 0x4246, 2), padding, 2); /* the id torch uses for padding */
    TRY(emit(w, header, sizeof header));
    TRY(emit(w, m->name, length));
    return emit(w, extra, 4 + padding);
}

err zip_write(zip_writer *w, const void *bytes, size_t size)
{
    CHECK(w->count > 0, "%zu bytes without a member", size);
    member *m = &w->at[w->count - 1];
    m->crc = (uint32_t)crc32_z(m->crc, bytes, size);
    m->size += size;
    return size ? emit(w, bytes, size) : OK;
}

err zip_end_member(zip_writer *w)
{
    const member *m = &w->at[w->count - 1];
    if (w->offset > UINT32_MAX - (1u << 20)) /* room for the directory */
        return err_set(E_FORMAT, "a .bin archive above 4 GiB is not written; write .safetensors instead");
    uint8_t descriptor[16], *at = put(descriptor, 0x08074b50, 4);
    at = put(at, m->crc, 4);
    at = put(at, m->size, 4);
    put(at, m->size, 4);
    return emit(w, descriptor, sizeof descriptor);
}

static err write_directory(zip_writer *w)
{
    uint64_t begin = w->offset;
    for (size_t i = 0; i < w->count; i++) {
        const member *m = &w->at[i];
        uint8_t header[46], *at = put(header, 0x02014b50, 4);
        at = put(at, 20, 2); /* made by 2.0 on FAT */
        at = put(at, 20, 2);
        at = put(at, FLAGS, 2);
        at = put(at, 0, 2 + 2);
        at = put(at, DOS_DATE, 2);
        at = put(at, m->crc, 4);
        at = put(at, m->size, 4);
        at = put(at, m->size, 4);
        at = put(at, strlen(m->name), 2);
        at = put(at, 0, 2 + 2); /* extra, comment */
        at = put(at, 0, 2 + 2); /* volume, internal attributes */
        at = put(at, 0, 4);     /* external attributes */
        put(at, m->local, 4);
        TRY(emit(w, header, sizeof header));
        TRY(emit(w, m->name, strlen(m->name)));
    }
    uint8_t end[22], *at = put(end, 0x06054b50, 4);
    at = put(at, 0, 2 + 2);
    at = put(at, w->count, 2);
    at = put(at, w->count, 2);
    at = put(at, w->offset - begin, 4);
    at = put(at, begin, 4);
    put(at, 0, 2);
    return emit(w, end, sizeof end);
}

static void free_writer(zip_writer *w)
{
    free(w->at);
    arena_free(&w->memory);
    free(w);
}

err zip_publish(zip_writer *w)
{
    CHECK(w->count < 0xFFFF, "%zu members", w->count);
    err e = write_directory(w);
    if (e) {
        zip_discard(w);
        return e;
    }
    e = file_publish(w->file);
    free_writer(w);
    return e;
}

void zip_discard(zip_writer *w)
{
    if (!w)
        return;
    file_discard(w->file);
    free_writer(w);
}
