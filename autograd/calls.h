/* The calls of a step, noted while the step runs and done afterwards: as they are, or kept by the device and done
 * again when another step has noted the very same ones. A step's host side runs every time; what it uploads is copied
 * as it is noted, what it downloads is there when the calls have been done. */
#ifndef MSD_AUTOGRAD_CALLS_H
#define MSD_AUTOGRAD_CALLS_H

#include "autograd/capture.h"

typedef struct call_tensor { /* what primitives read of a tensor */
    void   *data;
    int64_t dim[TENSOR_MAX_DIM], stride[TENSOR_MAX_DIM];
    int32_t type, ndim, layout, there; /* there 0: the argument is NULL */
} call_tensor;

typedef union call_value { /* all 8 bytes are set */
    double  number;
    int64_t tensor;  /* index */
    void   *pinned;
} call_value;

typedef struct call {
    err   (*run)(device *d, tensor *const *t, const call_value *v); /* its tensors, its other arguments */
    int64_t tensors, values; /* of the arguments: how many */
} call;

typedef struct call_list {
    call        *call;
    call_tensor *tensor; /* of all calls, in order */
    call_value  *value;  /* likewise */
    int64_t      calls, tensors, values;
    int64_t      room[3];
    const void  *place[2]; /* where the calls get scratch: the plan, its block */
} call_list;

typedef struct call_download {
    void  *host;
    void  *pinned;
    size_t bytes;
} call_download;

/* Notes the calls of the device that noting_device gives, for another one. */
typedef struct noting {
    device        *to;        /* where the calls are to be done; the owner's */
    call_list      list;
    struct pinned_piece *piece, *at; /* pinned memory: the first piece, the one in use */
    size_t         used;      /* of it; steps of the same sizes get the same places */
    call_download *download;
    int64_t        downloads, download_room;
    /* asked before each call: is it to be done at once, as all after it; or NULL */
    bool         (*direct)(const struct noting *n);
    bool           over;      /* calls are done at once */
} noting;

/* dev's calls go to n from now on, until noting_end: of a step that failed they are given up. n->to is set. */
void noting_begin(noting *n, device *dev);
void noting_end(noting *n, device *dev);
void noting_deliver(const noting *n); /* copies what was downloaded to where the step wanted it: the calls were done */
void noting_free(noting *n);

bool calls_same(const call_list *a, const call_list *b);
err  calls_run(const call_list *list, device *d);
void calls_free(call_list *list);

#endif
