/* safetensors files, read strictly and written deterministically.
 *
 * u64 little-endian header length N; N bytes of JSON: {"__metadata__": {string: string}, NAME: {"dtype", "shape",
 * "data_offsets": [begin, end]}, ...}, padded with spaces; then the data, one tensor behind the other. Files are
 * hostile: every rule of the format is checked before anything is allocated by a number the file gives. */
#ifndef MSD_DATA_SAFETENSORS_H
#define MSD_DATA_SAFETENSORS_H

#include "base/file.h"
#include "data/tensor_table.h"

enum { SAFETENSORS_MAX_HEADER = 100000000 };

typedef struct text_pair {
    const char *key, *value;
} text_pair;

typedef struct safetensors {
    tensor_table tensors;  /* in the order of their data */
    text_pair   *metadata; /* metadata_count, sorted by key */
    size_t       metadata_count;
    file_map     map;      /* empty when parsed from memory */
    arena        memory;
} safetensors;

/* Maps and checks a file. E_IO; E_FORMAT with the file's name and the rule it breaks, or with what it is instead
 * (git-LFS pointer, HTML, pickle ...). */
err  safetensors_open(safetensors **out, const char *path);
/* The same from memory, which stays the caller's and must outlive *out. `label` stands for the path. */
err  safetensors_parse(safetensors **out, const void *bytes, size_t size, const char *label);
void safetensors_close(safetensors *s); /* NULL is fine */
const char *safetensors_metadata(const safetensors *s, const char *key); /* NULL when absent */

/* Writing: declare everything, then give the data in the order of declaration, then publish. Equal declarations and
 * data give equal bytes. Declare wider types first, so that every tensor is aligned to its element. */
typedef struct safetensors_writer safetensors_writer;
err  safetensors_create(safetensors_writer **out, const char *path); /* as file_create */
void safetensors_note(safetensors_writer *w, const char *key, const char *value); /* __metadata__; copied */
void safetensors_declare(safetensors_writer *w, const char *name, stored_type type, int ndim, const int64_t *dim);
/* The next bytes of data; pieces may cross tensors. The first call writes the header. E_IO, E_DISK_FULL; E_FORMAT for
 * names that are no UTF-8 or appear twice, and for a header above SAFETENSORS_MAX_HEADER. */
err  safetensors_write(safetensors_writer *w, const void *data, size_t bytes);
/* The next tensor (F32, F16 or BF16) from f32 values. */
err  safetensors_write_f32(safetensors_writer *w, const float *values);
err  safetensors_publish(safetensors_writer *w); /* frees w in every case; CHECKs that all data was given */
void safetensors_discard(safetensors_writer *w); /* NULL is fine */

#endif
