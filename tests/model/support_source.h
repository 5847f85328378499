/* A weight source in memory that holds whatever a network's bind function asks for, by the counter formula:
 *
 *     counter_source s = {0};
 *     binder *b = counter_source_walk(&s);
 *     clip_text_bind(b, &m, &s.memory, &config);
 *     counter_source_end(&s, b);               // now s.source has every weight
 *     bind_load_begin(&b, &s.memory, dev, DT_F32, &s.source, false); ... */
#ifndef MSD_TESTS_SUPPORT_SOURCE_H
#define MSD_TESTS_SUPPORT_SOURCE_H

#include "model/bind.h"

typedef struct counter_weight {
    const char *name;
    weight_view view;
} counter_weight;

typedef struct counter_source {
    weight_source   source;
    arena           memory;
    counter_weight *item;
    size_t          count, capacity;
} counter_source;

binder *counter_source_walk(counter_source *s);
void    counter_source_end(counter_source *s, binder *b);
/* Replaces the first `from` in every name that has it; the values stay. Returns how many names changed. */
int     counter_source_rename(counter_source *s, const char *from, const char *to);
counter_weight *counter_source_find(counter_source *s, const char *name); /* NULL when absent */
void    counter_source_add(counter_source *s, const char *name, int ndim, const int64_t *dim);
void    counter_source_free(counter_source *s);

#endif
