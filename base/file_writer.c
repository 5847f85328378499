#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/io.h"
#include "base/temporary.h"

enum { BUFFER_BYTES = 256 * 1024 };

struct file_writer {
    char  *path, *temporary;
    int    fd;
    err    failed;
    size_t used;
    char  *failure; /* message of the first failure: what failed later hides the reason */
    char   buffer[BUFFER_BYTES];
};

err file_create(file_writer **out, const char *path)
{
    *out = NULL;
    if (folder_exists(path))
        return err_set(E_IO, "%s: is a folder, expected the name of a file to write", path);
    for (unsigned attempt = 0;; attempt++) {
        char *temporary = temporary_name(path, attempt);
        int fd = io_open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);
        if (fd >= 0) {
            file_writer *w = heap_get(sizeof *w);
            w->path = path_join("", path);
            w->temporary = temporary;
            w->fd = fd;
            w->failed = OK;
            w->used = 0;
            w->failure = NULL;
            *out = w;
            return OK;
        }
        int number = errno;
        free(temporary);
        if (number != EEXIST || attempt >= TEMPORARY_ATTEMPTS)
            return io_error(number, path, "create a temporary file beside it");
    }
}

/* Remembers the failure that errno tells of, removes the temporary at once: a full disk gets its space back. */
static err fail(file_writer *w, const char *doing)
{
    int number = errno;
    if (w->fd >= 0)
        io_close(w->fd);
    w->fd = -1;
    io_unlink(w->temporary);
    w->failed = io_error(number, w->path, doing);
    w->failure = path_join("", err_message());
    return w->failed;
}

static err flush(file_writer *w)
{
    bool written = io_write_all(w->fd, w->buffer, w->used);
    w->used = 0;
    return written ? OK : fail(w, "write");
}

err file_write(file_writer *w, const void *bytes, size_t size)
{
    if (w->failed)
        return err_set(w->failed, "%s", w->failure);
    if (size > BUFFER_BYTES - w->used)
        TRY(flush(w));
    if (size >= BUFFER_BYTES)
        return io_write_all(w->fd, bytes, size) ? OK : fail(w, "write");
    if (size)
        memcpy(w->buffer + w->used, bytes, size);
    w->used += size;
    return OK;
}

static void release(file_writer *w)
{
    free(w->path);
    free(w->temporary);
    free(w->failure);
    free(w);
}

/* Gives the temporary its name; `first`: unless another has it. */
static err take_name(file_writer *w, bool first)
{
    if (!first)
        return io_rename(w->temporary, w->path) < 0 ? fail(w, "rename its temporary to it") : OK;
    if (io_link(w->temporary, w->path) < 0 && errno != EEXIST)
        return fail(w, "link its temporary to it");
    io_unlink(w->temporary);
    return OK;
}

static err finish(file_writer *w, bool first)
{
    if (w->failed)
        return err_set(w->failed, "%s", w->failure);
    TRY(flush(w));
    if (io_fsync(w->fd) < 0)
        return fail(w, "fsync");
    int closed = io_close(w->fd);
    w->fd = -1;
    if (closed < 0)
        return fail(w, "close");
    TRY(take_name(w, first));
    return temporary_sync_parent(w->path);
}

err file_publish(file_writer *w)
{
    err result = finish(w, false);
    release(w);
    return result;
}

err file_publish_first(file_writer *w)
{
    err result = finish(w, true);
    release(w);
    return result;
}

void file_discard(file_writer *w)
{
    if (!w)
        return;
    if (w->fd >= 0) {
        io_close(w->fd);
        io_unlink(w->temporary);
    }
    release(w);
}
