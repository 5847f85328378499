/* What is in a file of tensors or in a folder of models: for `msd inspect`. */
#ifndef MSD_DATA_INSPECT_H
#define MSD_DATA_INSPECT_H

#include <stdio.h>

#include "data/adapter_layout.h"
#include "data/model_kind.h"
#include "data/weights.h"

/* One file, or one component of a folder. */
typedef struct inspected_part {
    const char         *name;    /* the file, relative to the folder that is inspected */
    const char         *problem; /* why it cannot be read, or NULL; with one only name is set */
    const char         *form;    /* "safetensors", "torch .bin", "2 shards" */
    const char         *class_name; /* what config.json beside it says, or NULL */
    model_kind          kind;
    bool                sized;   /* an adapter that is whole: sizes are set */
    adapter_file_sizes  sizes;
    const char         *misfit;  /* an adapter that is not whole: what is wrong */
    const tensor_table *tensors;
    const text_pair    *metadata;
    size_t              metadata_count;
    int64_t             parameters;                 /* numbers in all tensors */
    uint64_t            bytes;                      /* of data */
    int64_t             of_type[STORED_TYPE_COUNT]; /* tensors of each type */
    weights            *weights;
} inspected_part;

typedef struct inspection {
    const char     *path;
    bool            folder;
    inspected_part *part; /* parts of them */
    size_t          parts, capacity;
    arena           memory;
} inspection;

/* A file of either form, a shards' index, or a folder: a pipeline, one model, a step, a run. E_MODEL when the file
 * cannot be read or the folder holds no weights; a component that cannot be read is a part with a problem. */
err  inspect(inspection **out, const char *path);
void inspect_free(inspection *i); /* NULL is fine */

/* For people: of a file all tensors, of a folder one paragraph a component. */
void inspect_print(FILE *to, const inspection *i);
/* One line: {"path", "parts": [{"name", "kind", "description", "form", "class", "parameters", "bytes", "dtypes":
 * {"F32": 3}, "sizes", "metadata", "tensors": [{"name", "dtype", "shape"}]}]}; a part with a problem: {"name",
 * "problem"}. */
void inspect_print_json(FILE *to, const inspection *i);

#endif
