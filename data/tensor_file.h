/* A file of tensors of either form, safetensors or torch .bin, told apart by content and never by name. */
#ifndef MSD_DATA_TENSOR_FILE_H
#define MSD_DATA_TENSOR_FILE_H

#include "data/file_kind.h"
#include "data/safetensors.h"
#include "data/torch_bin.h"

typedef struct tensor_file {
    const tensor_table *tensors;
    const text_pair    *metadata; /* metadata_count, sorted by key; a .bin has none */
    size_t              metadata_count;
    file_kind           kind;     /* FILE_SAFETENSORS or FILE_ZIP */
    file_map            map;
    safetensors        *safetensors; /* one of these two */
    torch_bin          *torch;
} tensor_file;

/* E_IO; E_FORMAT with the path and what the file is instead or what is wrong in it. */
err  tensor_file_open(tensor_file *out, const char *path);
void tensor_file_close(tensor_file *f); /* zeroed is fine */
const char *tensor_file_metadata(const tensor_file *f, const char *key); /* NULL when absent */

#endif
