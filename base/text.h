/* Small things about text: spelling, UTF-8, and numbers as people read them. */
#ifndef MSD_BASE_TEXT_H
#define MSD_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The name that a misspelt `word` most likely means (edit distance with swaps), or NULL when none is near. */
const char *text_nearest(const char *word, const char *const *names, size_t count);

/* Whether the bytes are UTF-8 (no over-long forms, no surrogates); *bad is the offset of the first wrong byte; it may
 * be NULL. */
bool text_utf8_valid(size_t *bad, const char *text, size_t size);

/* For messages: `text` with control bytes and bytes that are not UTF-8 as \xNN, cut with "..." to fit `room`; returns
 * out. */
const char *text_escaped(char *out, size_t room, const char *text);

const char *text_bytes(char out[32], uint64_t bytes);     /* "512 bytes", "1.5 GiB"; returns out */
/* The bytes that "20GiB", "512 MB", "1.5g" or "1048576" say: KiB.. of 1024, KB.. of 1000, letters alone of 1024. False when it is
 * none of these, or none at all. */
bool        text_bytes_read(uint64_t *out, const char *text);
const char *text_duration(char out[32], double seconds);  /* "0:42", "1:02:03", "?" when not finite; returns out */
const char *text_number(char out[32], double value);      /* the shortest that reads back the same; returns out */

#endif
