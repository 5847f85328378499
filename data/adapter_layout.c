#include "data/adapter_layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/model_kind.h"

enum { HEAD_WIDTH = 64, BOX_WIDTH = 64, MAX_DEPTH = 64, MAX_PAIRS = 4096, SHOWN = 20 };

/* A shape is one letter a dimension; letter_of says what each stands for. */
typedef struct line {
    const char *name, *shape;
} line;

static const line resampler[] = {
    {"grounding_latents", "1qd"},   {"latent_proj.0.weight", "hg"}, {"latent_proj.0.bias", "h"},
    {"latent_proj.2.weight", "Qh"}, {"latent_proj.2.bias", "Q"},    {"latent_norm.weight", "d"},
    {"latent_norm.bias", "d"},      {"proj_in.weight", "di"},       {"proj_in.bias", "d"},
    {"attention_norm.weight", "d"}, {"attention_norm.bias", "d"},   {"proj_out.weight", "cd"},
    {"proj_out.bias", "c"},         {"norm_out.weight", "c"},       {"norm_out.bias", "c"},
};
static const line layer[] = {
    {"0.norm1.weight", "d"}, {"0.norm1.bias", "d"},    {"0.norm2.weight", "d"},   {"0.norm2.bias", "d"},
    {"0.to_q.weight", "nd"}, {"0.to_kv.weight", "Nd"}, {"0.to_out.weight", "dn"}, {"1.0.weight", "d"},
    {"1.0.bias", "d"},       {"1.1.weight", "fd"},     {"1.3.weight", "df"},
};

typedef struct reader {
    const tensor_table *tensors;
    tensor_table *ordered;
    adapter_file_sizes s;
    arena text;
    char *problems;
    int64_t count; /* of problems */
} reader;

static void problem(reader *r, const char *text)
{
    if (r->count < SHOWN)
        r->problems = arena_print(&r->text, "%s%s%s", r->problems ? r->problems : "", r->count ? "; " : "", text);
    r->count++;
}

static int64_t letter_of(const adapter_file_sizes *s, char letter)
{
    int64_t grounding = s->phrase_width ? s->phrase_width + BOX_WIDTH : 0, inner = s->heads * HEAD_WIDTH;
    switch (letter) {
    case '1': return 1;
    case 'd': return s->dim;
    case 'q': return s->queries;
    case 'Q': return s->queries * s->dim;
    case 'g': return grounding;
    case 'h': return 2 * grounding;
    case 'i': return s->image_width;
    case 'c': return s->cross_width;
    case 'n': return inner;
    case 'N': return 2 * inner;
    case 'f': return s->ff_width;
    case 't': return s->dummy_tokens;
    default: check_failed(__FILE__, __LINE__, "letter", "'%c'", letter);
    }
}

/* ---- sizes ---- */

/* 0 when absent or of another rank; what is wrong is said by the check that follows. */
static int64_t size_of(const reader *r, const char *name, int ndim, int which)
{
    const stored_tensor *t = tensor_table_find(r->tensors, name);
    bool fits = t && t->ndim == ndim && t->dim[which] > 0 && t->dim[which] < 1 << 24;
    return fits ? t->dim[which] : 0;
}

static int64_t count_layers(const tensor_table *t)
{
    int64_t depth = 0;
    for (size_t i = 0; i < t->count; i++) {
        int n;
        if (sscanf(t->at[i].name, "image_proj.layers.%6d.", &n) == 1 && n >= depth && n < MAX_DEPTH)
            depth = n + 1;
    }
    return depth;
}

static void read_sizes(reader *r)
{
    adapter_file_sizes *s = &r->s;
    s->dim = size_of(r, "image_proj.proj_in.weight", 2, 0);
    s->image_width = size_of(r, "image_proj.proj_in.weight", 2, 1);
    s->depth = count_layers(r->tensors);
    s->queries = size_of(r, "image_proj.grounding_latents", 3, 1);
    s->cross_width = size_of(r, "image_proj.proj_out.weight", 2, 0);
    s->phrase_width = size_of(r, "image_proj.latent_proj.0.weight", 2, 1) - BOX_WIDTH;
    s->heads = size_of(r, "image_proj.layers.0.0.to_q.weight", 2, 0) / HEAD_WIDTH;
    s->ff_width = size_of(r, "image_proj.layers.0.1.1.weight", 2, 0);
    s->dummy_tokens = size_of(r, "dummy_image_tokens", 3, 1);
    if (s->phrase_width < 1)
        s->phrase_width = 0;
}

/* ---- the check ---- */

static const stored_tensor *take(reader *r, const char *name)
{
    const stored_tensor *t = tensor_table_find(r->tensors, name);
    if (!t)
        problem(r, arena_print(&r->text, "%s is missing", name));
    else
        *tensor_table_add(r->ordered) = *t;
    return t;
}

static void check_shape(reader *r, const stored_tensor *t, int ndim, const int64_t *dim)
{
    if (t->ndim == ndim && memcmp(t->dim, dim, (size_t)ndim * sizeof *dim) == 0)
        return;
    problem(r, arena_print(&r->text, "%s: found %s, expected %s", t->name, stored_shape_text(&r->text, t->ndim, t->dim),
                           stored_shape_text(&r->text, ndim, dim)));
}

static void check_line(reader *r, const char *prefix, const line *l)
{
    const stored_tensor *t = take(r, arena_print(&r->text, "%s%s", prefix, l->name));
    int64_t dim[3];
    int ndim = (int)strlen(l->shape);
    bool known = true; /* a size whose own tensor is missing or wrong is said there, not at every other tensor */
    for (int d = 0; d < ndim; d++) {
        dim[d] = letter_of(&r->s, l->shape[d]);
        known = known && dim[d] > 0;
    }
    if (t && (known || t->ndim != ndim))
        check_shape(r, t, ndim, dim);
}

static int compare_ints(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return x < y ? -1 : x > y;
}

/* The indices i of ms_adapter.<i>, each once, ascending. */
static size_t list_pairs(int *index, const tensor_table *t)
{
    size_t count = 0, kept = 0;
    for (size_t i = 0; i < t->count && count < 2 * MAX_PAIRS; i++) {
        int n;
        if (sscanf(t->at[i].name, "ms_adapter.%6d.", &n) == 1 && n >= 0)
            index[count++] = n;
    }
    qsort(index, count, sizeof *index, compare_ints);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || index[kept - 1] != index[i])
            index[kept++] = index[i];
    }
    return kept;
}

static void check_pairs(reader *r)
{
    int *index = heap_get(2 * MAX_PAIRS * sizeof *index);
    size_t pairs = list_pairs(index, r->tensors);
    for (size_t i = 0; i < pairs; i++) {
        const stored_tensor *k = take(r, arena_print(&r->text, "ms_adapter.%d.to_k_ip.weight", index[i]));
        const stored_tensor *v = take(r, arena_print(&r->text, "ms_adapter.%d.to_v_ip.weight", index[i]));
        const stored_tensor *first = k ? k : v;
        if (first && r->s.cross_width) {
            int64_t dim[2] = {first->ndim ? first->dim[0] : 0, r->s.cross_width};
            check_shape(r, first, 2, dim);
            if (v && v != first)
                check_shape(r, v, 2, dim);
        }
    }
    free(index);
    r->s.pairs = (int64_t)pairs;
    if (pairs == 0)
        problem(r, "ms_adapter.<i>.to_k_ip.weight are missing");
}

static void check_unknown(reader *r)
{
    tensor_table_seal(r->ordered);
    for (size_t i = 0; i < r->tensors->count; i++) {
        if (!tensor_table_find(r->ordered, r->tensors->at[i].name))
            problem(r, arena_print(&r->text, "%s is not known", stored_name_text(&r->text, r->tensors->at[i].name)));
    }
}

static void check_all(reader *r)
{
    for (size_t i = 0; i < sizeof resampler / sizeof *resampler; i++)
        check_line(r, "image_proj.", &resampler[i]);
    for (int64_t n = 0; n < r->s.depth; n++) {
        const char *prefix = arena_print(&r->text, "image_proj.layers.%lld.", (long long)n);
        for (size_t i = 0; i < sizeof layer / sizeof *layer; i++)
            check_line(r, prefix, &layer[i]);
    }
    if (r->s.depth == 0)
        problem(r, "image_proj.layers.<n> are missing");
    check_pairs(r);
    check_line(r, "", &(line){"dummy_image_tokens", "1tc"});
    check_unknown(r);
}

err adapter_layout_read(adapter_file_sizes *sizes, tensor_table *ordered, const tensor_table *tensors)
{
    *ordered = (tensor_table){0};
    model_kind kind = model_kind_of(tensors);
    if (kind != MODEL_MS_ADAPTER)
        return err_set(E_MODEL, "found %s, expected an MS-Diffusion adapter", model_kind_text(kind));
    reader r = {.tensors = tensors, .ordered = ordered};
    read_sizes(&r);
    check_all(&r);
    err e = OK;
    if (r.count > SHOWN)
        e = err_set(E_MODEL, "%s; ... (%lld problems in all)", r.problems, (long long)r.count);
    else if (r.count)
        e = err_set(E_MODEL, "%s", r.problems);
    if (e)
        tensor_table_free(ordered);
    *sizes = r.s;
    arena_free(&r.text);
    return e;
}
