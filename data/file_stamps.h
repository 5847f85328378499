/* SHA-256 of files, remembered with what the file system says of them (size, inode, times of content and of any change),
 * so that a file that nobody touched is not read again. The times of a file can be forged by hand but for the last,
 * which only the kernel sets. A table that is missing or damaged only costs the reading. */
#ifndef MSD_DATA_FILE_STAMPS_H
#define MSD_DATA_FILE_STAMPS_H

#include "base/error.h"

typedef struct file_stamps file_stamps;

file_stamps *file_stamps_open(const char *path); /* of the table */
/* SHA-256 of the file; one thread at a time. E_IO as file_sha256. */
err  file_stamps_hash(char hex[65], file_stamps *s, const char *file);
/* Writes the table when it changed, without files changed within the last two seconds: a change within a clock tick
 * would not show. E_IO, E_DISK_FULL. */
err  file_stamps_save(file_stamps *s);
void file_stamps_close(file_stamps *s); /* NULL is fine */

#endif
