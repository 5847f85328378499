#include "autograd/cuda/keyed.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/error.h"

/* FNV-1a over the words. */
static size_t chain_of(const int64_t key[KEYED_WORDS])
{
    uint64_t hash = 14695981039346656037u;
    for (int i = 0; i < KEYED_WORDS; i++)
        hash = (hash ^ (uint64_t)key[i]) * 1099511628211u;
    return (size_t)((hash ^ hash >> 32) % KEYED_CHAINS);
}

keyed_entry *keyed_at(keyed *table, const int64_t *key, int words)
{
    CHECK(words <= KEYED_WORDS, "a key of %d words", words);
    int64_t full[KEYED_WORDS] = {0};
    memcpy(full, key, (size_t)words * sizeof *key);
    keyed_entry **chain = &table->chain[chain_of(full)];
    for (keyed_entry *e = *chain; e; e = e->next)
        if (!memcmp(e->key, full, sizeof full))
            return e;
    keyed_entry *made = heap_get(sizeof *made);
    *made = (keyed_entry){.next = *chain};
    memcpy(made->key, full, sizeof full);
    *chain = made;
    table->count++;
    return made;
}

void keyed_clear(keyed *table, void (*close)(void *value))
{
    for (int i = 0; i < KEYED_CHAINS; i++)
        for (keyed_entry *e = table->chain[i], *next; e; e = next) {
            next = e->next;
            if (e->value && close)
                close(e->value);
            free(e);
        }
    *table = (keyed){0};
}
