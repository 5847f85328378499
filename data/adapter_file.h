/* Adapter files of either form: .safetensors, or the reference implementation's ms_adapter.bin (a dict of image_proj,
 * ms_adapter and dummy_image_tokens). Both have the same flattened names; what a file is, is decided by its content. */
#ifndef MSD_DATA_ADAPTER_FILE_H
#define MSD_DATA_ADAPTER_FILE_H

#include "data/adapter_layout.h"
#include "data/weights.h"

typedef struct adapter_file {
    adapter_file_sizes sizes;
    tensor_table       tensors; /* all, in the reference's order */
    weights           *weights; /* the same as a source: &a->weights->source */
    tensor_file        file;    /* whose metadata may tell more */
} adapter_file;

/* E_MODEL names the file and everything that does not fit, or what the file is instead. */
err  adapter_file_open(adapter_file **out, const char *path);
void adapter_file_close(adapter_file *a); /* NULL is fine */

/* The metadata of an adapter's .safetensors: format, its sizes, and base (hash of the UNet it was trained for) and step
 * where they are known (NULL otherwise). *out, sorted by key, lives in `memory`; returns how many. */
size_t adapter_file_metadata(const text_pair **out, arena *memory, const adapter_file_sizes *sizes, const char *base,
                             const char *step);

/* Writes tensors with flattened names, in the order given; the form follows the ending of `path`: .safetensors or .bin.
 * type F32, F16 or BF16; STORED_TYPE_COUNT: each as it is, to the bit (converting to its own type keeps the bits too).
 * E_USAGE for another ending, E_NUMERIC when a number does not fit f16, E_IO, E_DISK_FULL, E_MEMORY. */
err adapter_file_write(const char *path, const stored_tensor *tensors, size_t count, stored_type type,
                       const text_pair *metadata, size_t metadata_count);

/* Writes the adapter of `src` to `dst`. src: a step folder, a run folder (its newest step; its own adapter.safetensors
 * when there is no step), or an adapter file. E_CHECKPOINT when a folder holds none; otherwise as above. */
err adapter_export(const char *dst, const char *src, stored_type type);
/* The adapter file that `src` (as in adapter_export) stands for. Caller frees. */
err adapter_find(char **path, const char *src);

#endif
