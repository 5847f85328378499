/* Every system call of the file layer, and nothing else: EINTR is retried here, and a test build can
 * put failures here without touching any caller. All return as the calls they stand for (-1 and errno). */
#ifndef MSD_BASE_IO_H
#define MSD_BASE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/error.h"

int     io_open(const char *path, int flags, mode_t mode); /* O_CLOEXEC is added */
int     io_close(int fd);                                  /* never retried: the descriptor is gone either way */
ssize_t io_read(int fd, void *bytes, size_t size);
ssize_t io_write(int fd, const void *bytes, size_t size);  /* may be short */
int     io_truncate(int fd, int64_t size);
int     io_fsync(int fd); /* after a failure never again on this file: the kernel has forgotten its dirty pages */
int     io_rename(const char *from, const char *to);
int     io_link(const char *from, const char *to);         /* another name; EEXIST: nothing was done */
int     io_unlink(const char *path);
int     io_mkdir(const char *path, mode_t mode);
int     io_rmdir(const char *path);
int     io_fstat(int fd, struct stat *out);
int     io_lstat(const char *path, struct stat *out);
int     io_flock(int fd, int operation);
void   *io_map(int fd, size_t size); /* private, read-only; NULL on failure */
void    io_forget(void *bytes, size_t size); /* whole pages of a mapping: out of memory until they are read again */
void    io_unmap(void *bytes, size_t size);
int     io_free_bytes(uint64_t *bytes, const char *path);

/* Writes all bytes, going on after short counts; false and errno on failure. */
bool io_write_all(int fd, const void *bytes, size_t size);

/* "PATH: cannot DOING: REASON; what to do": E_DISK_FULL for ENOSPC and EDQUOT, E_MEMORY for ENOMEM, else E_IO. */
err io_error(int number, const char *path, const char *doing);

#endif
