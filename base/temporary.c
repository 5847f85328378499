#include "base/temporary.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/io.h"

/* Length of `path` without slashes at its end. */
static size_t trimmed(const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    return length;
}

static size_t folder_length(const char *path)
{
    size_t length = trimmed(path);
    while (length && path[length - 1] != '/')
        length--;
    return length;
}

char *temporary_name(const char *path, unsigned attempt)
{
    enum { SUFFIX = 64, LONGEST = 180 };
    size_t folder = folder_length(path), name = trimmed(path) - folder;
    if (name > LONGEST)
        name = LONGEST;
    size_t room = folder + 1 + name + SUFFIX;
    char *out = heap_get(room);
    memcpy(out, path, folder);
    out[folder] = '.';
    memcpy(out + folder + 1, path + folder, name);
    snprintf(out + folder + 1 + name, room - folder - 1 - name, ".tmp-%ld-%u", (long)getpid(), attempt);
    return out;
}

err temporary_sync_folder(const char *folder)
{
    int fd = io_open(folder, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return io_error(errno, folder, "open this folder to fsync it");
    int result = io_fsync(fd), number = errno;
    io_close(fd);
    if (result < 0 && number != EINVAL && number != ENOTSUP && number != EBADF)
        return io_error(number, folder, "fsync this folder");
    return OK;
}

err temporary_sync_parent(const char *path)
{
    size_t length = folder_length(path);
    char *folder = heap_get(length + 2);
    memcpy(folder, length ? path : ".", length ? length : 1);
    folder[length ? length : 1] = 0;
    err result = temporary_sync_folder(folder);
    free(folder);
    return result;
}
