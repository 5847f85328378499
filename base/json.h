/* JSON by jansson, with limits, and with errors that name the file and the key. Values are jansson's own (json_t), to
 * be released with json_decref. Functions are prefixed json_file_, json_text_ and json_get_ (jansson has none of
 * these). */
#ifndef MSD_BASE_JSON_H
#define MSD_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { JSON_DEPTH = 64 }; /* deepest nesting accepted */

typedef enum json_duplicates { JSON_KEEP_LAST, JSON_REFUSE_DUPLICATES } json_duplicates;

/* `name` stands in messages: "name:LINE:COLUMN: ..." (E_FORMAT); NULL for one line of many: "... (column N)". Refused:
 * BOM, not UTF-8, NUL, deeper than JSON_DEPTH, numbers beyond int64 or double, anything behind the value. The top may
 * be any value. */
err json_text_parse(json_t **out, const char *text, size_t size, const char *name, json_duplicates duplicates);
/* The same from a file of at most `limit` bytes; E_IO, E_FORMAT. */
err json_file_parse(json_t **out, const char *path, size_t limit, json_duplicates duplicates);

/* Getters of a key of `object`; `where` is put before the key in messages, e.g. "unet/config.json" or
 * "unet/config.json: vision_config". E_FORMAT: "where: key: missing, expected a whole number from 1 to 64" or "where:
 * key: found "8" (a string), expected ...". Results borrow from `object`. */
err json_get_int(int64_t *out, const json_t *object, const char *key, const char *where, int64_t low, int64_t high);
/* Whole numbers too; always finite. */
err json_get_number(double *out, const json_t *object, const char *key, const char *where);
err json_get_bool(bool *out, const json_t *object, const char *key, const char *where);
err json_get_text(const char **out, const json_t *object, const char *key, const char *where);
err json_get_list(const json_t **out, const json_t *object, const char *key, const char *where);
err json_get_object(const json_t **out, const json_t *object, const char *key, const char *where);
bool json_get_present(const json_t *object, const char *key); /* there, and not null */

/* The value in a few words for a message: `"8" (a string)`, `1.5`, `a list of 3`, `null`; returns out. */
const char *json_text_describe(char out[96], const json_t *value);

#endif
