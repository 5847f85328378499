/* The elements of the lists in a large JSON object, one at a time: COCO's files have hundreds of megabytes, and a tree
 * of them ten times that. */
#ifndef MSD_DATA_JSON_STREAM_H
#define MSD_DATA_JSON_STREAM_H

#include "base/file.h"
#include "base/json.h"

typedef struct json_element {
    int         list;  /* number of the list's key in `keys` */
    int64_t     index; /* in its list, from 0 */
    const char *text;  /* within the file */
    size_t      size;
    json_t     *value; /* NULL: it could not be parsed, err_message() says why */
} json_element;

/* Calls take for every element of the lists that `keys` (ended by NULL) name at the top of the object; present[i]:
 * there was such a list. All else is passed over. E_FORMAT with the byte where the structure
 * breaks; what take returns. */
err json_stream(bool *present, const char *text, size_t size, const char *name, const char *const *keys,
                err (*take)(void *user, const json_element *element), void *user);

#endif
