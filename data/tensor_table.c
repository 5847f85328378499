#include "data/tensor_table.h"

#include <stdlib.h>
#include <string.h>

stored_tensor *tensor_table_add(tensor_table *t)
{
    if (t->count == t->capacity) {
        CHECK(t->count < UINT32_MAX / 2, "%zu tensors", t->count);
        t->capacity = t->capacity ? 2 * t->capacity : 64;
        t->at = heap_grow(t->at, t->capacity * sizeof *t->at);
    }
    stored_tensor *s = &t->at[t->count++];
    *s = (stored_tensor){0};
    return s;
}

static int compare_names(const void *a, const void *b, void *tensors)
{
    const stored_tensor *at = tensors;
    return strcmp(at[*(const uint32_t *)a].name, at[*(const uint32_t *)b].name);
}

const char *tensor_table_seal(tensor_table *t)
{
    free(t->by_name);
    t->by_name = heap_get(t->count * sizeof *t->by_name);
    for (size_t i = 0; i < t->count; i++)
        t->by_name[i] = (uint32_t)i;
    if (t->count)
        qsort_r(t->by_name, t->count, sizeof *t->by_name, compare_names, t->at);
    for (size_t i = 1; i < t->count; i++) {
        const char *name = t->at[t->by_name[i]].name;
        if (strcmp(t->at[t->by_name[i - 1]].name, name) == 0)
            return name;
    }
    return NULL;
}

const stored_tensor *tensor_table_find(const tensor_table *t, const char *name)
{
    size_t low = 0, high = t->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const stored_tensor *s = &t->at[t->by_name[middle]];
        int order = strcmp(name, s->name);
        if (order == 0)
            return s;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

void tensor_table_free(tensor_table *t)
{
    free(t->at);
    free(t->by_name);
    *t = (tensor_table){0};
}
