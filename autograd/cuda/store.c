#include "autograd/cuda/store.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/log.h"

enum { MOST_BYTES = 16 << 20, HEX = 64, MAGIC = 8 };
static const char magic[MAGIC + 1] = "msdcuda1"; /* with the plans' and keys' meaning: a change of them is another number */

struct cuda_store {
    char *folder, *identity;
    bool  silent; /* writing failed once, and was said */
};

/* magic, hash of the name and the payload, payload */
enum { HEADER = MAGIC + HEX };

/* ---- the folder ---- */

static char *folder_of_user(void)
{
    const char *wanted = getenv("MSD_CUDA_CACHE");
    if (wanted && !strcmp(wanted, "off"))
        return NULL;
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && cache[0] == '/')
        return path_join(cache, "msd/cuda");
    return home && home[0] == '/' ? path_join(home, ".cache/msd/cuda") : NULL;
}

/* This user's alone: who may write there decides what code the card runs. */
static bool is_private(const char *folder)
{
    struct stat s;
    return io_lstat(folder, &s) == 0 && S_ISDIR(s.st_mode) && s.st_uid == geteuid() && !(s.st_mode & (S_IWGRP | S_IWOTH));
}

cuda_store *cuda_store_open(const char *identity)
{
    char *folder = folder_of_user();
    if (!folder)
        return NULL;
    if (folder_make(folder) != OK || !is_private(folder)) {
        log_warning(NULL, "%s: not a folder that only this user may write to; nothing found out about the card is kept", folder);
        free(folder);
        return NULL;
    }
    cuda_store *s = heap_get(sizeof *s);
    *s = (cuda_store){.folder = folder, .identity = path_join("", identity)};
    return s;
}

void cuda_store_close(cuda_store *s)
{
    if (!s)
        return;
    free(s->folder);
    free(s->identity);
    free(s);
}

/* ---- entries ---- */

static void name_of(char hex[HEX + 1], const cuda_store *s, const char *kind, const int64_t *key, int words)
{
    hash_state *h = hash_start();
    hash_add(h, s->identity, strlen(s->identity) + 1);
    hash_add(h, kind, strlen(kind) + 1);
    hash_add(h, key, (size_t)words * sizeof *key);
    hash_end(hex, h);
}

static void seal_of(char hex[HEX + 1], const char *name, const void *payload, size_t bytes)
{
    hash_state *h = hash_start();
    hash_add(h, magic, MAGIC);
    hash_add(h, name, HEX);
    hash_add(h, payload, bytes);
    hash_end(hex, h);
}

static bool is_whole(const char *file, size_t size, const char *name)
{
    char seal[HEX + 1];
    if (size <= HEADER || memcmp(file, magic, MAGIC))
        return false;
    seal_of(seal, name, file + HEADER, size - HEADER);
    return !memcmp(file + MAGIC, seal, HEX);
}

static void remove_entry(const char *path, const char *why)
{
    log_warning(NULL, "%s: %s; it is removed and made anew", path, why);
    io_unlink(path);
}

bool cuda_store_get(void **payload, size_t *bytes, cuda_store *s, const char *kind, const int64_t *key, int words)
{
    char  name[HEX + 1], *file = NULL;
    bool  whole = false;
    *payload = NULL;
    if (!s)
        return false;
    name_of(name, s, kind, key, words);
    char *path = path_join(s->folder, name);
    if (file_exists(path) && is_private(s->folder)) {
        size_t size = 0;
        whole = file_read(&file, &size, path, MOST_BYTES) == OK && is_whole(file, size, name);
        *bytes = whole ? size - HEADER : 0;
        if (whole) {
            *payload = heap_get(*bytes + 1);
            memcpy(*payload, file + HEADER, *bytes);
            ((char *)*payload)[*bytes] = '\0';
        } else {
            remove_entry(path, "damaged, or not what its name says");
        }
        free(file);
    }
    free(path);
    return whole;
}

static err write_entry(const char *path, const char *name, const void *payload, size_t bytes)
{
    char         seal[HEX + 1];
    file_writer *w;
    seal_of(seal, name, payload, bytes);
    TRY(file_create(&w, path));
    file_write(w, magic, MAGIC);
    file_write(w, seal, HEX);
    file_write(w, payload, bytes);
    return file_publish_first(w);
}

void cuda_store_put(cuda_store *s, const char *kind, const int64_t *key, int words, const void *payload, size_t bytes)
{
    char name[HEX + 1];
    if (!s || s->silent || !bytes || bytes > MOST_BYTES - HEADER)
        return;
    name_of(name, s, kind, key, words);
    char *path = path_join(s->folder, name);
    if (!file_exists(path) && write_entry(path, name, payload, bytes) != OK) {
        log_warning(NULL, "%s; what is found out about the card is not kept", err_message());
        s->silent = true;
    }
    free(path);
}

void cuda_store_refuse(cuda_store *s, const char *kind, const int64_t *key, int words)
{
    char name[HEX + 1];
    name_of(name, s, kind, key, words);
    char *path = path_join(s->folder, name);
    remove_entry(path, "the library does not take it");
    free(path);
}
