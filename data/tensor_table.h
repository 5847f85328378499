/* The tensors of a file by name. Filled by a reader, then sealed; lookups are binary searches, so that no
 * choice of names in a hostile file makes them slow. */
#ifndef MSD_DATA_TENSOR_TABLE_H
#define MSD_DATA_TENSOR_TABLE_H

#include "data/stored.h"

typedef struct tensor_table {
    stored_tensor *at; /* count, in the order of the data in the file */
    size_t         count, capacity;
    uint32_t      *by_name; /* indices into at, sorted by name; set by tensor_table_seal */
} tensor_table;

/* A new zeroed entry, valid until the next add. Names and dims belong to the reader. */
stored_tensor *tensor_table_add(tensor_table *t);
/* Builds the index. A name that appears twice is returned (the caller composes the message), NULL when none does. */
const char *tensor_table_seal(tensor_table *t);
const stored_tensor *tensor_table_find(const tensor_table *t, const char *name); /* NULL when absent */
void tensor_table_free(tensor_table *t);

#endif
