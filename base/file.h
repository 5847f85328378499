/* The one layer of file I/O. Every read and write of msd's own code goes through here, so that a
 * short count, EINTR, a full disk or a failing fsync is treated in one place, the same way.
 * Messages name the file, what failed, and what to do. */
#ifndef MSD_BASE_FILE_H
#define MSD_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* A whole regular file mapped read-only. FIFOs, devices and folders are refused (E_IO) without hanging. */
typedef struct file_map {
    const uint8_t *bytes; /* NULL when the file is empty */
    size_t         size;
} file_map;
err  file_map_open(file_map *out, const char *path);
void file_map_close(file_map *map);
/* These bytes of the map were used: their whole pages leave this process's memory until they are read again. */
void file_map_forget(const file_map *map, const void *bytes, size_t size);
/* SHA-256 of a whole map, whose pages leave this process's memory as it goes. */
void file_map_hash(char hex[65], const file_map *map);

/* Reads a whole regular file of at most `limit` bytes; *text is NUL-terminated after `size` bytes, caller frees. E_IO, E_FORMAT when larger. */
err file_read(char **text, size_t *size, const char *path, size_t limit);

/* A file being written under a temporary name beside `path`. Nothing appears under `path` before
 * file_publish, which flushes, fsyncs the file, renames it and fsyncs the folder; after an error or
 * file_discard the temporary is gone and an old `path` is untouched. E_DISK_FULL on ENOSPC/EDQUOT. */
typedef struct file_writer file_writer;
err  file_create(file_writer **out, const char *path);
err  file_write(file_writer *w, const void *bytes, size_t size); /* sticky: after a failure all fail */
err  file_publish(file_writer *w);                               /* frees w in every case */
/* The same, unless `path` is there by now: then it stays as it is, which is no error. */
err  file_publish_first(file_writer *w);
void file_discard(file_writer *w);                               /* frees w; NULL is fine */

/* The same for a folder: *temporary (caller frees) is a new empty folder beside `path`; write files into it (with
 * file_create + file_publish), then publish renames it to `path`. */
err  folder_create_temporary(char **temporary, const char *path);
err  folder_publish(const char *temporary, const char *path); /* fsyncs the folder, renames, fsyncs its parent */
void folder_remove(const char *path);                         /* recursively; missing is fine; symlinks are not followed */
err  folder_make(const char *path);                           /* with parents, like mkdir -p */

bool file_exists(const char *path);
bool folder_exists(const char *path);
bool folder_empty(const char *path); /* a folder without entries: publishing over it works */
/* Free bytes on the file system that holds `path` (or its nearest existing parent). */
err  file_free_space(uint64_t *bytes, const char *path);
/* SHA-256 of a file, 64 hex digits and NUL. */
err  file_sha256(char hex[65], const char *path);

/* Appending to a log: whole lines, one write each. */
typedef struct file_log file_log;
err  file_log_open(file_log **out, const char *path); /* creates or appends */
err  file_log_line(file_log *log, const char *line);  /* adds the newline */
void file_log_close(file_log *log);

/* Exclusive flock on `path` (created if need be), held until unlock or process death.
 * E_USAGE names the file when another process holds it. */
err  file_lock(int *fd, const char *path);
void file_unlock(int fd);

/* Joins `base`'s folder and `relative`; an absolute `relative` is returned as it is. Caller frees. */
char *path_beside(const char *base_file, const char *relative);
char *path_join(const char *folder, const char *name);

#endif
