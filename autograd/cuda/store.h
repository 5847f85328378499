/* What was found out once about a card and its libraries, kept on disk for the next process: algorithms that were timed,
 * plans that were built. One file an entry in $XDG_CACHE_HOME/msd/cuda, else ~/.cache/msd/cuda (MSD_CUDA_CACHE=off:
 * nowhere); its name is the hash of what it belongs to (card, versions, kind, key), which its contents repeat. A file that
 * is damaged, or was copied there from another's name, is passed over with one line, removed and made anew; a folder that
 * others may write to is not used. Entries never change: who comes second keeps the first one's. */
#ifndef MSD_AUTOGRAD_CUDA_STORE_H
#define MSD_AUTOGRAD_CUDA_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cuda_store cuda_store;

/* identity: card, its capability and the libraries' versions. NULL: there is nowhere to keep things, which is no error. */
cuda_store *cuda_store_open(const char *identity);
void        cuda_store_close(cuda_store *s); /* NULL is fine */

/* The entry of a key (keyed.h's words), *payload on the heap; false: there is none. s NULL: none. */
bool cuda_store_get(void **payload, size_t *bytes, cuda_store *s, const char *kind, const int64_t *key, int words);
/* Keeps it, unless the entry is there already. What cannot be written is said once and not tried again. */
void cuda_store_put(cuda_store *s, const char *kind, const int64_t *key, int words, const void *payload, size_t bytes);
/* The library refused the entry: said and removed. */
void cuda_store_refuse(cuda_store *s, const char *kind, const int64_t *key, int words);

#endif
