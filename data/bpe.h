/* Byte-pair encoding of one word: starting from its bytes, the neighbours whose merge stands first in merges.txt are
 * joined until no merge is left. The last byte carries "</w>" from the start. */
#ifndef MSD_DATA_BPE_H
#define MSD_DATA_BPE_H

#include <stddef.h>
#include <stdint.h>

typedef struct token_list { /* grows by itself; zeroed when empty */
    int32_t *id;
    size_t   count, capacity;
} token_list;
void token_list_add(token_list *l, int32_t id);
void token_list_free(token_list *l);

typedef struct bpe_merge bpe_merge;
typedef struct bpe {
    int32_t    byte_id[256], last_byte_id[256]; /* of a byte within a word, and at its end */
    bpe_merge *merges;                          /* hash table by the pair of ids */
    size_t     capacity, count;
} bpe;

/* Room for `merges` calls of bpe_add; bpe_free releases it. A pair given twice keeps the later rank. */
void bpe_reserve(bpe *b, size_t merges);
void bpe_add(bpe *b, int32_t left, int32_t right, int32_t rank, int32_t joined);
void bpe_free(bpe *b);

/* Scratch of bpe_encode, kept between words; zeroed when empty. */
typedef struct bpe_scratch {
    struct bpe_symbol  *symbols;
    struct bpe_waiting *heap;
    size_t              symbol_room, heap_room;
} bpe_scratch;
void bpe_scratch_free(bpe_scratch *s);

/* Appends the tokens of a word of `size` >= 1 bytes; O(size log size). */
void bpe_encode(token_list *out, bpe_scratch *scratch, const bpe *b, const uint8_t *word, size_t size);

#endif
