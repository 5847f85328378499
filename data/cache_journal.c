#include "data/cache_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/io.h"

#define MAGIC "msd-entry-1"
#define LARGEST ((uint64_t)1 << 32) /* bytes of an entry */

typedef struct record { /* before the bytes of each entry */
    char      magic[16];
    cache_key key;
    char      hash[65]; /* of `key`, `form` and the bytes */
    char      unused[6];
    cache_form form;
} record;

typedef struct place {
    cache_key  key;
    cache_form form;
    int64_t    at; /* of its bytes */
} place;

struct cache_journal {
    char   *path;
    int     fd;
    int64_t size;
    place  *item;
    int64_t count, capacity;
};

static void hash_of(char hex[65], const record *r, const void *bytes, size_t size)
{
    hash_state *h = hash_start();
    hash_add(h, &r->key, sizeof r->key);
    hash_add(h, &r->form, sizeof r->form);
    hash_add(h, bytes, size);
    hash_end(hex, h);
}

static void remember(cache_journal *j, const record *r)
{
    if (j->count == j->capacity) {
        j->capacity = j->capacity ? 2 * j->capacity : 256;
        j->item = heap_grow(j->item, (size_t)j->capacity * sizeof *j->item);
    }
    j->item[j->count++] = (place){.key = r->key, .form = r->form, .at = j->size + (int64_t)sizeof *r};
    j->size += (int64_t)(sizeof *r + cache_form_bytes(&r->form));
}

static bool record_good(const record *r, const uint8_t *bytes, size_t left)
{
    char hex[65];
    if (memcmp(r->magic, MAGIC, sizeof MAGIC) || r->key.hex[CACHE_KEY_LENGTH] || r->form.kind >= CACHE_KIND_COUNT ||
        (r->form.type != STORED_F32 && r->form.type != STORED_F16 && r->form.type != STORED_BF16))
        return false;
    size_t size = cache_form_bytes(&r->form);
    if (size == 0 || size > LARGEST || size > left)
        return false;
    hash_of(hex, r, bytes, size);
    return !memcmp(hex, r->hash, sizeof hex);
}

/* Finds the whole entries from the beginning. */
static err scan(cache_journal *j)
{
    file_map map;
    record r;
    TRY(file_map_open(&map, j->path));
    for (;;) {
        size_t at = (size_t)j->size;
        if (map.size - at < sizeof r)
            break;
        memcpy(&r, map.bytes + at, sizeof r);
        if (!record_good(&r, map.bytes + at + sizeof r, map.size - at - sizeof r))
            break;
        remember(j, &r);
        file_map_forget(&map, map.bytes + at, sizeof r + cache_form_bytes(&r.form));
    }
    file_map_close(&map);
    return OK;
}

static err cut(cache_journal *j, int64_t size)
{
    if (io_truncate(j->fd, size) < 0)
        return io_error(errno, j->path, "shorten");
    return OK;
}

err cache_journal_open(cache_journal **out, const char *path)
{
    cache_journal *j = heap_get(sizeof *j);
    *j = (cache_journal){.path = path_join("", path)};
    j->fd = io_open(path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW, 0666);
    err e = j->fd < 0 ? io_error(errno, path, "open") : scan(j);
    if (e == OK)
        e = cut(j, j->size);
    if (e != OK) {
        cache_journal_close(j);
        j = NULL;
    }
    *out = j;
    return e;
}

void cache_journal_close(cache_journal *j)
{
    if (!j)
        return;
    if (j->fd >= 0)
        io_close(j->fd);
    free(j->item);
    free(j->path);
    free(j);
}

err cache_journal_add(cache_journal *j, const cache_key *key, const cache_form *form, const void *bytes)
{
    record r;
    memset(&r, 0, sizeof r);
    memcpy(r.magic, MAGIC, sizeof MAGIC);
    r.key = *key;
    r.form.kind = form->kind; /* one by one: the bytes between members are hashed too */
    r.form.type = form->type;
    r.form.ndim = form->ndim;
    for (int i = 0; i < form->ndim; i++)
        r.form.dim[i] = form->dim[i];
    size_t size = cache_form_bytes(form);
    hash_of(r.hash, &r, bytes, size);
    if (io_write_all(j->fd, &r, sizeof r) && io_write_all(j->fd, bytes, size)) {
        remember(j, &r);
        return OK;
    }
    err e = io_error(errno, j->path, "write");
    io_truncate(j->fd, j->size); /* if this fails too, the next opening does it */
    return e;
}

int64_t cache_journal_size(const cache_journal *j)
{
    return j->size;
}

int64_t cache_journal_count(const cache_journal *j)
{
    return j->count;
}

const cache_key *cache_journal_key(const cache_journal *j, int64_t i)
{
    return &j->item[i].key;
}

err cache_journal_map(file_map *map, cache_entry *entry, const cache_journal *j)
{
    TRY(file_map_open(map, j->path));
    if (map->size < (size_t)j->size) {
        file_map_close(map);
        return err_set(E_CACHE, "%s: shorter than what was written to it; is another program changing it?", j->path);
    }
    for (int64_t i = 0; i < j->count; i++)
        entry[i] = (cache_entry){.key = j->item[i].key, .form = j->item[i].form, .bytes = map->bytes + j->item[i].at};
    return OK;
}

err cache_journal_clear(cache_journal *j)
{
    TRY(cut(j, 0));
    j->size = j->count = 0;
    return OK;
}
