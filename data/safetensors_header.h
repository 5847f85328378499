/* The JSON header of a safetensors file: its own scanner, because the format allows much less than JSON does
 * (no duplicate keys at any level, whole numbers only, no unknown fields) and errors should say which rule broke. */
#ifndef MSD_DATA_SAFETENSORS_HEADER_H
#define MSD_DATA_SAFETENSORS_HEADER_H

#include "data/safetensors.h"

/* Fills s->tensors (names, types, shapes, counts, bytes; data = data_begin + offset) and s->metadata from `size`
 * header bytes, and checks everything the format says, the data section being `data_bytes` long. E_FORMAT. */
err safetensors_scan_header(safetensors *s, const char *header, size_t size, const uint8_t *data, uint64_t data_bytes);

#endif
