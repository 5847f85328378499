/* The CPU's allocator: step and scratch blocks are kept in free lists by size class, because a step
 * asks for the same sizes again and fresh pages cost more than the work on them; weights and state
 * come straight from the heap. Counts live bytes and peaks by lifetime. */
#ifndef MSD_AUTOGRAD_CPU_MEMORY_H
#define MSD_AUTOGRAD_CPU_MEMORY_H

#include "autograd/device.h"

allocator *cpu_allocator_new(void);
void       cpu_allocator_free(allocator *a); /* everything must have been put back */
void       cpu_allocator_trim(allocator *a); /* gives cached free blocks back to the system */

#endif
