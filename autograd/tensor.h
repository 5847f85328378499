/* Tensors. A tensor says its dtype, its shape (outermost first, as torch prints it), its device,
 * and either has a gradient or none. Activations of images are NHWC on every device; files keep
 * their own order. Strides are in elements; an op that needs contiguous input says so. */
#ifndef MSD_AUTOGRAD_TENSOR_H
#define MSD_AUTOGRAD_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

enum { TENSOR_MAX_DIM = 5 };

typedef enum dtype { DT_F32, DT_BF16, DT_F16, DT_F8E4M3, DT_I32, DT_U8, DTYPE_COUNT } dtype;
const char *dtype_name(dtype d);  /* "f32" */
size_t      dtype_bytes(dtype d); /* of one element */

/* What memory is for, which is how long it lives (design.md): frozen weights for the whole run;
 * training state (masters, moments, parameter gradients) likewise; step for activations and their
 * gradients; scratch inside one primitive. */
typedef enum lifetime { LIFE_WEIGHTS, LIFE_STATE, LIFE_STEP, LIFE_SCRATCH, LIFETIME_COUNT } lifetime;
const char *lifetime_name(lifetime life);

typedef struct device device;

/* A counted block of device memory. Views share it. */
typedef struct storage {
    device  *dev;
    void    *data;
    size_t   bytes;
    lifetime life;
    int      references;
} storage;

typedef struct tensor {
    const char    *name; /* a weight's path, or the op that made it; for messages */
    dtype          type;
    int            ndim;
    int64_t        dim[TENSOR_MAX_DIM];
    int64_t        stride[TENSOR_MAX_DIM];
    device        *dev;
    storage       *mem;  /* NULL once the data was released */
    void          *data; /* first element; NULL once released */
    int            layout;     /* 0: as dim and stride say; else the device's own (device.h, lay_out), which only the
                                  weight's own primitives and download read */
    bool           needs_grad;
    bool           recorded;   /* made by a call on the tape, which releases its gradient */
    bool           grad_fresh; /* the gradient holds nothing yet: the first writer overwrites it */
    int            watched;    /* while backward is prepared: a number of autograd/completion.c's; else 0 */
    struct tensor *base;       /* of a view: the tensor whose gradient its own is part of; else NULL */
    int64_t        offset;     /* of a view: of its first element in base's data, in elements */
    struct tensor *grad;       /* same shape, contiguous; same dtype, but f32 for training state whatever its dtype;
                                  NULL until a writer asks */
} tensor;

/* Allocates a contiguous tensor; its struct lives in `owner`, its data until tensor_release.
 * E_MEMORY names the tensor, the need and what is in use. */
err tensor_new(tensor **out, arena *owner, device *dev, lifetime life, const char *name, dtype type, int ndim,
               const int64_t *dim);
/* A tensor that shares x's storage; the caller sets shape, strides and data inside it. */
tensor *tensor_view(arena *owner, tensor *x, const char *name);
/* Rows start.. of x along its outermost dimension, as a view whose gradient is part of x's. */
tensor *tensor_rows_view(arena *owner, tensor *x, const char *name, int64_t start, int64_t rows);
/* The part of base's gradient that belongs to the view t, as a view; base has to have one. */
tensor *tensor_grad_view(arena *owner, const tensor *t);
void    tensor_release(tensor *t); /* drops its storage reference; data becomes NULL; NULL is fine */

int64_t tensor_count(const tensor *t);            /* number of elements; 1 for a scalar */
int64_t tensor_count_from(const tensor *t, int from); /* product of dim[from..ndim) */
bool    tensor_contiguous(const tensor *t);
bool    tensor_same_shape(const tensor *a, const tensor *b);
void    tensor_set_shape(tensor *t, int ndim, const int64_t *dim); /* with contiguous strides */
char   *tensor_shape_text(arena *a, const tensor *t);              /* "(2,77,768)" */

/* Host to device and back, converting between f32 and the tensor's type where they differ.
 * `host` holds tensor_count(t) elements of type `type`, contiguous. */
err tensor_upload(tensor *t, const void *host, dtype type);
err tensor_download(void *host, dtype type, const tensor *t);

#define DIMS(...) (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__}

#endif
