/* One file of the encoder cache: an HDF5 file that is written once, whole, and never changed. It holds tables of equal
 * entries, one chunk (with fletcher32) an entry:
 *
 *     latent_f32_2x64x64x4        (N,2,64,64,4)  float, or uint16 where the type is f16 or bf16: the bits
 *     latent_f32_2x64x64x4_keys   (N,64)         uint8: the entries' keys as hexadecimal digits
 *
 * HDF5 files can harm the program that opens them (docs/FORMATS.md, Cache): only files whose SHA-256 stands in the
 * manifest of our own folder are opened; that is the caller's duty. One thread at a time. */
#ifndef MSD_DATA_CACHE_SHARD_H
#define MSD_DATA_CACHE_SHARD_H

#include "data/stored.h"

typedef enum cache_kind {
    CACHE_LATENT,  /* (2,h,w,C): mean and deviation of the VAE's posterior */
    CACHE_PROMPT,  /* (T,X): both text encoders' hidden states */
    CACHE_POOLED,  /* (P): text_embeds of encoder 2 */
    CACHE_PHRASE,  /* (E): pooler_output of encoder 1 */
    CACHE_PICTURE, /* (L,D): hidden states of the image encoder */
    CACHE_KIND_COUNT
} cache_kind;

const char *cache_kind_name(cache_kind k); /* "latent" */

enum { CACHE_MAX_DIM = 4, CACHE_KEY_LENGTH = 64 };

typedef struct cache_key {
    char hex[CACHE_KEY_LENGTH + 1]; /* SHA-256 of all that the entry depends on */
} cache_key;

/* What the entries of one table are. */
typedef struct cache_form {
    cache_kind  kind;
    stored_type type; /* STORED_F32, STORED_F16, STORED_BF16 */
    int         ndim; /* 1..CACHE_MAX_DIM */
    int64_t     dim[CACHE_MAX_DIM];
} cache_form;

int64_t cache_form_count(const cache_form *f); /* numbers of an entry; 0 when the form is none */
size_t  cache_form_bytes(const cache_form *f);
bool    cache_form_equal(const cache_form *a, const cache_form *b);

typedef struct cache_entry {
    cache_key   key;
    cache_form  form;
    const void *bytes; /* cache_form_bytes of `form.type` */
} cache_entry;

/* Writes the entries as one shard, published under `path` only when whole. *size and hex: of the file. E_IO,
 * E_DISK_FULL, E_MEMORY. */
err cache_shard_write(size_t *size, char hex[65], const char *path, const cache_entry *entry, size_t count);

typedef struct cache_table {
    cache_form form;
    int64_t    rows;
    char      *keys; /* (rows, CACHE_KEY_LENGTH), no NUL */
} cache_table;

typedef struct cache_shard {
    char        *path;
    cache_table *table;
    int          tables;
    int64_t      file;     /* HDF5's handle; -1: closed */
    int64_t     *dataset;  /* (tables) handles */
} cache_shard;

/* Lists the tables and reads the keys; everything about them is checked. E_CACHE names the file. */
err  cache_shard_open(cache_shard *out, const char *path);
/* The bytes of a row, checksum verified; opens the file again when it was closed. E_CACHE. */
err  cache_shard_read(void *bytes, cache_shard *s, int table, int64_t row);
void cache_shard_rest(cache_shard *s); /* closes the file, keeps the tables: descriptors are few */
void cache_shard_close(cache_shard *s);

#endif
