/* What a network is, for the cache's keys: SHA-256 of its config.json, of its files of weights and of its tokenizer's
 * files, whole. */
#ifndef MSD_DATA_COMPONENT_HASH_H
#define MSD_DATA_COMPONENT_HASH_H

#include "data/file_stamps.h"

/* component, tokenizer: subfolders of `folder`, or NULL (component: the folder itself; tokenizer: none). E_MODEL as
 * weights_open_component; E_IO. */
err component_hash(char hex[65], file_stamps *s, const char *folder, const char *component, const char *tokenizer);

#endif
