/* A table of things made once per key, a key being a list of whole numbers (shapes, types, options): algorithms and
 * plans of the libraries. */
#ifndef MSD_AUTOGRAD_CUDA_KEYED_H
#define MSD_AUTOGRAD_CUDA_KEYED_H

#include <stddef.h>
#include <stdint.h>

enum { KEYED_WORDS = 40, KEYED_CHAINS = 256 };

typedef struct keyed_entry {
    struct keyed_entry *next;
    int64_t             key[KEYED_WORDS]; /* zeros behind the words that were given */
    void               *value;
    int                 absent; /* asked for: there is none */
} keyed_entry;

typedef struct keyed {
    keyed_entry *chain[KEYED_CHAINS];
    size_t       count;
} keyed;

/* The entry of a key, made with value NULL where there is none yet. */
keyed_entry *keyed_at(keyed *table, const int64_t *key, int words);
/* Forgets all; `close` (NULL: nothing) gets every value that is not NULL. */
void         keyed_clear(keyed *table, void (*close)(void *value));

#endif
