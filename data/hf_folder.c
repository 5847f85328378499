#include "data/hf_folder.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/json.h"

enum { CONFIG_LIMIT = 4 << 20 };

char *hf_path(const char *folder, const char *component, const char *name)
{
    if (!component)
        return path_join(folder, name);
    char *place = path_join(folder, component), *path = path_join(place, name);
    free(place);
    return path;
}

static bool has(const char *folder, const char *name)
{
    char *path = path_join(folder, name);
    bool there = file_exists(path);
    free(path);
    return there;
}

static bool has_folder(const char *folder, const char *name)
{
    char *path = path_join(folder, name);
    bool there = folder_exists(path);
    free(path);
    return there;
}

/* Why a file of a model is not there, as far as the folder shows it. */
static err missing(const char *folder, const char *component, const char *name, const char *path)
{
    if (!folder_exists(folder))
        return err_set(E_MODEL, "%s: there is no such folder; check the path of the model", folder);
    if (component && !has_folder(folder, component) && has(folder, "config.json"))
        return err_set(E_MODEL,
                       "%s: found one model alone (config.json), expected a pipeline folder with %s/; give the folder "
                       "that holds the components",
                       folder, component);
    if (!component && has(folder, "model_index.json"))
        return err_set(E_MODEL,
                       "%s: found a whole pipeline (model_index.json), expected one model's folder with %s; give one "
                       "of its subfolders",
                       folder, name);
    if (component && !has_folder(folder, component))
        return err_set(E_MODEL,
                       "%s: the subfolder %s/ is missing; is it an SDXL pipeline folder, and wholly downloaded?",
                       folder, component);
    return err_set(E_MODEL, "%s: missing; download the folder again", path);
}

err hf_json(json_t **out, const char *folder, const char *component, const char *name, bool optional)
{
    char *path = hf_path(folder, component, name);
    err e = OK;
    *out = NULL;
    if (file_exists(path))
        e = err_as(json_file_parse(out, path, CONFIG_LIMIT, JSON_KEEP_LAST), E_MODEL);
    else if (!optional)
        e = missing(folder, component, name, path);
    if (!e && *out && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        e = err_set(E_MODEL, "%s: found no JSON object, expected {...}; download the file again", path);
    }
    free(path);
    return e;
}

err hf_config(json_t **out, const char *folder, const char *component)
{
    return hf_json(out, folder, component, "config.json", false);
}

err hf_check_components(const char *folder, const char *const *components)
{
    arena memory = {0};
    char *list = NULL;
    for (size_t i = 0; components[i]; i++) {
        if (!has_folder(folder, components[i]))
            list = arena_print(&memory, "%s%s%s/", list ? list : "", list ? ", " : "", components[i]);
    }
    err e = OK;
    if (list && !folder_exists(folder))
        e = err_set(E_MODEL, "%s: there is no such folder; check the path of the model", folder);
    else if (list)
        e = err_set(E_MODEL, "%s: missing %s; is it an SDXL pipeline folder, and wholly downloaded?", folder, list);
    arena_free(&memory);
    return e;
}
