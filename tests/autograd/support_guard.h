/* An allocator around another that hands out memory full of NaN between guard bytes, and finds writes past the ends. */
#ifndef MSD_TESTS_SUPPORT_GUARD_H
#define MSD_TESTS_SUPPORT_GUARD_H

#include "autograd/device.h"

allocator *guard_new(allocator *inner);
allocator *guard_free(allocator *a); /* everything must have been put back; returns the inner one */
/* Blocks whose guard bytes were written, since guard_new, among those put back and those still out. */
int        guard_damaged(allocator *a);

#endif
