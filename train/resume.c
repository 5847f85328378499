#include "train/resume.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/checkpoint_list.h"

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
    return run_config_resumes(before, r->config, r->options->allow_change, r->options->allowed);
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
    if (e != OK) {
        free(*folder);
        *folder = NULL;
    }
    return e;
}

err resume_load(run *r, const char *folder)
{
    arena memory = {0};
    checkpoint c = run_checkpoint(r, &memory);
    err e = checkpoint_load(&c, folder);
    r->step = c.step;
    arena_free(&memory);
    if (e == OK)
        log_info(r->log, "resumed from %s", folder);
    return e;
}
