/* Reading a config.json so that everything wrong with it is said at once: each getter notes its problem and goes on. */
#ifndef MSD_MODEL_CONFIG_READER_H
#define MSD_MODEL_CONFIG_READER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

typedef struct config_reader {
    const json_t *object;
    const char   *where; /* "unet/config.json", for messages */
    arena         text;
    char         *problems; /* "key: found 3, expected 4; key: ..." */
    int           count;
} config_reader;

/* A key that has to have a certain value: `allowed` lists JSON texts separated by '|': "\"silu\"|\"swish\"". An absent
 * key is fine. Null has to be listed, as "null". */
typedef struct config_fixed {
    const char *key, *allowed;
} config_fixed;

config_reader config_read(const json_t *object, const char *where);

/* Getters: an absent or null key gives `fallback`; a fallback of CONFIG_REQUIRED makes the key obligatory. After a
 * problem the result is `low`, so that the caller can go on reading. */
#define CONFIG_REQUIRED INT64_MIN
int64_t     config_int(config_reader *r, const char *key, int64_t fallback, int64_t low, int64_t high);
double      config_number(config_reader *r, const char *key, double fallback); /* >= 0 */
bool        config_bool(config_reader *r, const char *key, bool fallback);
/* A whole number for all `count` places, or a list of exactly so many. */
void        config_ints(int64_t *out, config_reader *r, const char *key, int count, int64_t fallback, int64_t low,
                        int64_t high);
/* The strings of a list; returns how many, at most `room` (more is a problem). The key is obligatory. */
int         config_texts(const char **out, config_reader *r, const char *key, int room);

void config_check_fixed(config_reader *r, const config_fixed *fixed, int count);
void config_problem(config_reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* OK or E_MODEL with all problems in one line; frees what r holds. */
err config_end(config_reader *r);

#endif
