/* What CLIP's tokenizer does to a text before byte-pair encoding (transformers 5: NFC, every run of white space to one
 * space, lower case; then words by a regular expression). Letters and marks are those of the Unicode of utf8proc and
 * PCRE2 (14 or 15 in Debian 12); of all code points only ones added since are cut otherwise than by transformers. */
#ifndef MSD_DATA_CLIP_TEXT_H
#define MSD_DATA_CLIP_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { CLIP_TEXT_MAX = 64 * 1024 * 1024, CLIP_TEXT_MAX_MARKS = 1000 };

/* E_FORMAT naming the byte when the text is not UTF-8, is longer than CLIP_TEXT_MAX bytes, or stacks more than
 * CLIP_TEXT_MAX_MARKS combining marks on one letter (whose sorting would take quadratic time). */
err clip_text_check(const char *text, size_t size);

/* The normalised text, of *out_size bytes and NUL-terminated; the caller frees it. `text` has passed the check. */
err clip_text_normalize(char **out, size_t *out_size, const char *text, size_t size);

/* Unicode's White_Space. */
bool clip_text_is_space(int32_t code_point);

/* Cuts normalised text into words. */
typedef struct clip_text_splitter clip_text_splitter;
err  clip_text_splitter_new(clip_text_splitter **out);
void clip_text_splitter_free(clip_text_splitter *s);

/* Calls `each` with every word's first byte and size, in order. */
err clip_text_split(const clip_text_splitter *s, const char *text, size_t size,
                    void (*each)(void *context, const char *word, size_t size), void *context);

#endif
