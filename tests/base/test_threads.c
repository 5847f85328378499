#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/threads.h"

static char *root;

static void put(const char *path, const char *text)
{
    char *full = path_join(root, path), *folder = path_join(root, path);
    *strrchr(folder, '/') = 0;
    assert_int_equal(folder_make(folder), OK);
    file_writer *w;
    assert_int_equal(file_create(&w, full), OK);
    assert_int_equal(file_write(w, text, strlen(text)), OK);
    assert_int_equal(file_publish(w), OK);
    free(full);
    free(folder);
}

static void test_quota(void **state)
{
    (void)state;
    root = path_join(MSD_TEST_TMP, "cgroup");
    folder_remove(root);
    put("a/b/cpu.max", "max 100000\n");
    put("a/cpu.max", "150000 100000\n");
    put("cpu/x/cpu.cfs_quota_us", "50000\n");
    put("cpu/x/cpu.cfs_period_us", "100000\n");
    put("cpu,cpuacct/y/cpu.cfs_quota_us", "-1\n");
    put("cpu,cpuacct/y/cpu.cfs_period_us", "100000\n");
    put("cpu,cpuacct/cpu.cfs_quota_us", "200000\n");
    put("cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    static const struct {
        const char *membership;
        double      cpus;
    } row[] = {
        {"0::/a/b\n", 1.5},
        {"0::/a\n", 1.5},
        {"0::/\n", 0},
        {"0::/gone/away\n", 0},
        {"", 0},
        {"nonsense", 0},
        {"4:cpu:/x\n", 0.5},
        {"4:cpu,cpuacct:/y\n", 2},
        {"4:cpuset:/x\n", 0},
        {"1:cpu:/x\n0::/a/b\n", 0.5},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        double cpus = threads_quota(row[i].membership, root);
        if (!(cpus == row[i].cpus))
            fail_msg("row %zu: %g", i, cpus);
    }
    folder_remove(root);
    free(root);
}

static void test_affinity(void **state)
{
    (void)state;
    cpu_set_t before, one;
    assert_true(threads_usable() >= 1);
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &before))
            CPU_SET(i, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(threads_usable(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

static void *count_own(void *user)
{
    cpu_set_t set;
    *(int *)user = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : -1;
    return NULL;
}

/* This program once more, with OpenMP pinning its threads: as many CPUs count, and other threads are not pinned. */
static void test_pinned(void **state)
{
    (void)state;
    char count[16];
    int  status;
    snprintf(count, sizeof count, "%d", threads_usable());
    pid_t child = fork();
    if (child == 0) {
        setenv("OMP_PROC_BIND", "true", 1);
        execl("/proc/self/exe", "test_threads", count, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static int report_pinned(int wanted)
{
    pthread_t thread;
    int       own = 0, other = 0;
    count_own(&own);
    if (threads_start(&thread, count_own, &other) != 0 || pthread_join(thread, NULL) != 0)
        return 2;
    fprintf(stderr, "pinned: %d usable of %d, main thread on %d, another on %d\n", threads_usable(), wanted, own, other);
    return threads_usable() != wanted || other < wanted; /* a quota may be less than the CPUs */
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return report_pinned(atoi(argv[1]));
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_quota), cmocka_unit_test(test_affinity),
                                       cmocka_unit_test(test_pinned)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
