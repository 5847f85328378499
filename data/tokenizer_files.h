/* What the files of a tokenizer folder say, checked. Used by tokenizer.c alone. */
#ifndef MSD_DATA_TOKENIZER_FILES_H
#define MSD_DATA_TOKENIZER_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "data/bpe.h"

/* A token that is looked for in the text itself: before normalisation, or behind it (`normalized`). */
typedef struct special_token {
    const char *text;
    size_t      size;
    int32_t     id;
    bool        normalized;
} special_token;

typedef struct tokenizer_files {
    arena          memory; /* the special tokens */
    bpe            merges;
    int32_t        size; /* largest id + 1 */
    int32_t        start, end, pad;
    special_token *special;
    size_t         special_count;
} tokenizer_files;

err  tokenizer_files_read(tokenizer_files *out, const char *folder);
void tokenizer_files_free(tokenizer_files *f);

#endif
