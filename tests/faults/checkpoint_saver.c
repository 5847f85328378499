/* checkpoint_saver save RUN     saves step after step, beginning after the newest, and prints each step once it is safe
 * checkpoint_saver verify RUN N every folder under a final name is whole and holds its step's numbers, and the newest is N or
 *                               later; exits 1 with the reason where not */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "checkpoint_state.h"
#include "train/checkpoint_list.h"

static int complain(const char *what)
{
    fprintf(stderr, "%s\n", what);
    return 1;
}

static int64_t newest_step(state *s, const char *run)
{
    char   *newest = NULL;
    int     found;
    int64_t step = 0;
    logger  log = logger_start(true);
    if (checkpoint_newest(&newest, &found, run, &log) == OK && newest && checkpoint_load(&s->c, newest) == OK)
        step = s->c.step;
    free(newest);
    return step;
}

static int save(const char *run)
{
    state s;
    state_open(&s);
    if (folder_make(run) != OK)
        return complain(err_message());
    checkpoint_sweep(run);
    for (int64_t step = newest_step(&s, run) + 1;; step++) {
        if (state_save(&s, run, step) != OK)
            return complain(err_message());
        printf("%" PRId64 "\n", step);
        fflush(stdout);
    }
}

static int verify_folder(state *s, const char *path)
{
    int64_t step;
    if (checkpoint_verify(&step, path) != OK || checkpoint_load(&s->c, path) != OK)
        return complain(err_message());
    return state_holds(s, step) ? 0 : complain("a folder holds other numbers than its step's");
}

static int verify(const char *run, int64_t least)
{
    state s;
    int   bad = 0;
    state_open(&s);
    DIR *d = opendir(run);
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        if (strncmp(e->d_name, "step-", 5))
            continue;
        char *path = path_join(run, e->d_name);
        bad += verify_folder(&s, path);
        free(path);
    }
    if (d)
        closedir(d);
    int64_t newest = newest_step(&s, run);
    if (newest < least) {
        fprintf(stderr, "step %" PRId64 " was acknowledged, the newest is %" PRId64 "\n", least, newest);
        bad++;
    }
    state_close(&s);
    return bad != 0;
}

int main(int count, char **word)
{
    if (count == 3 && !strcmp(word[1], "save"))
        return save(word[2]);
    if (count == 4 && !strcmp(word[1], "verify"))
        return verify(word[2], atoll(word[3]));
    return complain("checkpoint_saver save RUN | verify RUN LEAST");
}
