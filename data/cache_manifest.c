#include "data/cache_manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/json.h"
#include "base/text.h"

enum { FORMAT = 1 };
#define LIMIT ((size_t)256 << 20)
#define LAST_LINE "  \"sha256_of_the_above\": \""

static const struct {
    const char *name;
    size_t      at;
} sizes[] = {
    {"tokens", offsetof(cache_origin, tokens)},
    {"text_width", offsetof(cache_origin, text_width)},
    {"pooled_width", offsetof(cache_origin, pooled_width)},
    {"phrase_width", offsetof(cache_origin, phrase_width)},
    {"picture_side", offsetof(cache_origin, picture_side)},
    {"picture_tokens", offsetof(cache_origin, picture_tokens)},
    {"picture_width", offsetof(cache_origin, picture_width)},
    {"latent_channels", offsetof(cache_origin, latent_channels)},
    {"latent_factor", offsetof(cache_origin, latent_factor)},
};
enum { SIZES = sizeof sizes / sizeof *sizes };

const char *cache_encoder_name(cache_encoder e)
{
    static const char *const names[CACHE_ENCODER_COUNT] = {"vae", "text_encoder", "text_encoder_2", "image_encoder"};
    return names[e];
}

char *cache_shard_path(arena *memory, const char *folder, int64_t number)
{
    return arena_print(memory, "%s/shard-%06" PRId64 ".h5", folder, number);
}

/* ---- writing ---- */

static char *number_line(arena *a, const cache_origin *o, int i)
{
    int64_t value;
    memcpy(&value, (const char *)o + sizes[i].at, sizeof value);
    return arena_print(a, "    \"%s\": %" PRId64 ",\n", sizes[i].name, value);
}

/* Joins lines; the whole text is hashed, so it is made in memory. */
typedef struct text {
    char  *bytes;
    size_t size, room;
} text;

static void put(text *t, const char *line)
{
    size_t length = strlen(line);
    if (t->size + length + 1 > t->room) {
        t->room = 2 * (t->size + length + 1);
        t->bytes = heap_grow(t->bytes, t->room);
    }
    memcpy(t->bytes + t->size, line, length + 1);
    t->size += length;
}

static void put_origin(text *t, arena *a, const cache_origin *o)
{
    char number[32];
    put(t, arena_print(a, "  \"dtype\": \"%s\",\n  \"computed_in\": \"%s\",\n  \"encoders\": {\n", stored_type_name(o->type),
                       stored_type_name(o->computed)));
    for (int i = 0; i < CACHE_ENCODER_COUNT; i++)
        put(t, arena_print(a, "    \"%s\": \"%s\"%s\n", cache_encoder_name((cache_encoder)i), o->encoder[i],
                           i + 1 < CACHE_ENCODER_COUNT ? "," : ""));
    put(t, "  },\n  \"sizes\": {\n");
    for (int i = 0; i < SIZES; i++)
        put(t, number_line(a, o, i));
    put(t, arena_print(a, "    \"scaling_factor\": %s\n  },\n", text_number(number, o->scaling_factor)));
}

err cache_manifest_write(const char *folder, const cache_manifest *m)
{
    arena a = {0};
    text t = {0};
    char hex[65];
    put(&t, arena_print(&a, "{\n  \"format\": %d,\n", FORMAT));
    put_origin(&t, &a, &m->origin);
    put(&t, "  \"shards\": [\n");
    for (int64_t i = 0; i < m->shards; i++)
        put(&t, arena_print(&a, "    {\"number\": %" PRId64 ", \"bytes\": %" PRId64 ", \"sha256\": \"%s\"}%s\n",
                            m->shard[i].number, m->shard[i].bytes, m->shard[i].hash, i + 1 < m->shards ? "," : ""));
    put(&t, "  ],\n  \"unreadable\": [\n");
    for (int64_t i = 0; i < m->unreadables; i++)
        put(&t, arena_print(&a, "    \"%s\"%s\n", m->unreadable[i].hex, i + 1 < m->unreadables ? "," : ""));
    put(&t, "  ],\n");
    hash_memory(hex, t.bytes, t.size);
    put(&t, arena_print(&a, LAST_LINE "%s\"\n}\n", hex));
    char *path = path_join(folder, "manifest.json");
    file_writer *w = NULL;
    err e = file_create(&w, path);
    if (e == OK) {
        file_write(w, t.bytes, t.size); /* its failure is kept for file_publish */
        e = file_publish(w);
    }
    free(path);
    free(t.bytes);
    arena_free(&a);
    return e;
}

/* ---- reading ---- */

static bool hash_good(const char *bytes, size_t size)
{
    char line[sizeof LAST_LINE + 72], hex[65];
    size_t tail = strlen(LAST_LINE) + 64 + strlen("\"\n}\n");
    if (size < tail)
        return false;
    hash_memory(hex, bytes, size - tail);
    snprintf(line, sizeof line, LAST_LINE "%s\"\n}\n", hex);
    return !memcmp(bytes + size - tail, line, tail);
}

static err read_hash(char out[65], const json_t *value, const char *where)
{
    const char *hex = json_string_value(value);
    if (!hex || strlen(hex) != 64)
        return err_set(E_CACHE, "%s: found no SHA-256 where one is expected; run `msd prepare`", where);
    memcpy(out, hex, 65);
    return OK;
}

static err read_type(stored_type *out, const json_t *top, const char *key, const char *where)
{
    const char *name;
    TRY(json_get_text(&name, top, key, where));
    if (!stored_type_parse(out, name) || (*out != STORED_F32 && *out != STORED_F16 && *out != STORED_BF16))
        return err_set(E_CACHE, "%s: %s: found \"%.20s\", expected F32, F16 or BF16", where, key, name);
    return OK;
}

static err read_origin(cache_origin *o, const json_t *top, const char *where)
{
    const json_t *encoders, *numbers;
    TRY(read_type(&o->type, top, "dtype", where));
    TRY(read_type(&o->computed, top, "computed_in", where));
    TRY(json_get_object(&encoders, top, "encoders", where));
    for (int i = 0; i < CACHE_ENCODER_COUNT; i++)
        TRY(read_hash(o->encoder[i], json_object_get(encoders, cache_encoder_name((cache_encoder)i)), where));
    TRY(json_get_object(&numbers, top, "sizes", where));
    for (int i = 0; i < SIZES; i++) {
        int64_t value;
        TRY(json_get_int(&value, numbers, sizes[i].name, where, 1, 1 << 20));
        memcpy((char *)o + sizes[i].at, &value, sizeof value);
    }
    return json_get_number(&o->scaling_factor, numbers, "scaling_factor", where);
}

static err read_lists(cache_manifest *m, arena *memory, const json_t *top, const char *where)
{
    const json_t *shards, *keys;
    TRY(json_get_list(&shards, top, "shards", where));
    TRY(json_get_list(&keys, top, "unreadable", where));
    m->shards = (int64_t)json_array_size(shards);
    m->unreadables = (int64_t)json_array_size(keys);
    m->shard = ARENA_ARRAY(memory, cache_listed, m->shards + 1);
    m->unreadable = ARENA_ARRAY(memory, cache_key, m->unreadables + 1);
    for (int64_t i = 0; i < m->shards; i++) {
        const json_t *s = json_array_get(shards, (size_t)i);
        TRY(json_get_int(&m->shard[i].number, s, "number", where, 1, INT32_MAX));
        TRY(json_get_int(&m->shard[i].bytes, s, "bytes", where, 1, INT64_MAX));
        TRY(read_hash(m->shard[i].hash, json_object_get(s, "sha256"), where));
    }
    for (int64_t i = 0; i < m->unreadables; i++)
        TRY(read_hash(m->unreadable[i].hex, json_array_get(keys, (size_t)i), where));
    return OK;
}

/* A stranger's HDF5 files can harm whoever opens them, and his manifest vouches for nothing. */
static err check_owner(const char *path)
{
    struct stat about;
    if (io_lstat(path, &about) < 0)
        return err_set(E_CACHE, "%s: no such file; run `msd prepare` to make the cache", path);
    if (about.st_uid != geteuid() && about.st_uid != 0)
        return err_set(E_CACHE, "%s: belongs to user %u; a cache is used only by who made it: run `msd prepare` with a "
                                "data.cache of your own, or chown the folder if you trust it", path, (unsigned)about.st_uid);
    return OK;
}

static err read_checked(cache_manifest *out, arena *memory, const char *path)
{
    char *bytes;
    size_t size;
    TRY(check_owner(path));
    TRY(file_read(&bytes, &size, path, LIMIT));
    json_t *top = NULL;
    int64_t format = 0;
    err e = hash_good(bytes, size) ? OK : err_set(E_CACHE, "%s: damaged or changed by hand (its SHA-256 does not match); delete "
                                                           "the folder and run `msd prepare`", path);
    if (e == OK)
        e = json_text_parse(&top, bytes, size, path, JSON_REFUSE_DUPLICATES);
    free(bytes);
    if (e == OK)
        e = json_get_int(&format, top, "format", path, 1, INT32_MAX);
    if (e == OK && format != FORMAT)
        e = err_set(E_CACHE, "%s: format %" PRId64 ", this version of msd reads %d; delete the folder and run `msd prepare`", path,
                    format, FORMAT);
    if (e == OK)
        e = read_origin(&out->origin, top, path);
    if (e == OK)
        e = read_lists(out, memory, top, path);
    json_decref(top);
    return e;
}

err cache_manifest_read(cache_manifest *out, arena *memory, const char *folder)
{
    *out = (cache_manifest){0};
    char *path = path_join(folder, "manifest.json");
    err e = err_as(read_checked(out, memory, path), E_CACHE);
    free(path);
    return e;
}
