/* The table of RUN.yaml's keys. For train/config*.c only. */
#ifndef MSD_TRAIN_CONFIG_KEYS_H
#define MSD_TRAIN_CONFIG_KEYS_H

#include <stddef.h>

#include "train/config.h"

typedef enum key_kind {
    KEY_PATH,          /* const char *, required unless it has a default */
    KEY_PATH_OR_NULL,  /* const char *, null: NULL */
    KEY_PATH_OR_OFF,   /* const char *, off: NULL */
    KEY_TEXT_OR_NULL,  /* const char *, null: NULL */
    KEY_BYTES_OR_NULL, /* int64_t, as text_bytes_read; null: 0 */
    KEY_WHOLE,         /* int64_t within [low, high] */
    KEY_NUMBER,        /* double within [low, high] */
    KEY_NUMBER_OR_OFF, /* double within [low, high], off: 0 */
    KEY_NUMBER_OR_NULL, /* the same, null: 0 */
    KEY_SPAN_OR_ALL,   /* int64_t[2], whole and rising within [low, high], all: 0 and 0 */
    KEY_PAIR,          /* double[2], each within [low, high] */
    KEY_CHOICE,        /* int, the index in `names` */
    KEY_SWITCH         /* bool: off, on */
} key_kind;

enum { MOST_NAMES = 4 };

typedef struct config_key {
    const char *name;     /* "train.steps" */
    key_kind    kind;
    size_t      at;       /* offset in run_config */
    const char *fallback; /* the default as YAML; NULL: required */
    double      low, high;
    const char *names[MOST_NAMES];
    bool        free;     /* may change on resume */
    const char *later;    /* what this version does not have: "aspect buckets"; NULL: all of it is there */
    int         have;     /* of a choice with `later`: the first so many are there */
} config_key;

extern const config_key config_keys[CONFIG_KEYS];

const config_key *config_key_find(const char *name); /* NULL: none */
int config_key_names(const config_key *k);           /* of a choice */

/* The value as YAML; the arena's. */
const char *config_key_text(arena *memory, const config_key *k, const run_config *c);

#endif
