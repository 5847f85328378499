#include "support_source.h"

#include <stdlib.h>
#include <string.h>

#include "data/counter.h"

counter_weight *counter_source_find(counter_source *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++)
        if (!strcmp(s->item[i].name, name))
            return &s->item[i];
    return NULL;
}

static bool source_find(const weight_source *source, weight_view *out, const char *name)
{
    /* source is the first member of its counter_source */
    const counter_weight *w = counter_source_find((counter_source *)(uintptr_t)source, name);
    if (w)
        *out = w->view;
    return w != NULL;
}

static const char *source_name(const weight_source *source, size_t i)
{
    return ((const counter_source *)source)->item[i].name;
}

void counter_source_add(counter_source *s, const char *name, int ndim, const int64_t *dim)
{
    if (s->count == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 64;
        s->item = heap_grow(s->item, s->capacity * sizeof *s->item);
    }
    counter_weight *w = &s->item[s->count++];
    s->source.count = s->count;
    *w = (counter_weight){.name = arena_copy_string(&s->memory, name), .view = {.type = DT_F32, .type_name = "F32"}};
    w->view.ndim = ndim;
    size_t count = 1;
    for (int i = 0; i < ndim; i++) {
        w->view.dim[i] = dim[i];
        count *= (size_t)dim[i];
    }
    float *data = arena_get(&s->memory, count * sizeof *data);
    counter_fill(data, name, ndim, dim);
    w->view.data = data;
}

static void visit(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    (void)slot;
    (void)kind;
    counter_source_add(bind_user(b), path, ndim, dim);
}

binder *counter_source_walk(counter_source *s)
{
    binder *b = NULL;
    CHECK(bind_walk_begin(&b, &s->memory, visit, s) == OK, "%s", err_message());
    return b;
}

void counter_source_end(counter_source *s, binder *b)
{
    CHECK(bind_end(b) == OK, "%s", err_message());
    s->source = (weight_source){.label = "counter", .find = source_find, .count = s->count, .name = source_name};
}

int counter_source_rename(counter_source *s, const char *from, const char *to)
{
    int changed = 0;
    for (size_t i = 0; i < s->count; i++) {
        const char *name = s->item[i].name, *at = strstr(name, from);
        if (!at)
            continue;
        s->item[i].name = arena_print(&s->memory, "%.*s%s%s", (int)(at - name), name, to, at + strlen(from));
        changed++;
    }
    return changed;
}

void counter_source_free(counter_source *s)
{
    free(s->item);
    arena_free(&s->memory);
    *s = (counter_source){0};
}
