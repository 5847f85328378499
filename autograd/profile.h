/* What primitives cost: a device that hands every call on to another one and measures it. Nothing else knows of it, and
 * who does not open one pays nothing.
 *
 *     TRY(profile_open(&p, dev));
 *     ag *g = ag_new(profile_device(p));   // weights may stay on dev: both share one memory
 *     ...
 *     profile_rows(&row, p);               // slowest first */
#ifndef MSD_AUTOGRAD_PROFILE_H
#define MSD_AUTOGRAD_PROFILE_H

#include "autograd/device.h"

typedef struct profile profile;

/* All calls of one primitive with inputs of these shapes. */
typedef struct profile_row {
    const char *primitive;
    int         ndim[2];                 /* of the two inputs that say most; 0: there is none, or a scalar */
    int64_t     dim[2][TENSOR_MAX_DIM];
    int64_t     calls;
    double      seconds, operations;     /* operations: 2 per multiply-add of matrix work, 0 for the rest */
} profile_row;

/* dev stays the caller's and outlives p. */
err     profile_open(profile **out, device *dev);
void    profile_close(profile *p); /* NULL is fine */
device *profile_device(profile *p);
int     profile_rows(const profile_row **out, profile *p); /* how many; slowest first; valid until the next call */
double  profile_operations(const profile *p);              /* of all calls since the reset */

#endif
