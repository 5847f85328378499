#include "train/resume.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/checkpoint_list.h"
#include "train/run_reduce.h"

static err find_newest(char **folder, run *r)
{
    const char *dir = r->config->output.dir;
    int found = 0;
    bool automatic = r->options->resume && !strcmp(r->options->resume, "auto");
    TRY(checkpoint_newest(folder, &found, dir, automatic ? r->log : NULL));
    if (!automatic && found)
        return err_set(E_USAGE, "%s holds %d checkpoint%s of an earlier run; go on with --resume auto, or name another output.dir",
                       dir, found, found > 1 ? "s" : "");
    if (automatic && found && !*folder)
        return err_set(E_CHECKPOINT, "%s: none of its %d step folders is whole; see the warnings above, or name another output.dir",
                       dir, found);
    return OK;
}

static bool is_allowed(const run *r, const char *key)
{
    for (int i = 0; i < r->options->allowed; i++)
        if (!strcmp(r->options->allow_change[i], key))
            return true;
    return false;
}

static int64_t samples_of_step(const run_config *c, int64_t among)
{
    return c->train.batch_size * c->train.accumulation * among;
}

/* Other ranks may share out a step's samples otherwise, as long as they are as many: then the run goes on with the same. */
static err compare_ranks(run_config *before, const run *r, const char *folder)
{
    const run_config *now = r->config;
    int64_t then, here = ranks_count(r->ranks);
    TRY(checkpoint_ranks(&then, folder));
    if (then == here)
        return OK;
    if (samples_of_step(before, then) == samples_of_step(now, here)) {
        before->train.batch_size = now->train.batch_size;
        before->train.accumulation = now->train.accumulation;
        return OK;
    }
    if (is_allowed(r, "train.batch_size") || is_allowed(r, "train.accumulation"))
        return OK;
    return err_set(E_CONFIG, "train.batch_size x train.accumulation x ranks: %s has %" PRId64 " x %" PRId64 " x %" PRId64
                             " samples a step, this run %" PRId64 " x %" PRId64 " x %" PRId64 "; choose them so that the product is "
                             "the same, or add --allow-change train.batch_size",
                   folder, before->train.batch_size, before->train.accumulation, then, now->train.batch_size,
                   now->train.accumulation, here);
}

static err compare_configs(run *r, const char *folder)
{
    char *path = path_join(folder, "config.yaml");
    problems found = {.memory = &r->memory};
    run_config *before = NULL;
    run_config_load(&before, &r->memory, &found, path, NULL, 0);
    free(path);
    if (found.errors) {
        problems_report(&found, stderr, 50);
        return err_prefix(E_CHECKPOINT, "%s/config.yaml", folder);
    }
    TRY(compare_ranks(before, r, folder));
    return run_config_resumes(before, r->config, r->options->allow_change, r->options->allowed);
}

/* Whether a step folder lies in this run's folder, by whatever path. */
static bool is_own(const run *r, const char *folder)
{
    char *parent = path_join(folder, ".."), *a = realpath(parent, NULL), *b = realpath(r->config->output.dir, NULL);
    bool same = a && b && !strcmp(a, b);
    free(parent);
    free(a);
    free(b);
    return same;
}

/* Going on from another run's step in a folder that has steps of its own would mix the two. */
static err check_folder(run *r, const char *folder)
{
    char *newest = NULL;
    int found = 0;
    if (is_own(r, folder))
        return OK;
    TRY(checkpoint_newest(&newest, &found, r->config->output.dir, NULL));
    free(newest);
    if (found)
        return err_set(E_USAGE, "--resume %s belongs to another run, and output.dir %s holds %d checkpoint%s of its own; name another "
                                "output.dir, or go on with --resume auto", folder, r->config->output.dir, found, found > 1 ? "s" : "");
    return OK;
}

err resume_find(char **folder, int64_t *step, run *r)
{
    const char *how = r->options->resume;
    *folder = NULL;
    *step = 0;
    if (!how || !strcmp(how, "none") || !strcmp(how, "auto")) {
        err e = find_newest(folder, r);
        if (e != OK || !*folder || !how || strcmp(how, "auto")) {
            free(*folder);
            *folder = NULL;
            return e;
        }
    } else {
        *folder = heap_get(strlen(how) + 1);
        strcpy(*folder, how);
    }
    err e = checkpoint_verify(step, *folder);
    if (e == OK)
        e = compare_configs(r, *folder);
    if (e == OK)
        e = check_folder(r, *folder);
    if (e != OK) {
        free(*folder);
        *folder = NULL;
    }
    return e;
}

/* The weights of a checkpoint mean something on the UNet that they were trained on alone. */
static err check_base(const run *r, const char *folder)
{
    char *path = path_join(folder, "adapter.safetensors");
    safetensors *s = NULL;
    err e = err_as(safetensors_open(&s, path), E_CHECKPOINT);
    const char *base = e == OK ? safetensors_metadata(s, "base") : NULL;
    if (base && strcmp(base, r->base)) {
        if (is_allowed(r, "model.base"))
            log_warning(r->log, "%s was trained on another UNet than that of %s", path, r->config->model.base);
        else
            e = err_set(E_CHECKPOINT, "%s was trained on another UNet (%.12s) than that of %s (%.12s); give that model.base, or add "
                                      "--allow-change model.base", path, base, r->config->model.base, r->base);
    }
    safetensors_close(s);
    free(path);
    return e;
}

err resume_load(run *r, const char *folder)
{
    arena memory = {0};
    whole_optimizer moments;
    err e = run_reduce_whole(&moments, r);
    checkpoint c = run_checkpoint(r, &memory, moments.o);
    if (e == OK)
        e = check_base(r, folder);
    if (e == OK)
        e = checkpoint_load(&c, folder);
    if (e == OK)
        e = run_reduce_take(r, &moments);
    run_reduce_drop(&moments);
    r->step = c.step;
    r->skips = c.skips;
    arena_free(&memory);
    TRY(e);
    if (is_own(r, folder))
        log_info(r->log, "resumed from %s", folder);
    else
        log_info(r->log, "resumed from %s of another run: same settings and base model; its step %" PRId64 " goes on in %s", folder,
                 r->step, r->config->output.dir);
    return OK;
}
