/* CRC-32C (Castagnoli, polynomial 0x1EDC6F41 reflected; RFC 3720 appendix B.4), as TensorFlow's record files carry it. */
#ifndef MSD_DATA_CRC32C_H
#define MSD_DATA_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *bytes, size_t size);
/* TensorFlow's mask over it: rotated right by 15 bits, plus 0xa282ead8, so that a sum of bytes that hold sums is none. */
uint32_t crc32c_masked(const void *bytes, size_t size);

#endif
