/* From an entry's key to its place. For data/cache*.c. */
#ifndef MSD_DATA_CACHE_INDEX_H
#define MSD_DATA_CACHE_INDEX_H

#include "data/cache_shard.h"

typedef struct cache_place {
    int32_t shard; /* -1: in the journal */
    int32_t table;
    int64_t row;
} cache_place;

typedef struct cache_slot {
    char        key[CACHE_KEY_LENGTH]; /* key[0] 0: free */
    cache_place place;
} cache_slot;

typedef struct cache_index { /* open addressing; zeroed is empty */
    cache_slot *slot;
    uint64_t    slots, used;
} cache_index;

/* NULL: not there. */
const cache_place *cache_index_find(const cache_index *x, const char *key);
/* False when the key is there already; its place is then changed only if it was the journal. */
bool cache_index_add(cache_index *x, const char *key, cache_place place);
void cache_index_free(cache_index *x);

#endif
