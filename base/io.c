#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define RETRY(result, call)                   \
    do {                                      \
        (result) = (call);                    \
    } while ((result) < 0 && errno == EINTR)

int io_open(const char *path, int flags, mode_t mode)
{
    int fd;
    RETRY(fd, open(path, flags | O_CLOEXEC, mode));
    return fd;
}

int io_close(int fd)
{
    return close(fd);
}

ssize_t io_read(int fd, void *bytes, size_t size)
{
    ssize_t got;
    RETRY(got, read(fd, bytes, size < SSIZE_MAX ? size : SSIZE_MAX));
    return got;
}

ssize_t io_write(int fd, const void *bytes, size_t size)
{
    ssize_t put;
    RETRY(put, write(fd, bytes, size < SSIZE_MAX ? size : SSIZE_MAX));
    return put;
}

int io_truncate(int fd, int64_t size)
{
    int result;
    RETRY(result, ftruncate(fd, (off_t)size));
    return result;
}

int io_fsync(int fd)
{
    int result;
    RETRY(result, fsync(fd));
    return result;
}

int io_rename(const char *from, const char *to)
{
    return rename(from, to);
}

int io_link(const char *from, const char *to)
{
    return link(from, to);
}

int io_unlink(const char *path)
{
    return unlink(path);
}

int io_mkdir(const char *path, mode_t mode)
{
    return mkdir(path, mode);
}

int io_rmdir(const char *path)
{
    return rmdir(path);
}

int io_fstat(int fd, struct stat *out)
{
    return fstat(fd, out);
}

int io_lstat(const char *path, struct stat *out)
{
    return lstat(path, out);
}

int io_flock(int fd, int operation)
{
    int result;
    RETRY(result, flock(fd, operation));
    return result;
}

void *io_map(int fd, size_t size)
{
    void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    return bytes == MAP_FAILED ? NULL : bytes;
}

void io_forget(void *bytes, size_t size)
{
    madvise(bytes, size, MADV_DONTNEED); /* only advice: a failure changes nothing */
}

void io_unmap(void *bytes, size_t size)
{
    munmap(bytes, size);
}

int io_free_bytes(uint64_t *bytes, const char *path)
{
    struct statvfs s;
    int result;
    RETRY(result, statvfs(path, &s));
    if (result == 0)
        *bytes = (uint64_t)s.f_bavail * (uint64_t)s.f_frsize;
    return result;
}

bool io_write_all(int fd, const void *bytes, size_t size)
{
    const char *at = bytes;
    while (size) {
        ssize_t put = io_write(fd, at, size);
        if (put < 0)
            return false;
        if (put == 0) { /* no progress and no reason: a device that will never take the rest */
            errno = EIO;
            return false;
        }
        at += put;
        size -= (size_t)put;
    }
    return true;
}

static const char *advice(int number)
{
    switch (number) {
    case ENOENT: return "; check the path";
    case EACCES:
    case EPERM: return "; check the permissions";
    case ENOSPC: return "; free some space or write elsewhere";
    case EDQUOT: return "; your quota is used up: free some space or write elsewhere";
    case EROFS: return "; write elsewhere";
    case EFBIG: return "; the limit is set by `ulimit -f` or the file system";
    case EMFILE:
    case ENFILE: return "; raise `ulimit -n`";
    case EISDIR: return "; a file is needed here";
    case ENOTDIR: return "; a part of the path is a file";
    case ELOOP: return "; the links of this path lead in a circle";
    default: return "";
    }
}

err io_error(int number, const char *path, const char *doing)
{
    const char *reason = strerrordesc_np(number);
    err code = number == ENOSPC || number == EDQUOT ? E_DISK_FULL : number == ENOMEM ? E_MEMORY : E_IO;
    return err_set(code, "%s: cannot %s: %s%s", path, doing, reason ? reason : "unknown error", advice(number));
}
