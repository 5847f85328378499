#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/io.h"

struct file_log {
    char *path;
    int   fd;
};

err file_log_open(file_log **out, const char *path)
{
    *out = NULL;
    int fd = io_open(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY, 0666);
    if (fd < 0)
        return io_error(errno, path, "open for appending");
    struct stat about;
    if (io_fstat(fd, &about) < 0 || !S_ISREG(about.st_mode)) {
        io_close(fd);
        return err_set(E_IO, "%s: not a regular file, expected a log to append to", path);
    }
    file_log *log = heap_get(sizeof *log);
    *log = (file_log){.path = path_join("", path), .fd = fd};
    *out = log;
    return OK;
}

err file_log_line(file_log *log, const char *line)
{
    size_t length = strlen(line);
    char *whole = heap_get(length + 1);
    memcpy(whole, line, length);
    whole[length] = '\n';
    bool written = io_write_all(log->fd, whole, length + 1);
    int number = errno;
    free(whole);
    return written ? OK : io_error(number, log->path, "append");
}

void file_log_close(file_log *log)
{
    if (!log)
        return;
    io_close(log->fd);
    free(log->path);
    free(log);
}

err file_lock(int *fd, const char *path)
{
    *fd = -1;
    int opened = io_open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (opened < 0)
        return io_error(errno, path, "open this lock file");
    if (io_flock(opened, LOCK_EX | LOCK_NB) < 0) {
        int number = errno;
        io_close(opened);
        if (number == EWOULDBLOCK)
            return err_set(E_USAGE, "%s: another process holds this lock; wait for it or choose another folder", path);
        return io_error(number, path, "lock");
    }
    *fd = opened;
    return OK;
}

void file_unlock(int fd)
{
    if (fd >= 0)
        io_close(fd); /* the lock goes with the descriptor */
}
