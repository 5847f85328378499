#include "data/fingerprint.h"

#include <string.h>

enum { EDGE_BYTES = 4096 };

void fingerprint_add(hash_state *h, const stored_tensor *t)
{
    size_t edge = t->bytes < EDGE_BYTES ? t->bytes : EDGE_BYTES;
    int32_t form[2] = {(int32_t)t->type, t->ndim};
    hash_add(h, t->name, strlen(t->name) + 1);
    hash_add(h, form, sizeof form);
    hash_add(h, t->dim, (size_t)t->ndim * sizeof *t->dim);
    if (edge) {
        hash_add(h, t->data, edge);
        hash_add(h, t->data + t->bytes - edge, edge);
    }
}

void fingerprint(char hex[65], const tensor_table *tensors)
{
    hash_state *h = hash_start();
    for (size_t i = 0; i < tensors->count; i++)
        fingerprint_add(h, &tensors->at[tensors->by_name[i]]);
    hash_end(hex, h);
}
