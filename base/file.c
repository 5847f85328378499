#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/hash.h"
#include "base/io.h"

/* Opens a regular file for reading. O_NONBLOCK: a FIFO without a writer must not hang us. */
static err open_regular(int *fd, struct stat *about, const char *path)
{
    int opened = io_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (opened < 0)
        return io_error(errno, path, "open");
    if (io_fstat(opened, about) < 0) {
        int number = errno;
        io_close(opened);
        return io_error(number, path, "read its size");
    }
    if (!S_ISREG(about->st_mode)) {
        io_close(opened);
        return err_set(E_IO, "%s: found %s, expected a regular file; check the path", path,
                       S_ISDIR(about->st_mode) ? "a folder" : "a device, pipe or socket");
    }
    *fd = opened;
    return OK;
}

err file_map_open(file_map *out, const char *path)
{
    *out = (file_map){0};
    struct stat about;
    int fd = -1;
    TRY(open_regular(&fd, &about, path));
    size_t size = (size_t)about.st_size;
    void *bytes = size ? io_map(fd, size) : NULL;
    int number = errno;
    io_close(fd);
    if (size && !bytes)
        return io_error(number, path, "map");
    *out = (file_map){.bytes = bytes, .size = size};
    return OK;
}

void file_map_close(file_map *map)
{
    if (map->bytes)
        io_unmap((void *)(uintptr_t)map->bytes, map->size);
    *map = (file_map){0};
}

void file_map_forget(const file_map *map, const void *bytes, size_t size)
{
    const uintptr_t page = 4096, start = (uintptr_t)map->bytes, at = (uintptr_t)bytes;
    if (!map->bytes || at < start || at - start > map->size || size > map->size - (at - start))
        return; /* not of this map */
    uintptr_t first = (at + page - 1) / page * page, end = (at + size) / page * page;
    if (end > first)
        io_forget((void *)first, end - first);
}

void file_map_hash(char hex[65], const file_map *map)
{
    const size_t piece = (size_t)16 << 20;
    hash_state  *h = hash_start();
    for (size_t at = 0; at < map->size; at += piece) {
        size_t size = map->size - at < piece ? map->size - at : piece;
        hash_add(h, map->bytes + at, size);
        file_map_forget(map, map->bytes + at, size);
    }
    hash_end(hex, h);
}

/* Reads until the end or `room` bytes: the size a file claims may lie (/proc) or change while we read. */
static err read_up_to(char *text, size_t *size, int fd, size_t room, const char *path)
{
    size_t used = 0;
    while (used < room) {
        ssize_t got = io_read(fd, text + used, room - used);
        if (got < 0)
            return io_error(errno, path, "read");
        if (got == 0)
            break;
        used += (size_t)got;
    }
    *size = used;
    return OK;
}

static err too_large(const char *path, size_t limit)
{
    return err_set(E_FORMAT, "%s: larger than the %zu bytes such a file may have; is it the right file?", path, limit);
}

err file_read(char **text, size_t *size, const char *path, size_t limit)
{
    *text = NULL;
    *size = 0;
    struct stat about;
    int fd = -1;
    TRY(open_regular(&fd, &about, path));
    size_t claimed = (size_t)about.st_size;
    if (claimed > limit) {
        io_close(fd);
        return too_large(path, limit);
    }
    /* one byte more than claimed tells whether the file grew; files of /proc claim 0 bytes */
    size_t room = claimed ? claimed + 1 : (limit < 1 << 16 ? limit + 1 : 1 << 16);
    char *buffer = malloc(room + 1);
    if (!buffer) {
        io_close(fd);
        return io_error(ENOMEM, path, "read");
    }
    size_t used = 0;
    err result = read_up_to(buffer, &used, fd, room, path);
    io_close(fd);
    if (result == OK && (used > limit || (!claimed && used == room)))
        result = too_large(path, claimed ? limit : room - 1);
    else if (result == OK && claimed && used != claimed)
        result = err_set(E_IO, "%s: changed while it was read; try again when nobody writes it", path);
    if (result != OK) {
        free(buffer);
        return result;
    }
    buffer[used] = 0;
    *text = buffer;
    *size = used;
    return OK;
}

static bool is_kind(const char *path, mode_t kind)
{
    struct stat about;
    return stat(path, &about) == 0 && (about.st_mode & S_IFMT) == kind;
}

bool file_exists(const char *path)
{
    return is_kind(path, S_IFREG);
}

bool folder_exists(const char *path)
{
    return is_kind(path, S_IFDIR);
}

err file_free_space(uint64_t *bytes, const char *path)
{
    *bytes = 0;
    char *nearest = path_join(path, "");
    int result = io_free_bytes(bytes, nearest);
    while (result < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        size_t length = strlen(nearest);
        while (length > 1 && nearest[length - 1] == '/')
            length--;
        while (length && nearest[length - 1] != '/')
            length--;
        if (!length) {
            result = io_free_bytes(bytes, ".");
            break;
        }
        nearest[length] = 0;
        result = io_free_bytes(bytes, nearest);
        if (length == 1)
            break;
    }
    int number = errno;
    free(nearest);
    return result < 0 ? io_error(number, path, "read the free space") : OK;
}

err file_sha256(char hex[65], const char *path)
{
    enum { CHUNK = 1 << 20 };
    hex[0] = 0;
    struct stat about;
    int fd = -1;
    TRY(open_regular(&fd, &about, path));
    hash_state *h = hash_start();
    char *chunk = heap_get(CHUNK);
    size_t size = 0;
    err result;
    do {
        result = read_up_to(chunk, &size, fd, CHUNK, path);
        if (result == OK)
            hash_add(h, chunk, size);
    } while (result == OK && size == CHUNK);
    free(chunk);
    io_close(fd);
    hash_end(hex, h);
    if (result != OK)
        hex[0] = 0;
    return result;
}
