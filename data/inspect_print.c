#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/text.h"
#include "data/inspect.h"

enum { SHOWN_VALUES = 8 };

static const struct {
    const char *name, *label;
    size_t offset;
} size_fields[] = {
    {"dim", "dim", offsetof(adapter_file_sizes, dim)},
    {"depth", "depth", offsetof(adapter_file_sizes, depth)},
    {"heads", "heads", offsetof(adapter_file_sizes, heads)},
    {"queries", "queries", offsetof(adapter_file_sizes, queries)},
    {"image_width", "image width", offsetof(adapter_file_sizes, image_width)},
    {"phrase_width", "phrase width", offsetof(adapter_file_sizes, phrase_width)},
    {"ff_width", "feed-forward width", offsetof(adapter_file_sizes, ff_width)},
    {"cross_width", "cross-attention width", offsetof(adapter_file_sizes, cross_width)},
    {"pairs", "cross-attentions", offsetof(adapter_file_sizes, pairs)},
};
enum { SIZE_FIELDS = sizeof size_fields / sizeof *size_fields };

static int64_t size_field(const adapter_file_sizes *s, int which)
{
    int64_t value;
    memcpy(&value, (const char *)s + size_fields[which].offset, sizeof value);
    return value;
}

/* ---- for people ---- */

static void print_text(FILE *to, const char *text)
{
    char shown[1024]; /* names of a stranger's file must not steer the terminal */
    fputs(text_escaped(shown, sizeof shown, text), to);
}

static void print_types(FILE *to, const inspected_part *p)
{
    for (int t = 0; t < STORED_TYPE_COUNT; t++) {
        if (p->of_type[t] == (int64_t)p->tensors->count)
            fprintf(to, ", all %s", stored_type_name((stored_type)t));
        else if (p->of_type[t])
            fprintf(to, ", %" PRId64 " %s", p->of_type[t], stored_type_name((stored_type)t));
    }
}

static void print_summary(FILE *to, const inspected_part *p)
{
    char amount[32];
    print_text(to, p->name);
    if (p->problem) {
        fprintf(to, ": cannot be read: ");
        print_text(to, p->problem);
        fprintf(to, "\n");
        return;
    }
    fprintf(to, ": %s (%s", model_kind_text(p->kind), p->form);
    if (p->class_name) {
        fprintf(to, ", ");
        print_text(to, p->class_name);
    }
    fprintf(to, ")\n  %" PRId64 " parameters in %zu tensors, %s", p->parameters, p->tensors->count,
            text_bytes(amount, p->bytes));
    print_types(to, p);
    fprintf(to, "\n");
    for (int i = 0; p->sized && i < SIZE_FIELDS; i++)
        fprintf(to, "%s%s %" PRId64 "%s", i ? ", " : "  ", size_fields[i].label, size_field(&p->sizes, i),
                i == SIZE_FIELDS - 1 ? "\n" : "");
    if (p->misfit) {
        fprintf(to, "  not whole: ");
        print_text(to, p->misfit);
        fprintf(to, "\n");
    }
    for (size_t i = 0; i < p->metadata_count; i++) {
        fprintf(to, "  ");
        print_text(to, p->metadata[i].key);
        fprintf(to, ": ");
        print_text(to, p->metadata[i].value);
        fprintf(to, "\n");
    }
}

/* The numbers of a tensor small enough to read at a glance: a loss, a list of timesteps. */
static void print_values(FILE *to, const stored_tensor *t)
{
    float value[SHOWN_VALUES];
    if (t->count < 1 || t->count > SHOWN_VALUES)
        return;
    stored_to_f32(value, t->type, t->data, t->count);
    for (int64_t i = 0; i < t->count; i++)
        fprintf(to, "%s%.9g", i ? ", " : " = ", (double)value[i]);
}

static void print_tensors(FILE *to, const inspected_part *p)
{
    arena memory = {0};
    for (size_t i = 0; i < p->tensors->count; i++) {
        const stored_tensor *t = &p->tensors->at[i];
        fprintf(to, "  %-8s %-22s ", stored_type_name(t->type), stored_shape_text(&memory, t->ndim, t->dim));
        print_text(to, t->name);
        print_values(to, t);
        fprintf(to, "\n");
        arena_reset(&memory);
    }
    arena_free(&memory);
}

void inspect_print(FILE *to, const inspection *i)
{
    for (size_t k = 0; k < i->parts; k++) {
        print_summary(to, &i->part[k]);
        if (!i->folder)
            print_tensors(to, &i->part[k]);
    }
}

/* ---- for machines ---- */

static json_t *json_of_tensors(const tensor_table *t)
{
    json_t *list = json_array();
    for (size_t i = 0; i < t->count; i++) {
        json_t *shape = json_array();
        for (int d = 0; d < t->at[i].ndim; d++)
            json_array_append_new(shape, json_integer(t->at[i].dim[d]));
        json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "name", t->at[i].name, "dtype",
                                              stored_type_name(t->at[i].type), "shape", shape));
    }
    return list;
}

static json_t *json_of_part(const inspected_part *p)
{
    if (p->problem)
        return json_pack("{s:s, s:s}", "name", p->name, "problem", p->problem);
    json_t *types = json_object(), *metadata = json_object();
    for (int t = 0; t < STORED_TYPE_COUNT; t++) {
        if (p->of_type[t])
            json_object_set_new(types, stored_type_name((stored_type)t), json_integer(p->of_type[t]));
    }
    for (size_t i = 0; i < p->metadata_count; i++)
        json_object_set_new(metadata, p->metadata[i].key, json_string(p->metadata[i].value));
    json_t *part =
        json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:o, s:o}", "name", p->name, "kind", model_kind_name(p->kind),
                  "description", model_kind_text(p->kind), "form", p->form, "parameters", (json_int_t)p->parameters,
                  "bytes", (json_int_t)p->bytes, "dtypes", types, "metadata", metadata);
    if (p->class_name)
        json_object_set_new(part, "class", json_string(p->class_name));
    if (p->misfit)
        json_object_set_new(part, "misfit", json_string(p->misfit));
    if (p->sized) {
        json_t *sizes = json_object();
        for (int i = 0; i < SIZE_FIELDS; i++)
            json_object_set_new(sizes, size_fields[i].name, json_integer(size_field(&p->sizes, i)));
        json_object_set_new(part, "sizes", sizes);
    }
    json_object_set_new(part, "tensors", json_of_tensors(p->tensors));
    return part;
}

void inspect_print_json(FILE *to, const inspection *i)
{
    json_t *parts = json_array();
    for (size_t k = 0; k < i->parts; k++)
        json_array_append_new(parts, json_of_part(&i->part[k]));
    json_t *whole = json_pack("{s:s, s:o}", "path", i->path, "parts", parts);
    if (whole) {
        json_dumpf(whole, to, JSON_COMPACT);
        fputc('\n', to);
    }
    json_decref(whole);
}
