#include <string.h>

#include "data/cache_shard.h"

const char *cache_kind_name(cache_kind k)
{
    static const char *const names[CACHE_KIND_COUNT] = {"latent", "prompt", "pooled", "phrase", "picture"};
    return names[k];
}

int64_t cache_form_count(const cache_form *f)
{
    int64_t count = 0;
    size_t bytes;
    if (f->ndim < 1 || f->ndim > CACHE_MAX_DIM || !stored_size(&count, &bytes, f->type, f->ndim, f->dim))
        return 0;
    return count;
}

size_t cache_form_bytes(const cache_form *f)
{
    return (size_t)cache_form_count(f) * stored_type_bytes(f->type);
}

bool cache_form_equal(const cache_form *a, const cache_form *b)
{
    return a->kind == b->kind && a->type == b->type && a->ndim == b->ndim &&
           !memcmp(a->dim, b->dim, (size_t)a->ndim * sizeof *a->dim);
}
