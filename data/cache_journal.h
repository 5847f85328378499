/* The working file of `msd prepare`: entries one behind the other, each with its own SHA-256, so that a process killed
 * at any moment leaves all of them whole but perhaps the last, which is cut off at the next opening. */
#ifndef MSD_DATA_CACHE_JOURNAL_H
#define MSD_DATA_CACHE_JOURNAL_H

#include "base/file.h"
#include "data/cache_shard.h"

typedef struct cache_journal cache_journal;

/* Opens or creates; what lies behind the last whole entry is cut off. E_IO, E_DISK_FULL. */
err     cache_journal_open(cache_journal **out, const char *path);
void    cache_journal_close(cache_journal *j); /* NULL is fine */
/* bytes: cache_form_bytes of `form`. After an error nothing of the entry is kept. */
err     cache_journal_add(cache_journal *j, const cache_key *key, const cache_form *form, const void *bytes);
int64_t cache_journal_size(const cache_journal *j);  /* bytes */
int64_t cache_journal_count(const cache_journal *j); /* entries */
const cache_key *cache_journal_key(const cache_journal *j, int64_t i);
/* entry[cache_journal_count] point into the map, which the caller closes when it is done with them. */
err     cache_journal_map(file_map *map, cache_entry *entry, const cache_journal *j);
err     cache_journal_clear(cache_journal *j); /* all entries are elsewhere now */

#endif
