/* SHA-256 by OpenSSL: of memory at once, or piece by piece. */
#ifndef MSD_BASE_HASH_H
#define MSD_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct hash_state hash_state;
hash_state *hash_start(void); /* freed by hash_end */
void        hash_add(hash_state *h, const void *bytes, size_t size);
void        hash_end(char hex[65], hash_state *h); /* 64 lower-case hex digits and NUL */

void hash_memory(char hex[65], const void *bytes, size_t size);

/* FNV-1a, 64 bits: for tables and names, not against forgery. */
uint64_t hash_fnv1a(const void *bytes, size_t size);

/* out: 2 * size digits and NUL. */
void hex_encode(char *out, const uint8_t *bytes, size_t size);

#endif
