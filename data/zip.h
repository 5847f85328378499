/* The part of zip that torch.save uses: STORED members under one folder, by the central directory. Everything is
 * bounds-checked, nothing is copied but names, every checksum is verified. */
#ifndef MSD_DATA_ZIP_H
#define MSD_DATA_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/file.h"

typedef struct zip_member {
    const char    *name; /* without the common folder: "data.pkl", "data/0" */
    const uint8_t *data;
    size_t         size;
    uint32_t       crc;
    uint64_t       local;   /* where its local header begins */
} zip_member;

typedef struct zip {
    zip_member *at; /* count, sorted by name */
    size_t      count;
    arena       memory;
} zip;

/* `bytes` must outlive *out. E_FORMAT says what is wrong, without the file's name. */
err  zip_parse(zip *out, const uint8_t *bytes, size_t size);
void zip_free(zip *z);
const zip_member *zip_find(const zip *z, const char *name); /* NULL when absent */

/* Writing, streamed: each member's data lies at a multiple of 64, its size and checksum follow it, as torch does. */
typedef struct zip_writer zip_writer;
err  zip_create(zip_writer **out, const char *path, const char *folder);
err  zip_begin_member(zip_writer *w, const char *name);
err  zip_write(zip_writer *w, const void *bytes, size_t size);
err  zip_end_member(zip_writer *w);   /* E_FORMAT when the archive passes 4 GiB */
err  zip_publish(zip_writer *w);      /* writes the directory; frees w in every case */
void zip_discard(zip_writer *w);      /* NULL is fine */

#endif
