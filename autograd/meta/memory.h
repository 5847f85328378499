/* Memory that is not there: addresses from a range that no machine maps, each byte given out once. */
#ifndef MSD_AUTOGRAD_META_MEMORY_H
#define MSD_AUTOGRAD_META_MEMORY_H

#include "autograd/meta/meta.h"

allocator *meta_allocator_new(allocation_log *log); /* log stays the caller's and outlives the allocator */
void       meta_allocator_free(allocator *a);       /* everything must have been put back */
void       meta_allocator_reset(allocator *a);      /* empties the log, peaks start at what is in use */

#endif
