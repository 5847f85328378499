#include "data/file_stamps.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/io.h"

#define LIMIT  ((size_t)1 << 30)
#define HEADER "msd-files-1 "

typedef struct stamp {
    const char *path; /* absolute; NULL: free slot */
    int64_t     size, inode, modified, changed; /* times in ns */
    char        hash[65];
} stamp;

struct file_stamps {
    char    *path;
    arena    memory; /* of paths */
    stamp   *slot;   /* open addressing */
    uint64_t slots, used;
    bool     dirty;
};

static int64_t nanoseconds(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static stamp *locate(const file_stamps *s, const char *path)
{
    uint64_t i = hash_fnv1a(path, strlen(path)) & (s->slots - 1);
    while (s->slot[i].path && strcmp(s->slot[i].path, path))
        i = (i + 1) & (s->slots - 1);
    return &s->slot[i];
}

static void put(file_stamps *s, const stamp *value)
{
    if (2 * (s->used + 1) > s->slots) {
        file_stamps old = *s;
        s->slots = old.slots ? 2 * old.slots : 256;
        s->slot = heap_get((size_t)s->slots * sizeof *s->slot);
        memset(s->slot, 0, (size_t)s->slots * sizeof *s->slot);
        for (uint64_t i = 0; i < old.slots; i++)
            if (old.slot[i].path)
                *locate(s, old.slot[i].path) = old.slot[i];
        free(old.slot);
    }
    stamp *to = locate(s, value->path);
    const char *path = to->path;
    s->used += !path;
    *to = *value;
    to->path = path ? path : arena_copy_string(&s->memory, value->path);
}

/* "HASH SIZE INODE MODIFIED CHANGED PATH" a line, behind a line with the hash of all of them. */
static void parse(file_stamps *s, char *text, size_t size)
{
    char hex[65];
    size_t head = strlen(HEADER) + 65;
    if (size < head || memcmp(text, HEADER, strlen(HEADER)) || text[head - 1] != '\n')
        return;
    hash_memory(hex, text + head, size - head);
    if (memcmp(hex, text + strlen(HEADER), 64))
        return;
    for (char *line = text + head; *line;) {
        char *end = strchr(line, '\n');
        stamp t = {0};
        int at = 0;
        if (!end)
            return;
        *end = 0;
        if (sscanf(line, "%64[0-9a-f] %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %n", t.hash, &t.size, &t.inode, &t.modified,
                   &t.changed, &at) == 5 && at && strlen(t.hash) == 64 && line[at]) {
            t.path = line + at;
            put(s, &t);
        }
        line = end + 1;
    }
}

file_stamps *file_stamps_open(const char *path)
{
    file_stamps *s = heap_get(sizeof *s);
    *s = (file_stamps){.path = path_join("", path)};
    char *text;
    size_t size;
    if (file_exists(path) && file_read(&text, &size, path, LIMIT) == OK) {
        parse(s, text, size);
        free(text);
    }
    return s;
}

err file_stamps_hash(char hex[65], file_stamps *s, const char *file)
{
    struct stat about;
    char whole[PATH_MAX];
    if (stat(file, &about) < 0 || !S_ISREG(about.st_mode) || !realpath(file, whole) || strchr(whole, '\n'))
        return file_sha256(hex, file);
    stamp now = {.path = whole, .size = about.st_size, .inode = (int64_t)about.st_ino,
                 .modified = nanoseconds(about.st_mtim), .changed = nanoseconds(about.st_ctim)};
    const stamp *known = s->slots ? locate(s, whole) : NULL;
    if (known && known->path && known->size == now.size && known->inode == now.inode && known->modified == now.modified &&
        known->changed == now.changed) {
        memcpy(hex, known->hash, 65);
        return OK;
    }
    TRY(file_sha256(hex, file));
    memcpy(now.hash, hex, 65);
    put(s, &now);
    s->dirty = true;
    return OK;
}

err file_stamps_save(file_stamps *s)
{
    enum { TRUSTED_SECONDS = 2 };
    if (!s->dirty)
        return OK;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    int64_t newest = nanoseconds(t) - (int64_t)TRUSTED_SECONDS * 1000000000;
    arena memory = {0};
    char hex[65];
    hash_state *h = hash_start();
    char **line = ARENA_ARRAY(&memory, char *, s->used + 1);
    uint64_t lines = 0;
    for (uint64_t i = 0; i < s->slots; i++) {
        const stamp *p = &s->slot[i];
        if (!p->path || p->changed > newest || p->modified > newest)
            continue;
        line[lines] = arena_print(&memory, "%s %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %s\n", p->hash, p->size, p->inode,
                                  p->modified, p->changed, p->path);
        hash_add(h, line[lines], strlen(line[lines]));
        lines++;
    }
    hash_end(hex, h);
    file_writer *w = NULL;
    err e = file_create(&w, s->path);
    if (e == OK) {
        const char *head = arena_print(&memory, HEADER "%s\n", hex);
        file_write(w, head, strlen(head)); /* failures are kept for file_publish */
        for (uint64_t i = 0; i < lines; i++)
            file_write(w, line[i], strlen(line[i]));
        e = file_publish(w);
    }
    arena_free(&memory);
    s->dirty = e != OK;
    return e;
}

void file_stamps_close(file_stamps *s)
{
    if (!s)
        return;
    arena_free(&s->memory);
    free(s->slot);
    free(s->path);
    free(s);
}
