/* manifest.json of a cache folder: which shards belong to it, with sizes and SHA-256, what made their entries, and which
 * pictures could not be encoded. Its last line is the SHA-256 of all before, so that no part of it changes unseen. */
#ifndef MSD_DATA_CACHE_MANIFEST_H
#define MSD_DATA_CACHE_MANIFEST_H

#include "base/arena.h"
#include "data/cache_shard.h"

typedef enum cache_encoder {
    CACHE_VAE,
    CACHE_TEXT_ENCODER,   /* with its tokenizer */
    CACHE_TEXT_ENCODER_2, /* likewise */
    CACHE_IMAGE_ENCODER,
    CACHE_ENCODER_COUNT
} cache_encoder;
const char *cache_encoder_name(cache_encoder e); /* "text_encoder_2" */

/* What made the entries: the last `msd prepare`. */
typedef struct cache_origin {
    char        encoder[CACHE_ENCODER_COUNT][65]; /* SHA-256 of weights and configuration */
    stored_type type;                             /* what the entries are rounded to */
    stored_type computed;                         /* what the encoders ran in: F32 or BF16 */
    int64_t     tokens, text_width, pooled_width, phrase_width;
    int64_t     picture_side, picture_tokens, picture_width;
    int64_t     latent_channels, latent_factor;
    double      scaling_factor;
} cache_origin;

typedef struct cache_listed {
    int64_t number; /* shard-NUMBER.h5 */
    int64_t bytes;
    char    hash[65];
} cache_listed;

typedef struct cache_manifest {
    cache_origin  origin;
    cache_listed *shard;
    int64_t       shards;
    cache_key    *unreadable; /* keys of pictures that cannot be decoded */
    int64_t       unreadables;
} cache_manifest;

char *cache_shard_path(arena *memory, const char *folder, int64_t number);

/* FOLDER/manifest.json; arrays live in `memory`. E_CACHE: missing, damaged, of another version or another user. */
err cache_manifest_read(cache_manifest *out, arena *memory, const char *folder);
err cache_manifest_write(const char *folder, const cache_manifest *m); /* published by rename; E_IO, E_DISK_FULL */

#endif
