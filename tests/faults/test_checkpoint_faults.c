/* Saving, rotating, listing and loading checkpoints while each call to the system fails in turn, or the process is killed
 * there: what was acknowledged is never lost, nothing damaged ever stands under a final name, errors are said. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "checkpoint_state.h"
#include "fault_io.h"
#include "train/checkpoint_list.h"

/* Warnings about faults are many, and asked for by their effect. */
static logger quiet(void)
{
    logger log = logger_start(true);
    log.stream = fopen("/dev/null", "w");
    assert_non_null(log.stream);
    return log;
}

/* In memory where the system has a folder for that: thousands of fsyncs of real files prove nothing more here. */
static const char *run_folder(void)
{
    return access("/dev/shm", W_OK) ? MSD_TEST_TMP "/checkpoint_faults" : "/dev/shm/msd_checkpoint_faults";
}

/* ---- what has to hold after every fault ---- */

/* Every folder under a final name is whole, and the newest is `least` or later. */
static void check_run(state *s, int64_t least)
{
    char   *newest = NULL;
    int     found = 0, whole = 0;
    int64_t step = -1;
    DIR    *d = opendir(run_folder());
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        if (strncmp(e->d_name, "step-", 5))
            continue;
        char *path = path_join(run_folder(), e->d_name);
        if (checkpoint_verify(&step, path) != OK)
            fail_msg("%s", err_message());
        whole++;
        free(path);
    }
    closedir(d);
    logger log = quiet();
    assert_int_equal(checkpoint_newest(&newest, &found, run_folder(), &log), OK);
    fclose(log.stream);
    assert_int_equal(found, whole);
    assert_non_null(newest);
    if (checkpoint_load(&s->c, newest) != OK)
        fail_msg("%s", err_message());
    assert_true(s->c.step >= least);
    assert_true(state_holds(s, s->c.step));
    free(newest);
}

static int entries(void)
{
    DIR *d = opendir(run_folder());
    int  count = -2;
    while (readdir(d))
        count++;
    closedir(d);
    return count;
}

/* Two good steps, 10 and 20. */
static void fresh_run(state *s)
{
    folder_remove(run_folder());
    assert_int_equal(folder_make(run_folder()), OK);
    for (int64_t step = 10; step <= 20; step += 10) {
        state_of_step(s, step);
        assert_int_equal(checkpoint_save(run_folder(), &s->c), OK);
    }
}

/* ---- every call fails ---- */

static void saves_survive(void **unused)
{
    (void)unused;
    state s;
    long  points = 0, refused = 0;
    state_open(&s);
    fresh_run(&s);
    fault_set(0, FAULT_NONE, false);
    assert_int_equal(state_save(&s, run_folder(), 30), OK);
    long calls = fault_count();
    for (int kind = FAULT_EIO; kind <= FAULT_SHORT; kind++)
        for (int sticky = 0; sticky < 2; sticky++) {
            for (long at = 1; at <= calls; at++, points++) {
                fresh_run(&s);
                fault_set(at, (fault_kind)kind, sticky);
                err e = state_save(&s, run_folder(), 30);
                fault_set(0, FAULT_NONE, false);
                if (e != OK) {
                    assert_true(e == E_IO || e == E_DISK_FULL);
                    assert_non_null(strstr(err_message(), run_folder()));
                    refused++;
                }
                check_run(&s, e == OK ? 30 : 20);
                checkpoint_sweep(run_folder());
                assert_true(entries() <= STATE_KEEP + 1);
                assert_int_equal(state_save(&s, run_folder(), 40), OK); /* the next save is as if nothing had been */
                check_run(&s, 40);
                assert_int_equal(entries(), STATE_KEEP);
            }
        }
    printf("%ld faults, %ld saves refused\n", points, refused);
    assert_true(refused > 50);
    folder_remove(run_folder());
    state_close(&s);
}

static err load_newest(bool *loaded, state *s)
{
    char  *newest = NULL;
    int    found;
    logger log = quiet();
    err    e = checkpoint_newest(&newest, &found, run_folder(), &log);
    fclose(log.stream);
    *loaded = e == OK && newest;
    if (*loaded)
        e = checkpoint_load(&s->c, newest);
    *loaded = *loaded && e == OK;
    free(newest);
    return e;
}

static void loads_survive(void **unused)
{
    (void)unused;
    state s;
    long  points = 0, refused = 0;
    state_open(&s);
    fresh_run(&s);
    bool loaded;
    fault_set(0, FAULT_NONE, false);
    assert_int_equal(load_newest(&loaded, &s), OK);
    long calls = fault_count();
    for (int kind = FAULT_EIO; kind <= FAULT_SHORT; kind++)
        for (int sticky = 0; sticky < 2; sticky++)
            for (long at = 1; at <= calls; at++, points++) {
                state_of_step(&s, 7);
                fault_set(at, (fault_kind)kind, sticky);
                err e = load_newest(&loaded, &s);
                fault_set(0, FAULT_NONE, false);
                assert_true(!loaded || state_holds(&s, 10) || state_holds(&s, 20));
                assert_true(loaded || e == OK || e == E_IO || e == E_DISK_FULL || e == E_CHECKPOINT);
                refused += e != OK;
            }
    printf("%ld faults, %ld loads refused\n", points, refused);
    check_run(&s, 20);
    folder_remove(run_folder());
    state_close(&s);
}

/* ---- killed at every call ---- */

static bool killed_child(state *s, long at, int64_t *acknowledged)
{
    int   ends[2], status;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        fault_set(at, FAULT_KILL, false);
        err e = state_save(s, run_folder(), 30);
        fault_set(0, FAULT_NONE, false);
        ssize_t put = write(ends[1], &(char){1}, e == OK);
        _exit(put == 1 ? 0 : 1);
    }
    close(ends[1]);
    char said;
    *acknowledged = read(ends[0], &said, 1) == 1 ? 30 : 20;
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static void kills_lose_nothing(void **unused)
{
    (void)unused;
    state   s;
    long    at = 1;
    int64_t acknowledged;
    state_open(&s);
    for (bool killed = true; killed; at++) {
        fresh_run(&s);
        killed = killed_child(&s, at, &acknowledged);
        check_run(&s, acknowledged);
        checkpoint_sweep(run_folder());
        assert_true(entries() <= STATE_KEEP + 1);
        assert_int_equal(state_save(&s, run_folder(), 40), OK);
        check_run(&s, 40);
        assert_int_equal(entries(), STATE_KEEP);
    }
    printf("killed at each of %ld calls\n", at - 2);
    assert_true(at > 30);
    folder_remove(run_folder());
    state_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saves_survive), cmocka_unit_test(loads_survive), cmocka_unit_test(kills_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
