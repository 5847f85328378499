/* What a device may offer besides primitives: to keep the work of many calls and to have it done again by one, as
 * CUDA's graphs do. The kept work reads and writes the same places every time, so that what changes from one time to
 * the next has to lie in memory: in tensors, or in pinned memory of the host that upload and download name. */
#ifndef MSD_AUTOGRAD_CAPTURE_H
#define MSD_AUTOGRAD_CAPTURE_H

#include "autograd/device.h"

typedef struct captured captured; /* the device's own */

struct capture {
    /* Host memory that the device reads and writes while the host does other things; 64-byte aligned. */
    err  (*pin)(device *d, void **out, size_t bytes);
    void (*unpin)(device *d, void *memory);
    /* As the primitives, with `pinned` of pin: read or written when it is the call's turn, not before it returns. */
    err  (*upload)(device *d, tensor *y, const void *pinned, dtype type);
    err  (*download)(device *d, void *pinned, dtype type, const tensor *x);
    /* Calls between begin and end are kept instead of done. end has to be called after each begin that was OK, also
     * where a call failed between; *out is NULL when it is not OK. */
    err  (*begin)(device *d);
    err  (*end)(device *d, captured **out);
    /* Has kept work done, once, after what was asked of the device before. */
    err  (*launch)(device *d, captured *c);
    void (*drop)(device *d, captured *c); /* NULL is fine */
    /* Returns when all that was asked of the device is done, with what download returns. */
    err  (*wait)(device *d);
};

#endif
