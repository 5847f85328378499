#include "train/checkpoint_list.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "train/checkpoint.h"

typedef struct step_list {
    int64_t *step; /* newest first */
    int      count;
} step_list;

/* "step-000123" and no other spelling of it: 123, else -1. */
static int64_t parse_step(const char *name)
{
    int64_t step;
    char again[32];
    if (sscanf(name, "step-%" SCNd64, &step) != 1 || step < 0)
        return -1;
    snprintf(again, sizeof again, "step-%06" PRId64, step);
    return strcmp(again, name) ? -1 : step;
}

static int newer_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

static err list_steps(step_list *l, const char *run)
{
    *l = (step_list){0};
    DIR *d = opendir(run);
    if (!d)
        return errno == ENOENT ? OK : err_set(E_IO, "%s: cannot list the run folder: %s", run, strerror(errno));
    for (struct dirent *entry; (entry = readdir(d));) {
        int64_t step = parse_step(entry->d_name);
        if (step < 0)
            continue;
        l->step = heap_grow(l->step, (size_t)(l->count + 1) * sizeof *l->step);
        l->step[l->count++] = step;
    }
    closedir(d);
    if (l->count)
        qsort(l->step, (size_t)l->count, sizeof *l->step, newer_first);
    return OK;
}

static char *folder_of(const char *run, int64_t step)
{
    char name[32];
    snprintf(name, sizeof name, "step-%06" PRId64, step);
    return path_join(run, name);
}

err checkpoint_newest(char **folder, int *found, const char *run, logger *log)
{
    *folder = NULL;
    step_list l;
    TRY(list_steps(&l, run));
    *found = l.count;
    for (int i = 0; i < l.count && !*folder; i++) {
        char *path = folder_of(run, l.step[i]);
        int64_t step = -1;
        err e = checkpoint_verify(&step, path);
        if (e == OK && step != l.step[i])
            e = err_set(E_CHECKPOINT, "manifest.json: step: found %" PRId64 ", expected the folder name's", step);
        if (e == OK) {
            *folder = path;
            continue;
        }
        log_warning(log, "%s is not a whole checkpoint and is passed over: %s", path, err_message());
        free(path);
    }
    free(l.step);
    return OK;
}

/* The averaged weights beside those that *path stands for. */
static err choose_average(char **path)
{
    char *folder = *path, *file = path_join(folder, "ema.safetensors");
    bool found = file_exists(file);
    err e = found ? OK : err_set(E_CHECKPOINT, "%s: holds no averaged weights (ema.safetensors); only steps of a run with train.ema have "
                                               "them; leave --ema away", folder);
    *path = found ? file : NULL;
    if (!found)
        free(file);
    free(folder);
    return e;
}

err checkpoint_export_source(char **out, const char *source, bool ema, logger *log)
{
    char *manifest = path_join(source, "manifest.json");
    bool is_step = file_exists(manifest);
    int64_t step;
    int found = 0;
    free(manifest);
    *out = NULL;
    if (is_step)
        TRY(checkpoint_verify(&step, source));
    else if (folder_exists(source))
        TRY(checkpoint_newest(out, &found, source, log));
    if (!*out && found)
        return err_set(E_CHECKPOINT, "%s: none of its %d step folders is whole; see the warnings above", source, found);
    if (!*out)
        *out = path_join("", source);
    return ema ? choose_average(out) : OK;
}

void checkpoint_rotate(const char *run, int64_t keep, int64_t good)
{
    step_list l;
    if (keep < 1 || list_steps(&l, run) != OK)
        return;
    for (int i = (int)(keep < l.count ? keep : l.count); i < l.count; i++) {
        if (l.step[i] == good)
            continue;
        char *path = folder_of(run, l.step[i]);
        checkpoint_remove(path);
        free(path);
    }
    free(l.step);
}

void checkpoint_sweep(const char *run)
{
    DIR *d = opendir(run);
    for (struct dirent *entry; d && (entry = readdir(d));) {
        if (strncmp(entry->d_name, ".step-", strlen(".step-")) || !strstr(entry->d_name, ".tmp-"))
            continue;
        char *path = path_join(run, entry->d_name);
        folder_remove(path);
        free(path);
    }
    if (d)
        closedir(d);
}
