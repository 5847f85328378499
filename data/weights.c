#include "data/weights.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"

enum { INDEX_LIMIT = 64 << 20, MAX_SHARDS = 1000, SHOWN = 20 };

static bool find(const weight_source *s, weight_view *out, const char *name)
{
    const weights *w = (const weights *)s;
    const stored_tensor *t = tensor_table_find(&w->all, name);
    if (!t)
        return false;
    *out = (weight_view){.type = stored_dtype(t->type), .type_name = stored_type_name(t->type), .ndim = t->ndim,
                         .data = t->data};
    for (int d = 0; d < t->ndim && d < TENSOR_MAX_DIM; d++)
        out->dim[d] = t->dim[d];
    return true;
}

/* Weights are converted once while loading; without this the file would stay in memory beside them. */
static void done(const weight_source *s, const weight_view *v)
{
    const weights *w = (const weights *)s;
    size_t         bytes = dtype_bytes(v->type);
    for (int d = 0; d < v->ndim; d++)
        bytes *= (size_t)v->dim[d];
    for (size_t i = 0; i < w->files; i++)
        file_map_forget(&w->file[i].map, v->data, bytes);
}

static const char *name_at(const weight_source *s, size_t i)
{
    return ((const weights *)s)->all.at[i].name;
}

static weights *new_weights(const char *path, const char *label)
{
    weights *w = heap_get(sizeof *w);
    *w = (weights){.source = {.find = find, .name = name_at, .done = done}};
    w->source.label = arena_copy_string(&w->memory, label);
    w->path = arena_copy_string(&w->memory, path);
    return w;
}

static void add_all(weights *w, const tensor_table *from)
{
    for (size_t i = 0; i < from->count; i++)
        *tensor_table_add(&w->all) = from->at[i];
}

static err seal(weights *w)
{
    const char *twice = tensor_table_seal(&w->all);
    w->source.count = w->all.count;
    return twice ? err_set(E_FORMAT, "%s: tensor '%s' is in two shards; download the folder again", w->path,
                           stored_name_text(&w->memory, twice))
                 : OK;
}

static err add_file(weights *w, const char *path)
{
    w->file = heap_grow(w->file, (w->files + 1) * sizeof *w->file);
    TRY(tensor_file_open(&w->file[w->files], path));
    w->file_path = heap_grow(w->file_path, (w->files + 1) * sizeof *w->file_path);
    w->file_path[w->files] = arena_copy_string(&w->memory, path);
    add_all(w, w->file[w->files++].tensors);
    return OK;
}

/* ---- shards ---- */

/* A list of names for a message: the first SHOWN and how many more. */
typedef struct names {
    arena memory;
    char *text;
    size_t count;
} names;

static void names_add(names *n, const char *name)
{
    char shown[200];
    if (n->count++ < SHOWN)
        n->text = arena_print(&n->memory, "%s%s%s", n->text ? n->text : "", n->text ? ", " : "",
                              text_escaped(shown, sizeof shown, name));
    else if (n->count == SHOWN + 1)
        n->text = arena_print(&n->memory, "%s, ...", n->text);
}

/* A shard lies beside its index: no path leads elsewhere. */
static bool is_plain_name(const char *name)
{
    return *name && *name != '.' && !strpbrk(name, "/\\:") && strlen(name) < 256;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The different shards of a weight_map, sorted; *shards from the heap. */
static err list_shards(const char ***shards, size_t *count, const json_t *map, const char *path)
{
    const char *name;
    json_t *value;
    size_t used = 0;
    const char **list = heap_get((json_object_size(map) + 1) * sizeof *list);
    json_object_foreach((json_t *)(uintptr_t)map, name, value) {
        const char *shard = json_string_value(value);
        if (!shard || !is_plain_name(shard)) {
            char shown[96], key[200];
            free(list);
            return err_set(E_FORMAT, "%s: weight_map: %s: found %s, expected the plain name of a file beside the index",
                           path, text_escaped(key, sizeof key, name), json_text_describe(shown, value));
        }
        list[used++] = shard;
    }
    qsort(list, used, sizeof *list, compare_texts);
    *count = 0;
    for (size_t i = 0; i < used; i++) {
        if (*count == 0 || strcmp(list[*count - 1], list[i]) != 0)
            list[(*count)++] = list[i];
    }
    *shards = list;
    if (*count == 0 || *count > MAX_SHARDS) {
        free(list);
        return err_set(E_FORMAT, "%s: weight_map names %zu files, expected 1 to %d", path, *count, MAX_SHARDS);
    }
    return OK;
}

static err open_shards(weights *w, const char *const *shards, size_t count, const char *path)
{
    names missing = {0};
    err e = OK;
    for (size_t i = 0; i < count; i++) {
        char *shard = path_beside(path, shards[i]);
        if (!file_exists(shard))
            names_add(&missing, shards[i]);
        else if (!e && !missing.count)
            e = add_file(w, shard);
        free(shard);
    }
    if (missing.count)
        e = err_set(E_FORMAT, "%s: %zu of %zu shards are missing: %s; download the folder again", path, missing.count,
                    count, missing.text);
    arena_free(&missing.memory);
    return e;
}

/* Every tensor of the map must be in the shard it names. */
static err check_map(const weights *w, const char *const *shards, size_t count, const json_t *map, const char *path)
{
    names missing = {0};
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, name, value) {
        const char *shard = json_string_value(value);
        const char *const *at = bsearch(&shard, shards, count, sizeof *shards, compare_texts);
        if (!tensor_table_find(w->file[at - shards].tensors, name))
            names_add(&missing, name);
    }
    err e = OK;
    if (missing.count)
        e = err_set(E_FORMAT, "%s: %zu tensors are not in the shards it names: %s; download the folder again", path,
                    missing.count, missing.text);
    arena_free(&missing.memory);
    return e;
}

static err open_index(weights *w, const char *path)
{
    json_t *index;
    const json_t *map = NULL;
    const char **shards = NULL;
    size_t count = 0;
    TRY(json_file_parse(&index, path, INDEX_LIMIT, JSON_REFUSE_DUPLICATES));
    err e = json_get_object(&map, index, "weight_map", path);
    if (!e)
        e = list_shards(&shards, &count, map, path);
    if (!e) {
        e = open_shards(w, shards, count, path);
        if (!e)
            e = check_map(w, shards, count, map, path);
        free(shards);
    }
    json_decref(index);
    return e;
}

/* ---- opening ---- */

static err open_labelled(weights **out, const char *path, const char *label)
{
    weights *w = new_weights(path, label);
    size_t length = strlen(path);
    bool index = length > 5 && strcmp(path + length - 5, ".json") == 0;
    err e = index ? open_index(w, path) : add_file(w, path);
    if (!e)
        e = seal(w);
    if (e) {
        weights_close(w);
        return err_as(e, E_MODEL);
    }
    *out = w;
    return OK;
}

err weights_open(weights **out, const char *path)
{
    return open_labelled(out, path, path);
}

err weights_from_table(weights **out, const tensor_table *tensors, const char *label)
{
    weights *w = new_weights(label, label);
    add_all(w, tensors);
    err e = seal(w);
    if (e) {
        weights_close(w);
        return err_as(e, E_MODEL);
    }
    *out = w;
    return OK;
}

void weights_close(weights *w)
{
    if (!w)
        return;
    tensor_table_free(&w->all);
    for (size_t i = 0; i < w->files; i++)
        tensor_file_close(&w->file[i]);
    free(w->file);
    free(w->file_path);
    arena_free(&w->memory);
    free(w);
}

/* As diffusers and transformers write them. An index of a variant has the variant before or behind "index". */
static const char *const candidates[] = {
    "diffusion_pytorch_model.safetensors", "model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json", "model.safetensors.index.json",
    "diffusion_pytorch_model.fp16.safetensors", "model.fp16.safetensors",
    "diffusion_pytorch_model.safetensors.index.fp16.json", "model.safetensors.index.fp16.json",
    "diffusion_pytorch_model.fp16.safetensors.index.json", "model.fp16.safetensors.index.json",
    "diffusion_pytorch_model.bin", "pytorch_model.bin",
    "diffusion_pytorch_model.bin.index.json", "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.fp16.bin", "pytorch_model.fp16.bin",
    "diffusion_pytorch_model.bin.index.fp16.json", "pytorch_model.bin.index.fp16.json",
};

static err nothing_found(const char *folder)
{
    arena looked = {0};
    bool there = folder_exists(folder);
    char *text = NULL;
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++)
        text = arena_print(&looked, "%s%s%s", text ? text : "", text ? ", " : "", candidates[i]);
    err e = there ? err_set(E_MODEL, "%s: no weights found; looked for %s", folder, text)
                  : err_set(E_MODEL, "%s: there is no such folder; check the path of the model", folder);
    arena_free(&looked);
    return e;
}

/* The first candidate in `place`; NULL when there is none. *name is its name; the caller frees the path. */
static char *first_candidate(const char **name, const char *place)
{
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        char *path = path_join(place, candidates[i]);
        *name = candidates[i];
        if (file_exists(path))
            return path;
        free(path);
    }
    return NULL;
}

bool weights_present(const char *folder, const char *component)
{
    const char *name;
    char *place = path_join(folder, component ? component : ""), *path = first_candidate(&name, place);
    bool found = path != NULL;
    free(path);
    free(place);
    return found;
}

err weights_open_component(weights **out, const char *folder, const char *component)
{
    const char *name = NULL;
    char *place = path_join(folder, component ? component : ""), *path = first_candidate(&name, place);
    err e = OK;
    if (path) {
        char *label = component ? path_join(component, name) : NULL;
        e = open_labelled(out, path, label ? label : path);
        free(label);
    } else {
        e = nothing_found(place);
    }
    free(path);
    free(place);
    return e;
}
