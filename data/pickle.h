/* The part of Python's pickle that torch.save's data.pkl needs: dicts, lists and tuples of numbers, strings and
 * tensors. Nothing is ever called or imported: the few functions torch names are recognised, every other is an
 * error that names it. */
#ifndef MSD_DATA_PICKLE_H
#define MSD_DATA_PICKLE_H

#include "base/arena.h"
#include "data/stored.h"

typedef enum pickle_kind {
    PICKLE_NONE, PICKLE_BOOL, PICKLE_INT, PICKLE_FLOAT, PICKLE_TEXT, PICKLE_TUPLE, PICKLE_LIST, PICKLE_DICT,
    PICKLE_GLOBAL, PICKLE_STORAGE, PICKLE_TENSOR
} pickle_kind;

typedef struct pickle_value {
    pickle_kind kind;
    union {
        int64_t whole;     /* BOOL, INT */
        double  real;      /* FLOAT */
        const char *text;  /* TEXT */
        struct {           /* TUPLE, LIST; DICT: key, value, key, value ... */
            struct pickle_value **item;
            size_t count, capacity;
        } list;
        int global;        /* GLOBAL: private to pickle.c */
        struct {           /* STORAGE: `count` elements in the record data/KEY */
            stored_type type;
            const char *key;
            int64_t     count;
        } storage;
        struct { /* TENSOR: element (i, j, ...) lies at offset + i*stride[0] + j*stride[1] ... of its storage */
            const struct pickle_value *storage;
            int64_t offset;
            int     ndim;
            const int64_t *dim, *stride; /* dim >= 0; nothing else is checked here */
        } tensor;
    } u;
} pickle_value;

/* *out and all it leads to live in `memory`; a value may be reached by several ways, and even contain itself.
 * E_FORMAT with the byte and what is wrong. */
err pickle_load(pickle_value **out, arena *memory, const uint8_t *bytes, size_t size);

#endif
