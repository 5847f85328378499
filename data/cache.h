/* The encoder cache: a folder of immutable HDF5 shards, the manifest that lists them, and, while `msd prepare` works, a
 * journal of what is not in a shard yet. Entries are found by their key. Nothing here knows what a key stands for.
 *
 *     DIR/manifest.json        DIR/shard-000001.h5 ...        DIR/journal        DIR/.lock
 *
 * A process killed at any moment leaves a whole cache: shards and manifest are published by rename, and the journal
 * loses at most the entry being written. */
#ifndef MSD_DATA_CACHE_H
#define MSD_DATA_CACHE_H

#include "data/cache_manifest.h"

typedef struct cache cache;

/* For reading: checks the manifest and the SHA-256 of every shard before HDF5 sees it. E_CACHE names the file and says
 * `msd prepare`. */
err  cache_open(cache **out, const char *folder);
/* For adding: makes the folder, locks it (E_USAGE when another process has it), sweeps what a killed process left and
 * takes over its journal, and those of processes beside it. Shards that are damaged are dropped with their entries; *dropped counts them. */
err  cache_open_to_add(cache **out, int64_t *dropped, const char *folder);
/* For adding beside the process that holds the lock, which has to have opened the folder: entries go into a journal of this
 * number's own (from 1) until that process takes them over. It is not flushed. */
err  cache_open_beside(cache **out, const char *folder, int number);
/* Takes over what processes beside this one have added and removes their journals; they have to be closed. */
err  cache_take_beside(cache *c);
void cache_close(cache *c); /* NULL is fine; does not flush */

const cache_origin *cache_get_origin(const cache *c); /* encoder[] empty: never prepared */
void cache_set_origin(cache *c, const cache_origin *o);

bool cache_has(const cache *c, const cache_key *key);
bool cache_unreadable(const cache *c, const cache_key *key);
void cache_add_unreadable(cache *c, const cache_key *key);
const cache_key *cache_unreadables(const cache *c, int64_t *count); /* until the next one is added */

/* values (cache_form_count) in f32 of an entry that is in a shard; any thread. E_CACHE: it is not there, has another
 * form, or its checksum is wrong. */
err cache_read(float *values, cache *c, const cache_key *key, const cache_form *form);

/* values are rounded to form->type; a key that is there already is left as it is. Goes into the journal, and from time
 * to time from there into a shard. E_IO, E_DISK_FULL. */
err cache_add(cache *c, const cache_key *key, const cache_form *form, const float *values);
/* The journal becomes a shard, and the manifest is written when anything changed. */
err cache_flush(cache *c);

/* What is stored, by kind. */
typedef struct cache_counts {
    int64_t entries[CACHE_KIND_COUNT], bytes[CACHE_KIND_COUNT]; /* bytes of the entries */
    int64_t shards, file_bytes;
} cache_counts;
void cache_count(cache_counts *out, const cache *c);

/* Reads every entry. E_CACHE for the first that is wrong or not finite. seen(user, done, total) reports progress; may be
 * NULL. */
err cache_verify(cache *c, void (*seen)(void *user, int64_t done, int64_t total), void *user);

/* Drops every entry for which keep() is false and gives the space back; *freed: bytes of files. Flushed before and
 * after. */
err cache_collect(int64_t *freed, int64_t *dropped, cache *c, bool (*keep)(void *user, const cache_key *key), void *user);

#endif
