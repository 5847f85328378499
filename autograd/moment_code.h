/* The 8-bit code of AdamW's moments: block-wise dynamic quantisation (Dettmers, Lewis, Shleifer, Zettlemoyer, "8-bit
 * optimizers via block-wise quantization", 2021, section 2 and appendix F). A moment is map[code] times the largest
 * magnitude of its block. The map's numbers lie dense near 0 and cover seven decades:
 *     decade k = 0..6 has n of them at 10^(k-6) (0.1 + 0.9 (j + 1/2) / n), j = 0..n-1,
 *     n = 2^k on either side of 0 (signed, for the first moment), n = 2^(k+1) above it (for the second); and 0 and 1. */
#ifndef MSD_AUTOGRAD_MOMENT_CODE_H
#define MSD_AUTOGRAD_MOMENT_CODE_H

#include <stdbool.h>
#include <stdint.h>

enum { MOMENT_BLOCK = 256, MOMENT_CODES = 256 };

typedef struct moment_map {
    float value[MOMENT_CODES];  /* rising */
    float middle[MOMENT_CODES]; /* [i]: between value[i] and value[i+1]; the last is infinite. A number x has the code
                                   of the first middle that is not below it */
} moment_map;

void    moment_map_make(moment_map *out, bool is_signed);
int64_t moment_blocks(int64_t count); /* of so many numbers; the last may be shorter */

#endif
