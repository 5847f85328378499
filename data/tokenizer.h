/* CLIP's tokenizer with transformers 5's meaning: text to token ids, by the files of a pipeline's tokenizer folder. */
#ifndef MSD_DATA_TOKENIZER_H
#define MSD_DATA_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "data/bpe.h"

enum { TOKENIZER_LENGTH = 77 }; /* ids of a padded text, start and end included */

typedef struct tokenizer tokenizer; /* constant after opening: threads may share it */

/* Reads vocab.json and merges.txt, or tokenizer.json where they are missing, and the special tokens from
 * tokenizer_config.json and special_tokens_map.json where they are present. E_IO, E_FORMAT. */
err  tokenizer_open(tokenizer **out, const char *folder);
void tokenizer_close(tokenizer *t); /* NULL is fine */

int32_t tokenizer_size(const tokenizer *t); /* largest id + 1: rows the text encoder's embedding needs */
int32_t tokenizer_start(const tokenizer *t);
int32_t tokenizer_end(const tokenizer *t);
int32_t tokenizer_pad(const tokenizer *t);

/* Appends the ids of a text (without start and end). Special tokens spelt out in the text become their ids. E_FORMAT
 * names the byte where the text is not UTF-8; any other bytes, NUL too, are text. */
err tokenizer_encode(token_list *out, const tokenizer *t, const char *text, size_t size);

/* start, ids, end, padding. Of more than 75 ids the rest is cut off: *cut says how many; it may be NULL. */
err tokenizer_encode_padded(int32_t ids[TOKENIZER_LENGTH], size_t *cut, const tokenizer *t, const char *text,
                            size_t size);

/* How many ids a text has (without start and end). */
err tokenizer_count(size_t *count, const tokenizer *t, const char *text, size_t size);

#endif
