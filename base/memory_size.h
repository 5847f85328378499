/* How much memory there is. */
#ifndef MSD_BASE_MEMORY_SIZE_H
#define MSD_BASE_MEMORY_SIZE_H

#include <stdint.h>

uint64_t memory_size(void);      /* bytes of the machine */
uint64_t memory_available(void); /* that programs can still take: free pages and those the kernel would give up; 0: unknown */

#endif
