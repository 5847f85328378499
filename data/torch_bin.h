/* Weights as torch.save writes them (.bin, .pt, .pth since torch 1.6): a zip with a pickle that says where each
 * tensor lies. Read as data, never run. Nested dicts become names joined by dots; what is no tensor is left out. */
#ifndef MSD_DATA_TORCH_BIN_H
#define MSD_DATA_TORCH_BIN_H

#include "base/file.h"
#include "data/tensor_table.h"
#include "data/zip.h"

typedef struct torch_bin {
    tensor_table tensors; /* in the order of the dicts; tensors that share a storage share data */
    zip          archive;
    file_map     map;     /* empty when parsed from memory */
    uint8_t    **copies;  /* contiguous copies of transposed tensors */
    size_t       copy_count, copied;
    arena        memory;
} torch_bin;

/* E_IO; E_FORMAT with the file's name and what is wrong, a forbidden import or opcode by its name; E_MEMORY. */
err  torch_bin_open(torch_bin **out, const char *path);
/* The same from memory, which stays the caller's and must outlive *out. */
err  torch_bin_parse(torch_bin **out, const void *bytes, size_t size, const char *label);
void torch_bin_close(torch_bin *t); /* NULL is fine */

/* Writing a dict of dicts of tensors: declare all, then give the data tensor by tensor, then publish. `group` is the
 * key of the inner dict, NULL for the outer one; tensors of one group are declared together. Loads in torch.load with
 * weights_only True and False. Equal declarations and data give equal bytes. */
typedef struct torch_bin_writer torch_bin_writer;
err  torch_bin_create(torch_bin_writer **out, const char *path);
void torch_bin_declare(torch_bin_writer *w, const char *group, const char *name, stored_type type, int ndim,
                       const int64_t *dim); /* copied; CHECKs that torch has the type */
err  torch_bin_write(torch_bin_writer *w, const void *data);        /* the next tensor, as declared */
err  torch_bin_write_f32(torch_bin_writer *w, const float *values); /* the next tensor (F32, F16, BF16) from f32 */
err  torch_bin_publish(torch_bin_writer *w);                        /* frees w in every case */
void torch_bin_discard(torch_bin_writer *w);                        /* NULL is fine */

#endif
