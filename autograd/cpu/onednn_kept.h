/* What the files around oneDNN share: primitives made once per key and kept, their arguments and scratch.
 * For autograd/cpu/onednn*.c only. */
#ifndef MSD_AUTOGRAD_CPU_ONEDNN_KEPT_H
#define MSD_AUTOGRAD_CPU_ONEDNN_KEPT_H

#include <dnnl.h>

#include "autograd/cpu/onednn.h"

enum { KEY_WORDS = 20, MAX_ARGUMENTS = 8 };

/* The first word of a key. */
enum { KIND_MATMUL = 1, KIND_CONV, KIND_CONV_DX, KIND_BATCH, KIND_CONV_BLOCK, KIND_CONV_UNBLOCK };

/* Everything that a primitive depends on; words 1 to 4 are the sizes that a message names. */
typedef struct key {
    int64_t word[KEY_WORDS];
} key;

/* A primitive for one shape. For convolutions also the weights' layout that it wants. */
typedef struct kept {
    key                    k;
    dnnl_primitive_t       primitive;
    dnnl_primitive_desc_t  desc;
    dnnl_primitive_t       reorder; /* of the weights into their inner layout; NULL: as they lie */
    dnnl_primitive_desc_t  reorder_desc;
    dnnl_memory_desc_t     a, b, c, bias, inner, scratch, reorder_scratch;
} kept;

#define DNNL(call)                             \
    do {                                       \
        dnnl_status_t status_ = (call);        \
        if (status_ != dnnl_success)           \
            return status_;                    \
    } while (0)

/* Fills p (k is set) with its primitive. */
typedef dnnl_status_t onednn_make(onednn *o, kept *p);

/* The primitive of k, made by `make` the first time. `what` names it in messages: "a matrix product". */
err onednn_find(onednn *o, kept **out, const key *k, onednn_make *make, const char *what);
/* p->desc, p->primitive and p->scratch from a described operation; sum: the result is added to the output. */
dnnl_status_t onednn_finish(onednn *o, kept *p, const_dnnl_op_desc_t op, bool sum);
/* E_MEMORY or E_DEVICE: "cpu: oneDNN cannot do WHAT of SIZES (status N)" */
err onednn_refused(dnnl_status_t status, const char *what, const key *k);

typedef struct arguments {
    dnnl_exec_arg_t item[MAX_ARGUMENTS];
    int             count;
} arguments;

dnnl_status_t onednn_bind(onednn *o, arguments *a, int which, const dnnl_memory_desc_t *desc, const void *data);
/* Runs p unless `bound` is a failure already; frees the arguments. */
dnnl_status_t onednn_execute(onednn *o, arguments *a, dnnl_primitive_t p, dnnl_status_t bound);

err  onednn_take(device *d, void **out, size_t bytes); /* scratch; NULL for no bytes */
void onednn_give(device *d, void *memory, size_t bytes);
dnnl_engine_t onednn_engine(onednn *o);

#endif
