#include "fault_io.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* The one place of the tests with state of its own: the calls have no argument to carry it. */
static atomic_long counted;
static long        fail_at;
static fault_kind  fail_kind;
static bool        fail_sticky, only_writes;
static const char *count_file;

const char *fault_name(fault_kind kind)
{
    static const char *const names[FAULT_KINDS] = {"none", "EIO", "ENOSPC", "EINTR", "short", "kill"};
    return names[kind];
}

void fault_set(long at, fault_kind kind, bool sticky)
{
    atomic_store(&counted, 0);
    fail_at = at;
    fail_kind = kind;
    fail_sticky = sticky;
}

long fault_count(void)
{
    return atomic_load(&counted);
}

static void write_count(void)
{
    FILE *f = fopen(count_file, "w");
    if (!f)
        return;
    fprintf(f, "%ld\n", fault_count());
    fclose(f);
}

__attribute__((constructor)) static void read_environment(void)
{
    const char *what = getenv("MSD_FAULT"), *only = getenv("MSD_FAULT_ONLY");
    char        name[16] = "", mode[16] = "";
    long        at = 0;
    count_file = getenv("MSD_FAULT_COUNT");
    only_writes = only && !strcmp(only, "write");
    if (count_file)
        atexit(write_count);
    if (!what)
        return;
    if (sscanf(what, "%ld:%15[^:]:%15s", &at, name, mode) < 2) {
        fprintf(stderr, "MSD_FAULT: found %s, expected N:WHAT[:sticky]\n", what);
        _exit(99);
    }
    for (int kind = 0; kind < FAULT_KINDS; kind++)
        if (!strcmp(name, fault_name((fault_kind)kind)))
            fault_set(at, (fault_kind)kind, !strcmp(mode, "sticky"));
}

/* What happens to this call: FAULT_NONE mostly. */
static fault_kind next_call(bool changes)
{
    if (only_writes && !changes)
        return FAULT_NONE;
    long n = atomic_fetch_add(&counted, 1) + 1;
    if (!fail_at || n < fail_at || (n > fail_at && !fail_sticky))
        return FAULT_NONE;
    return fail_kind == FAULT_EINTR && (n - fail_at) % 2 ? FAULT_NONE : fail_kind;
}

/* True when the call fails: errno is set. Calls that a signal does not interrupt, and those that know no short count, pass. */
static bool fails(bool changes, bool interruptible)
{
    fault_kind kind = next_call(changes);
    if (kind == FAULT_KILL)
        kill(getpid(), SIGKILL);
    if (kind == FAULT_NONE || kind == FAULT_SHORT || (kind == FAULT_EINTR && !interruptible))
        return false;
    errno = kind == FAULT_EIO ? EIO : kind == FAULT_ENOSPC ? ENOSPC : EINTR;
    return true;
}

int     __real_open(const char *path, int flags, ...);
int     __real_close(int fd);
ssize_t __real_read(int fd, void *bytes, size_t size);
ssize_t __real_write(int fd, const void *bytes, size_t size);
int     __real_ftruncate(int fd, off_t size);
int     __real_fsync(int fd);
int     __real_rename(const char *from, const char *to);
int     __real_link(const char *from, const char *to);
int     __real_unlink(const char *path);
int     __real_mkdir(const char *path, mode_t mode);
int     __real_rmdir(const char *path);
int     __real_fstat(int fd, struct stat *out);
int     __real_lstat(const char *path, struct stat *out);
void   *__real_mmap(void *at, size_t size, int access, int flags, int fd, off_t offset);
int     __real_statvfs(const char *path, struct statvfs *out);

int     __wrap_open(const char *path, int flags, ...);
int     __wrap_close(int fd);
ssize_t __wrap_read(int fd, void *bytes, size_t size);
ssize_t __wrap_write(int fd, const void *bytes, size_t size);
int     __wrap_ftruncate(int fd, off_t size);
int     __wrap_fsync(int fd);
int     __wrap_rename(const char *from, const char *to);
int     __wrap_link(const char *from, const char *to);
int     __wrap_unlink(const char *path);
int     __wrap_mkdir(const char *path, mode_t mode);
int     __wrap_rmdir(const char *path);
int     __wrap_fstat(int fd, struct stat *out);
int     __wrap_lstat(const char *path, struct stat *out);
void   *__wrap_mmap(void *at, size_t size, int access, int flags, int fd, off_t offset);
int     __wrap_statvfs(const char *path, struct statvfs *out);

int __wrap_open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list more;
        va_start(more, flags);
        mode = va_arg(more, mode_t);
        va_end(more);
    }
    return fails(flags & O_CREAT, true) ? -1 : __real_open(path, flags, mode);
}

int __wrap_close(int fd)
{
    bool failed = fails(true, false);
    int  number = errno, result = __real_close(fd); /* closed all the same, as the kernel does */
    if (!failed)
        return result;
    errno = number;
    return -1;
}

ssize_t __wrap_read(int fd, void *bytes, size_t size)
{
    fault_kind kind = next_call(false);
    if (kind == FAULT_KILL)
        kill(getpid(), SIGKILL);
    if (kind == FAULT_SHORT && size > 1)
        size /= 2;
    else if (kind != FAULT_NONE && kind != FAULT_SHORT) {
        errno = kind == FAULT_EINTR ? EINTR : EIO; /* a read never meets a full disk */
        return -1;
    }
    return __real_read(fd, bytes, size);
}

ssize_t __wrap_write(int fd, const void *bytes, size_t size)
{
    fault_kind kind = next_call(true);
    if (kind == FAULT_KILL) {
        ssize_t done = __real_write(fd, bytes, size / 2);
        (void)done;
        kill(getpid(), SIGKILL);
    }
    if (kind == FAULT_SHORT && size > 1)
        size /= 2;
    else if (kind != FAULT_NONE && kind != FAULT_SHORT) {
        if (kind == FAULT_ENOSPC && size > 1 && __real_write(fd, bytes, size / 2) < 0) /* a full disk takes what still fits */
            return -1;
        errno = kind == FAULT_EIO ? EIO : kind == FAULT_ENOSPC ? ENOSPC : EINTR;
        return -1;
    }
    return __real_write(fd, bytes, size);
}

int __wrap_ftruncate(int fd, off_t size)
{
    return fails(true, true) ? -1 : __real_ftruncate(fd, size);
}

int __wrap_fsync(int fd)
{
    return fails(true, true) ? -1 : __real_fsync(fd);
}

int __wrap_rename(const char *from, const char *to)
{
    return fails(true, false) ? -1 : __real_rename(from, to);
}

int __wrap_link(const char *from, const char *to)
{
    return fails(true, false) ? -1 : __real_link(from, to);
}

int __wrap_unlink(const char *path)
{
    return fails(true, false) ? -1 : __real_unlink(path);
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    return fails(true, false) ? -1 : __real_mkdir(path, mode);
}

int __wrap_rmdir(const char *path)
{
    return fails(true, false) ? -1 : __real_rmdir(path);
}

int __wrap_fstat(int fd, struct stat *out)
{
    return fails(false, false) ? -1 : __real_fstat(fd, out);
}

int __wrap_lstat(const char *path, struct stat *out)
{
    return fails(false, false) ? -1 : __real_lstat(path, out);
}

void *__wrap_mmap(void *at, size_t size, int access, int flags, int fd, off_t offset)
{
    return fd >= 0 && fails(false, false) ? MAP_FAILED : __real_mmap(at, size, access, flags, fd, offset);
}

int __wrap_statvfs(const char *path, struct statvfs *out)
{
    return fails(false, true) ? -1 : __real_statvfs(path, out);
}
