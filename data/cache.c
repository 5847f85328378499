#include "data/cache.h"

#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/io.h"
#include "data/cache_index.h"
#include "data/cache_journal.h"

enum { OPEN_SHARDS = 128 }; /* at once: descriptors are few */
#define SHARD_BYTES ((int64_t)128 << 20)

struct cache {
    char           *folder;
    cache_origin    origin;
    cache_listed   *listed; /* (shards) */
    cache_shard    *shard;  /* (shards) */
    int64_t         shards, room;
    cache_index     index, bad;
    cache_key      *unreadable; /* (bad.used) */
    cache_journal  *journal; /* NULL: for reading only */
    bool            beside;  /* of a process that holds the lock: shards and manifest are that one's */
    int             lock;    /* -1: none */
    bool            changed; /* since the manifest was written */
    int64_t         opened[OPEN_SHARDS]; /* a ring of shards with open files; -1: none */
    int             next;
    pthread_mutex_t reading; /* libhdf5 computes one call at a time anyway */
};

/* ---- shards ---- */

static void make_room(cache *c)
{
    if (c->shards < c->room)
        return;
    c->room = c->room ? 2 * c->room : 16;
    c->listed = heap_grow(c->listed, (size_t)c->room * sizeof *c->listed);
    c->shard = heap_grow(c->shard, (size_t)c->room * sizeof *c->shard);
}

static err check_shard(const cache_listed *l, const char *path)
{
    char hex[65];
    struct stat about;
    if (io_lstat(path, &about) < 0)
        return err_set(E_CACHE, "%s: missing, but manifest.json lists it; run `msd prepare` to encode again what it held", path);
    if (!S_ISREG(about.st_mode) || about.st_size != l->bytes)
        return err_set(E_CACHE, "%s: %" PRId64 " bytes, manifest.json says %" PRId64 "; run `msd prepare` to encode again what it "
                                "held", path, (int64_t)about.st_size, l->bytes);
    TRY(err_as(file_sha256(hex, path), E_CACHE));
    if (strcmp(hex, l->hash))
        return err_set(E_CACHE, "%s: its SHA-256 is not the one in manifest.json: damaged or not of this cache; run `msd prepare` "
                                "to encode again what it held", path);
    return OK;
}

/* Adds a file whose hash was checked. */
static err take_shard(cache *c, const cache_listed *l, const char *path)
{
    make_room(c);
    cache_shard *s = &c->shard[c->shards];
    TRY(cache_shard_open(s, path));
    cache_shard_rest(s);
    for (int t = 0; t < s->tables; t++)
        for (int64_t row = 0; row < s->table[t].rows; row++)
            cache_index_add(&c->index, s->table[t].keys + row * CACHE_KEY_LENGTH,
                            (cache_place){.shard = (int32_t)c->shards, .table = t, .row = row});
    c->listed[c->shards++] = *l;
    return OK;
}

static void take_unreadable(cache *c, const cache_key *key)
{
    if (!cache_index_add(&c->bad, key->hex, (cache_place){0}))
        return;
    c->unreadable = heap_grow(c->unreadable, (size_t)c->bad.used * sizeof *c->unreadable);
    c->unreadable[c->bad.used - 1] = *key;
}

/* Damaged shards are an error, or (dropped not NULL) left out and counted. */
static err take_manifest(cache *c, int64_t *dropped)
{
    arena memory = {0};
    cache_manifest m;
    err e = cache_manifest_read(&m, &memory, c->folder);
    if (e == OK)
        c->origin = m.origin;
    err *state = ARENA_ARRAY(&memory, err, m.shards + 1);
    #pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < m.shards; i++) {
        arena text = {0};
        state[i] = check_shard(&m.shard[i], cache_shard_path(&text, c->folder, m.shard[i].number));
        arena_free(&text);
    }
    for (int64_t i = 0; i < m.shards && e == OK; i++) {
        const char *path = cache_shard_path(&memory, c->folder, m.shard[i].number);
        e = state[i] == OK ? take_shard(c, &m.shard[i], path) : check_shard(&m.shard[i], path); /* again, for its message */
        if (e == E_CACHE && dropped) {
            ++*dropped;
            c->changed = true;
            e = OK;
        }
    }
    for (int64_t i = 0; i < m.unreadables && e == OK; i++)
        take_unreadable(c, &m.unreadable[i]);
    arena_free(&memory);
    return e;
}

static cache *cache_new(const char *folder)
{
    cache *c = heap_get(sizeof *c);
    *c = (cache){.folder = path_join("", folder), .lock = -1};
    pthread_mutex_init(&c->reading, NULL);
    for (int i = 0; i < OPEN_SHARDS; i++)
        c->opened[i] = -1;
    return c;
}

err cache_open(cache **out, const char *folder)
{
    cache *c = cache_new(folder);
    err e = take_manifest(c, NULL);
    if (e != OK) {
        cache_close(c);
        c = NULL;
    }
    *out = c;
    return e;
}

static bool is_listed(const cache *c, const char *name)
{
    bool found = false;
    for (int64_t i = 0; i < c->shards && !found; i++) {
        arena text = {0};
        const char *path = cache_shard_path(&text, "", c->listed[i].number);
        found = !strcmp(path + 1, name);
        arena_free(&text);
    }
    return found;
}

/* Temporaries, and shards that no manifest lists: what a killed process left. */
static void sweep(const cache *c)
{
    DIR *directory = opendir(c->folder);
    for (struct dirent *d = directory ? readdir(directory) : NULL; d; d = readdir(directory)) {
        bool temporary = d->d_name[0] == '.' && strstr(d->d_name, ".tmp-");
        bool shard = !strncmp(d->d_name, "shard-", 6) && !is_listed(c, d->d_name);
        if (temporary || shard) {
            char *path = path_join(c->folder, d->d_name);
            io_unlink(path);
            free(path);
        }
    }
    if (directory)
        closedir(directory);
}

static err add_bytes(cache *c, const cache_key *key, const cache_form *form, const void *bytes);

static err take_journal(cache *c)
{
    char *path = path_join(c->folder, "journal");
    err e = cache_journal_open(&c->journal, path);
    free(path);
    int64_t fresh = 0;
    for (int64_t i = 0; e == OK && i < cache_journal_count(c->journal); i++)
        fresh += cache_index_add(&c->index, cache_journal_key(c->journal, i)->hex, (cache_place){.shard = -1});
    if (e == OK && !fresh) /* killed between writing the manifest and clearing the journal */
        e = cache_journal_clear(c->journal);
    return e;
}

err cache_open_to_add(cache **out, int64_t *dropped, const char *folder)
{
    *out = NULL;
    *dropped = 0;
    TRY(folder_make(folder));
    cache *c = cache_new(folder);
    char *lock = path_join(folder, ".lock"), *manifest = path_join(folder, "manifest.json");
    err e = file_lock(&c->lock, lock);
    if (e == OK && file_exists(manifest))
        e = take_manifest(c, dropped);
    if (e == OK) {
        sweep(c);
        e = take_journal(c);
    }
    if (e == OK)
        e = cache_take_beside(c);
    free(lock);
    free(manifest);
    if (e == OK)
        *out = c;
    else
        cache_close(c);
    return e;
}

/* ---- beside another process ---- */

err cache_open_beside(cache **out, const char *folder, int number)
{
    char name[32];
    snprintf(name, sizeof name, "journal-%d", number);
    cache *c = cache_new(folder);
    char *manifest = path_join(folder, "manifest.json"), *journal = path_join(folder, name);
    c->beside = true;
    err e = file_exists(manifest) ? take_manifest(c, NULL) : OK;
    if (e == OK)
        e = cache_journal_open(&c->journal, journal);
    free(manifest);
    free(journal);
    *out = e == OK ? c : NULL;
    if (e != OK)
        cache_close(c);
    return e;
}

static err take_entries(cache *c, const cache_journal *j)
{
    int64_t      count = cache_journal_count(j);
    cache_entry *entry = heap_get((size_t)(count + 1) * sizeof *entry);
    file_map     map;
    err          e = count ? cache_journal_map(&map, entry, j) : OK;
    for (int64_t i = 0; i < count && e == OK; i++)
        if (!cache_has(c, &entry[i].key))
            e = add_bytes(c, &entry[i].key, &entry[i].form, entry[i].bytes);
    if (count && map.size)
        file_map_close(&map);
    free(entry);
    return e;
}

static err take_over(cache *c, const char *name)
{
    cache_journal *j = NULL;
    char          *path = path_join(c->folder, name);
    err            e = cache_journal_open(&j, path);
    if (e == OK)
        e = take_entries(c, j);
    cache_journal_close(j);
    if (e == OK)
        io_unlink(path);
    free(path);
    return e;
}

err cache_take_beside(cache *c)
{
    DIR *directory = opendir(c->folder);
    err  e = OK;
    for (struct dirent *d = directory ? readdir(directory) : NULL; d && e == OK; d = readdir(directory))
        if (!strncmp(d->d_name, "journal-", 8))
            e = take_over(c, d->d_name);
    if (directory)
        closedir(directory);
    return e;
}

void cache_close(cache *c)
{
    if (!c)
        return;
    for (int64_t i = 0; i < c->shards; i++)
        cache_shard_close(&c->shard[i]);
    cache_journal_close(c->journal);
    if (c->lock >= 0)
        file_unlock(c->lock);
    cache_index_free(&c->index);
    cache_index_free(&c->bad);
    pthread_mutex_destroy(&c->reading);
    free(c->listed);
    free(c->shard);
    free(c->unreadable);
    free(c->folder);
    free(c);
}

/* ---- asking ---- */

const cache_origin *cache_get_origin(const cache *c)
{
    return &c->origin;
}

void cache_set_origin(cache *c, const cache_origin *o)
{
    c->origin = *o;
    c->changed = true;
}

bool cache_has(const cache *c, const cache_key *key)
{
    return cache_index_find(&c->index, key->hex) != NULL;
}

bool cache_unreadable(const cache *c, const cache_key *key)
{
    return cache_index_find(&c->bad, key->hex) != NULL;
}

void cache_add_unreadable(cache *c, const cache_key *key)
{
    take_unreadable(c, key);
    c->changed = true;
}

const cache_key *cache_unreadables(const cache *c, int64_t *count)
{
    *count = (int64_t)c->bad.used;
    return c->unreadable;
}

/* Bytes of a row; the caller holds `reading`. The file that was opened longest ago is closed. */
static err read_place(void *bytes, cache *c, const cache_place *p)
{
    cache_shard *s = &c->shard[p->shard];
    if (s->file < 0) {
        int64_t *oldest = &c->opened[c->next];
        c->next = (c->next + 1) % OPEN_SHARDS;
        if (*oldest >= 0)
            cache_shard_rest(&c->shard[*oldest]);
        *oldest = p->shard;
    }
    return cache_shard_read(bytes, s, p->table, p->row);
}

err cache_read(float *values, cache *c, const cache_key *key, const cache_form *form)
{
    const cache_place *p = cache_index_find(&c->index, key->hex);
    if (!p || p->shard < 0)
        return err_set(E_CACHE, "%s: no %s with the key %s; run `msd prepare`", c->folder, cache_kind_name(form->kind), key->hex);
    if (!cache_form_equal(&c->shard[p->shard].table[p->table].form, form))
        return err_set(E_CACHE, "%s: the %s with the key %s has another shape than this run needs; delete the folder and run `msd "
                                "prepare`", c->folder, cache_kind_name(form->kind), key->hex);
    void *bytes = form->type == STORED_F32 ? (void *)values : heap_get(cache_form_bytes(form));
    pthread_mutex_lock(&c->reading);
    err e = read_place(bytes, c, p);
    pthread_mutex_unlock(&c->reading);
    if (bytes != values) {
        if (e == OK)
            stored_to_f32(values, form->type, bytes, cache_form_count(form));
        free(bytes);
    }
    return e;
}

void cache_count(cache_counts *out, const cache *c)
{
    *out = (cache_counts){.shards = c->shards};
    for (int64_t i = 0; i < c->shards; i++) {
        out->file_bytes += c->listed[i].bytes;
        for (int t = 0; t < c->shard[i].tables; t++) {
            const cache_table *table = &c->shard[i].table[t];
            out->entries[table->form.kind] += table->rows;
            out->bytes[table->form.kind] += table->rows * (int64_t)cache_form_bytes(&table->form);
        }
    }
}

/* ---- adding ---- */

static err write_manifest(cache *c)
{
    cache_manifest m = {.origin = c->origin, .shard = c->listed, .shards = c->shards, .unreadable = c->unreadable,
                        .unreadables = (int64_t)c->bad.used};
    TRY(cache_manifest_write(c->folder, &m));
    c->changed = false;
    return OK;
}

static int64_t next_number(const cache *c)
{
    int64_t number = 1;
    for (int64_t i = 0; i < c->shards; i++)
        if (c->listed[i].number >= number)
            number = c->listed[i].number + 1;
    return number;
}

/* The journal's entries as a shard that is in c->shard but not in the written manifest yet. */
static err journal_to_shard(cache *c)
{
    int64_t count = cache_journal_count(c->journal);
    if (!count)
        return OK;
    arena memory = {0};
    file_map map;
    cache_entry *entry = heap_get((size_t)count * sizeof *entry);
    cache_listed l = {.number = next_number(c)};
    size_t size = 0;
    const char *path = cache_shard_path(&memory, c->folder, l.number);
    err e = cache_journal_map(&map, entry, c->journal);
    if (e == OK) {
        e = cache_shard_write(&size, l.hash, path, entry, (size_t)count);
        file_map_close(&map);
    }
    l.bytes = (int64_t)size;
    if (e == OK)
        e = check_shard(&l, path); /* what the disk gives back is what was written */
    if (e == OK)
        e = take_shard(c, &l, path);
    free(entry);
    arena_free(&memory);
    return e;
}

err cache_flush(cache *c)
{
    bool full = cache_journal_count(c->journal) > 0;
    TRY(journal_to_shard(c));
    if (full || c->changed)
        TRY(write_manifest(c));
    return full ? cache_journal_clear(c->journal) : OK;
}

static err add_bytes(cache *c, const cache_key *key, const cache_form *form, const void *bytes)
{
    TRY(cache_journal_add(c->journal, key, form, bytes));
    cache_index_add(&c->index, key->hex, (cache_place){.shard = -1});
    return cache_journal_size(c->journal) >= SHARD_BYTES && !c->beside ? cache_flush(c) : OK;
}

err cache_add(cache *c, const cache_key *key, const cache_form *form, const float *values)
{
    if (cache_has(c, key))
        return OK;
    if (form->type == STORED_F32)
        return add_bytes(c, key, form, values);
    void *bytes = heap_get(cache_form_bytes(form));
    stored_from_f32(bytes, form->type, values, cache_form_count(form));
    err e = add_bytes(c, key, form, bytes);
    free(bytes);
    return e;
}

/* ---- looking after ---- */

static bool all_finite(const void *bytes, const cache_form *f, float *values)
{
    int64_t count = cache_form_count(f);
    stored_to_f32(values, f->type, bytes, count);
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

static err verify_table(cache *c, int64_t shard, int table, int64_t *done, int64_t total,
                        void (*seen)(void *user, int64_t done, int64_t total), void *user)
{
    const cache_table *t = &c->shard[shard].table[table];
    float *values = heap_get((size_t)cache_form_count(&t->form) * sizeof *values);
    void  *bytes = heap_get(cache_form_bytes(&t->form));
    err e = OK;
    for (int64_t row = 0; row < t->rows && e == OK; row++) {
        cache_place p = {.shard = (int32_t)shard, .table = table, .row = row};
        e = read_place(bytes, c, &p);
        if (e == OK && !all_finite(bytes, &t->form, values))
            e = err_set(E_CACHE, "%s: row %" PRId64 " of a %s table is not finite; delete the file and run `msd prepare`",
                        c->shard[shard].path, row, cache_kind_name(t->form.kind));
        ++*done;
        if (seen)
            seen(user, *done, total);
    }
    free(values);
    free(bytes);
    return e;
}

err cache_verify(cache *c, void (*seen)(void *user, int64_t done, int64_t total), void *user)
{
    cache_counts counts;
    int64_t done = 0, total = 0;
    cache_count(&counts, c);
    for (int k = 0; k < CACHE_KIND_COUNT; k++)
        total += counts.entries[k];
    for (int64_t i = 0; i < c->shards; i++)
        for (int t = 0; t < c->shard[i].tables; t++)
            TRY(verify_table(c, i, t, &done, total, seen, user));
    return OK;
}

/* Whether all rows of a shard are kept and are the ones the index means; *dead counts the others. */
static bool wholly_kept(const cache *c, int64_t shard, bool (*keep)(void *user, const cache_key *key), void *user, int64_t *dead)
{
    int64_t before = *dead;
    for (int t = 0; t < c->shard[shard].tables; t++) {
        const cache_table *table = &c->shard[shard].table[t];
        for (int64_t row = 0; row < table->rows; row++) {
            cache_key key = {0};
            memcpy(key.hex, table->keys + row * CACHE_KEY_LENGTH, CACHE_KEY_LENGTH);
            const cache_place *p = cache_index_find(&c->index, key.hex);
            *dead += !keep(user, &key) || p->shard != shard || p->table != t || p->row != row;
        }
    }
    return *dead == before;
}

/* The kept rows of a shard, into the journal. */
static err move_rows(cache *c, int64_t shard, bool (*keep)(void *user, const cache_key *key), void *user)
{
    for (int t = 0; t < c->shard[shard].tables; t++) {
        const cache_table *table = &c->shard[shard].table[t];
        void *bytes = heap_get(cache_form_bytes(&table->form));
        err e = OK;
        for (int64_t row = 0; row < table->rows && e == OK; row++) {
            cache_key key = {0};
            memcpy(key.hex, table->keys + row * CACHE_KEY_LENGTH, CACHE_KEY_LENGTH);
            const cache_place *p = cache_index_find(&c->index, key.hex);
            if (!keep(user, &key) || p->shard != shard || p->table != t || p->row != row)
                continue;
            e = read_place(bytes, c, p);
            if (e == OK)
                e = cache_journal_add(c->journal, &key, &table->form, bytes);
            if (e == OK && cache_journal_size(c->journal) >= SHARD_BYTES)
                e = cache_flush(c); /* the same rows twice for a while: the manifest still lists the old shard */
        }
        free(bytes);
        TRY(e);
    }
    return OK;
}

/* Forgets the shards marked gone, writes the manifest, and only then removes their files. */
static err remove_shards(int64_t *freed, cache *c, const bool *gone, int64_t marked)
{
    arena memory = {0};
    int64_t kept = 0, count = c->shards;
    char **path = ARENA_ARRAY(&memory, char *, marked + 1);
    cache_index_free(&c->index);
    for (int i = 0; i < OPEN_SHARDS; i++)
        c->opened[i] = -1;
    for (int64_t i = 0; i < count; i++) {
        cache_shard_close(&c->shard[i]);
        if (i < marked && gone[i]) {
            path[i] = cache_shard_path(&memory, c->folder, c->listed[i].number);
            *freed += c->listed[i].bytes;
            continue;
        }
        c->listed[kept++] = c->listed[i];
    }
    c->shards = 0;
    err e = OK;
    for (int64_t i = 0; i < kept && e == OK; i++) {
        cache_listed l = c->listed[i];
        e = take_shard(c, &l, cache_shard_path(&memory, c->folder, l.number));
    }
    if (e == OK)
        e = write_manifest(c);
    for (int64_t i = 0; i < marked && e == OK; i++)
        if (path[i])
            io_unlink(path[i]);
    arena_free(&memory);
    return e;
}

err cache_collect(int64_t *freed, int64_t *dropped, cache *c, bool (*keep)(void *user, const cache_key *key), void *user)
{
    *freed = *dropped = 0;
    TRY(cache_flush(c));
    int64_t before = c->shards, wrote = 0;
    bool *gone = heap_get((size_t)(before + 1) * sizeof *gone), any = false;
    err e = OK;
    for (int64_t i = 0; i < before && e == OK; i++) {
        gone[i] = !wholly_kept(c, i, keep, user, dropped);
        any = any || gone[i];
        if (gone[i])
            e = move_rows(c, i, keep, user);
    }
    if (e == OK && any)
        e = cache_flush(c);
    for (int64_t i = before; i < c->shards; i++)
        wrote += c->listed[i].bytes;
    if (e == OK && any)
        e = remove_shards(freed, c, gone, before);
    *freed -= wrote;
    free(gone);
    return e;
}
