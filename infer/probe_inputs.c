#include "infer/probe_inputs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int find(const probe_sizes *s, const char *letter, size_t length)
{
    for (int i = 0; i < s->count; i++)
        if (s->at[i].length == length && !memcmp(s->at[i].letter, letter, length))
            return i;
    return -1;
}

int64_t probe_sizes_find(const probe_sizes *s, const char *letter, size_t length)
{
    int i = find(s, letter, length);
    return i < 0 ? 0 : s->at[i].size;
}

/* The letter alone of "S?", which may be 0. */
static size_t letter_length(const char *part)
{
    return strcspn(part, ",?");
}

/* Whether `size` is what the pattern's next part says; a letter seen first takes it. */
static bool size_fits(probe_sizes *s, const char *part, int64_t size)
{
    if (part[0] >= '0' && part[0] <= '9')
        return strtoll(part, NULL, 10) == size;
    size_t length = letter_length(part);
    int known = find(s, part, length);
    if (known >= 0)
        return s->at[known].size == size;
    CHECK(s->count < PROBE_MAX_SIZES, "more than %d letters", PROBE_MAX_SIZES);
    s->at[s->count].letter = part;
    s->at[s->count].length = length;
    s->at[s->count++].size = size;
    return size > 0 || part[length] == '?';
}

static bool shape_fits(probe_sizes *s, const char *pattern, const stored_tensor *t)
{
    int parts = pattern[0] != 0;
    for (const char *c = pattern; *c; c++)
        parts += *c == ',';
    bool fits = t->ndim == parts && parts <= TENSOR_MAX_DIM;
    for (int i = 0; fits && i < parts; i++) {
        size_t length = strcspn(pattern, ",");
        fits = size_fits(s, pattern, t->dim[i]);
        pattern += length + (pattern[length] == ',');
    }
    return fits;
}

/* "(B,6) with B = 2": the letters known so far. */
static const char *expected_text(arena *memory, const probe_sizes *s, const char *pattern)
{
    char *text = arena_print(memory, "(%s)", pattern);
    bool  any = false;
    for (const char *part = pattern; *part; part += strcspn(part, ",") + (part[strcspn(part, ",")] == ',')) {
        size_t  length = letter_length(part);
        int64_t size = probe_sizes_find(s, part, length);
        if (size && (part[0] < '0' || part[0] > '9'))
            text = arena_print(memory, "%s%s%.*s = %" PRId64, text, any ? ", " : " with ", (int)length, part, size);
        any = any || size;
    }
    return text;
}

err probe_inputs_check(probe_sizes *out, arena *memory, const probe_module *m, const tensor_table *tensors,
                       const probe_options *options)
{
    char *problems = NULL;
    for (const probe_input *i = m->inputs; i && i->name; i++) {
        bool                 adapters = i->need == PROBE_WITH_ADAPTER || i->need == PROBE_OPTIONAL_WITH_ADAPTER;
        bool                 required = i->need == PROBE_REQUIRED || i->need == PROBE_WITH_ADAPTER;
        const stored_tensor *t = tensor_table_find(tensors, i->name);
        const char          *problem = NULL;
        if (adapters && !options->adapter)
            continue;
        probe_sizes before = *out; /* a tensor that does not fit teaches no sizes */
        if (!t && required) {
            problem = arena_print(memory, "%s: missing, expected %s", i->name, expected_text(memory, out, i->shape));
        } else if (t && !shape_fits(out, i->shape, t)) {
            *out = before;
            problem = arena_print(memory, "%s: found %s, expected %s", i->name,
                                  stored_shape_text(memory, t->ndim, t->dim), expected_text(memory, out, i->shape));
        }
        if (problem)
            problems = problems ? arena_print(memory, "%s; %s", problems, problem) : arena_copy_string(memory, problem);
    }
    return problems ? err_set(E_SHAPE, "%s: %s", options->in, problems) : OK;
}
