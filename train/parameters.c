#include "train/parameters.h"

typedef struct listing {
    parameters *to;
    arena      *owner;
} listing;

static void count_one(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    (void)slot, (void)path, (void)kind, (void)ndim, (void)dim;
    ++*(int *)bind_user(b);
}

static void list_one(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    listing *l = bind_user(b);
    (void)kind, (void)ndim, (void)dim;
    parameter p = {.name = arena_copy_string(l->owner, path), .t = *slot};
    l->to->all[l->to->count++] = p;
    if (p.t->needs_grad)
        l->to->trained[l->to->trained_count++] = p;
}

void parameters_list(parameters *out, arena *owner, ms_adapter *a)
{
    int count = 0;
    adapter_walk(a, count_one, &count);
    *out = (parameters){.all = ARENA_ARRAY(owner, parameter, count), .trained = ARENA_ARRAY(owner, parameter, count)};
    adapter_walk(a, list_one, &(listing){out, owner});
}
