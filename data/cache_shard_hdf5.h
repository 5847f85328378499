/* What writing and reading shards share of HDF5. For data/cache_shard*.c only. */
#ifndef MSD_DATA_CACHE_SHARD_HDF5_H
#define MSD_DATA_CACHE_SHARD_HDF5_H

#include <hdf5.h>

#include "data/cache_shard.h"

#define SHARD_KEYS "_keys"
enum { SHARD_NAME = 128 };

/* To be called before other calls of a thread: HDF5 prints nothing, loads no plugins and leaves no exit handler. */
void shard_library(void);
void shard_table_name(char out[SHARD_NAME], const cache_form *f);
bool shard_table_parse(cache_form *out, const char *name);
hid_t shard_type(stored_type type, bool in_file); /* f16 and bf16 lie as their bits; not to be closed */
void shard_release(hid_t a, hid_t b, hid_t c);    /* spaces and property lists; -1: none */

#endif
