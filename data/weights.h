/* Sources of weights from files: one .safetensors, one torch .bin, or a set of shards by its index. */
#ifndef MSD_DATA_WEIGHTS_H
#define MSD_DATA_WEIGHTS_H

#include "autograd/weights.h"
#include "data/tensor_file.h"

typedef struct weights {
    weight_source source; /* what model/ is handed: &w->source */
    tensor_table  all;    /* the tensors of all shards */
    tensor_file  *file;   /* files of them */
    const char  **file_path; /* (files) */
    size_t        files;
    char         *path;   /* of the file or index that was opened */
    arena         memory;
} weights;

/* Opens a file of weights, or an index.json of shards (a file that ends in .json). Errors are E_MODEL (a missing
 * file too) and name the file; every missing shard and every tensor that is not where the index says is named. */
err weights_open(weights **out, const char *path);

/* Opens the weights of FOLDER/COMPONENT ("unet", "vae", "text_encoder" ...; NULL: of FOLDER itself), as diffusers and
 * transformers look for them: whole, then sharded; safetensors before .bin; full precision before fp16. E_MODEL lists
 * what was looked for. source.label is "COMPONENT/file". */
err weights_open_component(weights **out, const char *folder, const char *component);

/* Whether that folder holds any file weights_open_component looks for. */
bool weights_present(const char *folder, const char *component);

/* Weights from tensors in memory, which must outlive *out; for files that hold something else beside (adapters). */
err weights_from_table(weights **out, const tensor_table *tensors, const char *label);

void weights_close(weights *w); /* NULL is fine */

#endif
