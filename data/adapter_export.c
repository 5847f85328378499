#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "data/adapter_file.h"

/* The number of "step-000500"; -1 for other names. */
static int64_t step_number(const char *name)
{
    if (strncmp(name, "step-", 5) != 0 || strspn(name + 5, "0123456789") != strlen(name + 5) || strlen(name) < 6 ||
        strlen(name) > 20)
        return -1;
    return strtoll(name + 5, NULL, 10);
}

/* The step folder of a run with the largest number; NULL when there is none. Caller frees. */
static char *newest_step(const char *run)
{
    DIR *folder = opendir(run);
    char *newest = NULL;
    int64_t best = -1;
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        int64_t number = step_number(entry->d_name);
        if (number <= best)
            continue;
        free(newest);
        newest = path_join(run, entry->d_name);
        best = number;
    }
    if (folder)
        closedir(folder);
    return newest;
}

/* FOLDER/adapter.safetensors or FOLDER/ms_adapter.bin; NULL when there is neither. */
static char *adapter_in(const char *folder)
{
    static const char *const names[] = {"adapter.safetensors", "ms_adapter.bin"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = path_join(folder, names[i]);
        if (file_exists(path))
            return path;
        free(path);
    }
    return NULL;
}

err adapter_find(char **path, const char *src)
{
    if (!folder_exists(src)) {
        *path = path_join("", src);
        return OK;
    }
    char *step = newest_step(src);
    *path = adapter_in(step ? step : src);
    err e = OK;
    if (!*path)
        e = err_set(E_CHECKPOINT,
                    "%s: found no adapter.safetensors, expected a step folder, a run folder with step-NNNNNN/, or an "
                    "adapter file",
                    step ? step : src);
    free(step);
    return e;
}

err adapter_export(const char *dst, const char *src, stored_type type)
{
    char *path = NULL;
    adapter_file *a = NULL;
    arena memory = {0};
    TRY(adapter_find(&path, src));
    err e = adapter_file_open(&a, path);
    if (!e) {
        const text_pair *metadata;
        size_t count = adapter_file_metadata(&metadata, &memory, &a->sizes, tensor_file_metadata(&a->file, "base"),
                                             tensor_file_metadata(&a->file, "step"));
        e = adapter_file_write(dst, a->tensors.at, a->tensors.count, type, metadata, count);
    }
    adapter_file_close(a);
    arena_free(&memory);
    free(path);
    return e;
}
