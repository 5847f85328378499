/* Where weights come from: the seam between data/, which opens files, and model/, which never does.
 * Filled by data/weights.c from files and by tests from memory. */
#ifndef MSD_AUTOGRAD_WEIGHTS_H
#define MSD_AUTOGRAD_WEIGHTS_H

#include "autograd/tensor.h"

/* A weight as it lies in a file. `data` stays valid while the source is open; it need not be aligned. */
typedef struct weight_view {
    dtype       type; /* DTYPE_COUNT: a type no network takes; type_name says which */
    const char *type_name;
    int         ndim;
    int64_t     dim[TENSOR_MAX_DIM]; /* of the first TENSOR_MAX_DIM dimensions */
    const void *data;
} weight_view;

typedef struct weight_source weight_source;
struct weight_source {
    const char *label; /* for messages: "unet/diffusion_pytorch_model.safetensors" */
    bool        (*find)(const weight_source *s, weight_view *out, const char *name);
    size_t      count;
    const char *(*name)(const weight_source *s, size_t i); /* i < count; for reporting unused ones */
    /* A view was used and is not needed soon, so that its memory can go; it stays valid. NULL: nothing to do. */
    void        (*done)(const weight_source *s, const weight_view *v);
};

#endif
