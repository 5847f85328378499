#include "data/inspect.h"

#include <dirent.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "data/hf_folder.h"

/* ---- one part ---- */

static const char *form_of(inspection *i, const weights *w)
{
    if (w->files != 1)
        return arena_print(&i->memory, "%zu shards", w->files);
    return w->file[0].kind == FILE_ZIP ? "torch .bin" : "safetensors";
}

static void read_adapter(inspection *i, inspected_part *p)
{
    tensor_table ordered;
    if (adapter_layout_read(&p->sizes, &ordered, p->tensors) == OK) {
        p->sized = true;
        tensor_table_free(&ordered);
    } else {
        p->misfit = arena_copy_string(&i->memory, err_message());
    }
}

static void add_part(inspection *i, const char *name, err e, weights *w)
{
    if (i->parts == i->capacity) {
        i->capacity = i->capacity ? 2 * i->capacity : 8;
        i->part = heap_grow(i->part, i->capacity * sizeof *i->part);
    }
    inspected_part *p = &i->part[i->parts++];
    *p = (inspected_part){.name = arena_copy_string(&i->memory, name)};
    if (e) {
        p->problem = arena_copy_string(&i->memory, err_message());
        return;
    }
    p->weights = w;
    p->tensors = &w->all;
    p->form = form_of(i, w);
    p->kind = model_kind_of(p->tensors);
    if (w->files == 1) {
        p->metadata = w->file[0].metadata;
        p->metadata_count = w->file[0].metadata_count;
    }
    for (size_t k = 0; k < p->tensors->count; k++) {
        p->parameters += p->tensors->at[k].count;
        p->bytes += p->tensors->at[k].bytes;
        p->of_type[p->tensors->at[k].type]++;
    }
    if (p->kind == MODEL_MS_ADAPTER)
        read_adapter(i, p);
}

/* "_class_name" of diffusers, "architectures" of transformers. */
static const char *class_of(inspection *i, const char *component)
{
    json_t *config = NULL;
    if (hf_json(&config, i->path, component, "config.json", true) != OK || !config)
        return NULL;
    const char *name = json_string_value(json_object_get(config, "_class_name"));
    if (!name)
        name = json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
    name = name ? arena_copy_string(&i->memory, name) : NULL;
    json_decref(config);
    return name;
}

/* ---- a folder ---- */

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names in a folder, sorted, without those that begin with a dot. */
static size_t list_folder(const char ***names, inspection *i)
{
    size_t count = 0, capacity = 64;
    const char **list = heap_get(capacity * sizeof *list);
    DIR *folder = opendir(i->path);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (entry->d_name[0] == '.')
            continue;
        if (count == capacity) {
            capacity *= 2;
            list = heap_grow(list, capacity * sizeof *list);
        }
        list[count++] = arena_copy_string(&i->memory, entry->d_name);
    }
    if (folder)
        closedir(folder);
    qsort(list, count, sizeof *list, compare_texts);
    *names = list;
    return count;
}

static void add_component(inspection *i, const char *component)
{
    weights *w = NULL;
    err e = weights_open_component(&w, i->path, component);
    add_part(i, e ? component ? component : "." : w->source.label, e, w);
    i->part[i->parts - 1].class_name = class_of(i, component);
}

static void add_file(inspection *i, const char *name)
{
    weights *w = NULL;
    char *path = path_join(i->path, name);
    if (file_exists(path)) {
        err e = weights_open(&w, path);
        add_part(i, name, e, w);
    }
    free(path);
}

static bool ends(const char *name, const char *ending)
{
    size_t length = strlen(name), tail = strlen(ending);
    return length > tail && strcmp(name + length - tail, ending) == 0;
}

static void add_folder(inspection *i)
{
    const char **names;
    size_t count = list_folder(&names, i);
    bool alone = weights_present(i->path, NULL);
    if (alone)
        add_component(i, NULL);
    for (size_t k = 0; k < count; k++) {
        if (weights_present(i->path, names[k]))
            add_component(i, names[k]);
        else if (strncmp(names[k], "step-", 5) == 0)
            add_file(i, arena_print(&i->memory, "%s/adapter.safetensors", names[k]));
        else if (!alone && (ends(names[k], ".safetensors") || ends(names[k], ".bin")))
            add_file(i, names[k]);
    }
    free(names);
}

err inspect(inspection **out, const char *path)
{
    inspection *i = heap_get(sizeof *i);
    *i = (inspection){.folder = folder_exists(path)};
    i->path = arena_copy_string(&i->memory, path);
    err e = OK;
    if (i->folder) {
        add_folder(i);
        if (i->parts == 0)
            e = err_set(E_MODEL, "%s: no weights found, expected a pipeline, a model, a step or a run folder", path);
    } else {
        weights *w = NULL;
        e = weights_open(&w, path);
        if (!e)
            add_part(i, path, OK, w);
    }
    if (e) {
        inspect_free(i);
        return e;
    }
    *out = i;
    return OK;
}

void inspect_free(inspection *i)
{
    if (!i)
        return;
    for (size_t k = 0; k < i->parts; k++)
        weights_close(i->part[k].weights);
    free(i->part);
    arena_free(&i->memory);
    free(i);
}
