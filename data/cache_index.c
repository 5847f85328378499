#include "data/cache_index.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/hash.h"

/* The slot of the key, or the free one where it belongs. */
static cache_slot *locate(const cache_index *x, const char *key)
{
    uint64_t i = hash_fnv1a(key, CACHE_KEY_LENGTH) & (x->slots - 1);
    while (x->slot[i].key[0] && memcmp(x->slot[i].key, key, CACHE_KEY_LENGTH))
        i = (i + 1) & (x->slots - 1);
    return &x->slot[i];
}

const cache_place *cache_index_find(const cache_index *x, const char *key)
{
    const cache_slot *s = x->slots ? locate(x, key) : NULL;
    return s && s->key[0] ? &s->place : NULL;
}

static void grow(cache_index *x)
{
    cache_index old = *x;
    x->slots = old.slots ? 2 * old.slots : 1024;
    x->slot = heap_get((size_t)x->slots * sizeof *x->slot);
    for (uint64_t i = 0; i < x->slots; i++)
        x->slot[i].key[0] = 0;
    for (uint64_t i = 0; i < old.slots; i++)
        if (old.slot[i].key[0])
            *locate(x, old.slot[i].key) = old.slot[i];
    free(old.slot);
}

bool cache_index_add(cache_index *x, const char *key, cache_place place)
{
    if (2 * (x->used + 1) > x->slots)
        grow(x);
    cache_slot *s = locate(x, key);
    bool fresh = !s->key[0];
    if (fresh) {
        memcpy(s->key, key, CACHE_KEY_LENGTH);
        x->used++;
    }
    if (fresh || s->place.shard < 0)
        s->place = place;
    return fresh;
}

void cache_index_free(cache_index *x)
{
    free(x->slot);
    *x = (cache_index){0};
}
