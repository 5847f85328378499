/* The control channel with real processes: meeting, collective calls, comparison, death, hang, standstill, failure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/progress.h"
#include "train/ranks.h"
#include "train/ranks_environment.h"

enum { MOST = 5, SAID = 8192 };

static const char *const variables[] = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "OMPI_COMM_WORLD_SIZE",
                                        "PMI_SIZE", "PMI_RANK", "PMIX_RANK", "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS",
                                        "TORCHELASTIC_USE_AGENT_STORE"};

static void forget_variables(void)
{
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
}

/* ---- who am I ---- */

/* "A=1 B=2" */
static void set_variables(const char *list)
{
    char copy[512], *rest, *name;
    forget_variables();
    snprintf(copy, sizeof copy, "%s", list);
    for (name = strtok_r(copy, " ", &rest); name; name = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(name, '=');
        *value = 0;
        setenv(name, value + 1, 1);
    }
}

#define MASTER " MASTER_ADDR=localhost MASTER_PORT=2000"

static void test_place(void **state)
{
    static const struct {
        const char *set;
        ranks_found found;
        int         rank, count, local, port;
    } rows[] = {
        {"", RANKS_NONE, 0, 1, 0, 0},
        {"WORLD_SIZE=1 RANK=0", RANKS_NONE, 0, 1, 0, 0},
        {"OMPI_COMM_WORLD_SIZE=1", RANKS_NONE, 0, 1, 0, 0},
        {"SLURM_PROCID=0 SLURM_NTASKS=8", RANKS_NONE, 0, 1, 0, 0}, /* a batch script */
        {"OMPI_COMM_WORLD_SIZE=4", RANKS_MPI, 0, 1, 0, 0},
        {"PMI_RANK=1 PMI_SIZE=2", RANKS_MPI, 0, 1, 0, 0},
        {"PMIX_RANK=1 SLURM_STEP_NUM_TASKS=2", RANKS_MPI, 0, 1, 0, 0},
        {"RANK=3 WORLD_SIZE=4 LOCAL_RANK=1" MASTER, RANKS_ENVIRONMENT, 3, 4, 1, 2000},
        {"RANK=3 WORLD_SIZE=4 TORCHELASTIC_USE_AGENT_STORE=True" MASTER, RANKS_ENVIRONMENT, 3, 4, 0, 2001},
        {"OMPI_COMM_WORLD_SIZE=4 RANK=3 WORLD_SIZE=4" MASTER, RANKS_MPI, 0, 1, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ranks_place p;
        set_variables(rows[i].set);
        if (ranks_place_read(&p) != OK)
            fail_msg("%s: %s", rows[i].set, err_message());
        assert_int_equal(p.found, rows[i].found);
        assert_int_equal(p.rank, rows[i].rank);
        assert_int_equal(p.count, rows[i].count);
        assert_int_equal(p.local, rows[i].local);
        assert_int_equal(p.port, rows[i].port);
    }
}

static void test_malformed(void **state)
{
    static const struct {
        const char *set, *said;
    } rows[] = {
        {"RANK=1", "WORLD_SIZE is not set"},
        {"WORLD_SIZE=2" MASTER, "RANK is not set"},
        {"RANK=2 WORLD_SIZE=2" MASTER, "RANK: found \"2\", expected a whole number from 0 to 1"},
        {"RANK=-1 WORLD_SIZE=2" MASTER, "RANK: found \"-1\""},
        {"RANK=0x1 WORLD_SIZE=2" MASTER, "RANK: found \"0x1\""},
        {"RANK=+1 WORLD_SIZE=2" MASTER, "RANK: found \"+1\""},
        {"RANK=1 WORLD_SIZE=2.0" MASTER, "WORLD_SIZE: found \"2.0\""},
        {"RANK=1 WORLD_SIZE=0" MASTER, "WORLD_SIZE: found \"0\""},
        {"RANK=1 WORLD_SIZE=99999999999999999999" MASTER, "WORLD_SIZE: found \"99999999999999999999\""},
        {"RANK=1 WORLD_SIZE=2 LOCAL_RANK=two" MASTER, "LOCAL_RANK: found \"two\""},
        {"RANK=1 WORLD_SIZE=2 MASTER_PORT=2000", "MASTER_ADDR is not set"},
        {"RANK=1 WORLD_SIZE=2 MASTER_ADDR=here", "MASTER_PORT is not set"},
        {"RANK=1 WORLD_SIZE=2 MASTER_ADDR=here MASTER_PORT=65536", "MASTER_PORT: found \"65536\""},
        {"RANK=x WORLD_SIZE=2", "RANK: found \"x\", expected a whole number from 0 to 1; MASTER_ADDR is not set; MASTER_PORT is not"},
        {"SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=4", "srun started 4 tasks without MPI"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ranks_place p;
        set_variables(rows[i].set);
        assert_int_equal(ranks_place_read(&p), E_DISTRIBUTED);
        if (!strstr(err_message(), rows[i].said))
            fail_msg("%s: %s", rows[i].set, err_message());
    }
    forget_variables();
}

/* ---- processes ---- */

static int free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(s, (struct sockaddr *)&at, &size), 0);
    close(s);
    return ntohs(at.sin_port);
}

typedef struct job {
    pid_t  child[MOST];
    int    code[MOST];     /* exit code, or 128 + signal */
    char   said[MOST][SAID]; /* standard error */
    double seconds;        /* until all but the stopped ones were gone */
} job;

typedef int rank_body(int rank); /* in the child, with the variables set; returns the exit code */

static _Noreturn void be_rank(rank_body *body, int rank, int count, int port, const char *to)
{
    char text[256];
    snprintf(text, sizeof text, "RANK=%d WORLD_SIZE=%d MASTER_ADDR=127.0.0.1 MASTER_PORT=%d", rank, count, port);
    set_variables(text);
    if (!freopen(to, "w", stderr))
        _exit(99);
    _exit(body(rank));
}

static void said_path(char out[256], int rank)
{
    snprintf(out, 256, "%s/ranks-%d-%d", MSD_TEST_TMP, getpid(), rank);
}

/* stopped: a rank that will not end by itself, or -1. */
static void run_job(job *j, rank_body *body, int count, int stopped)
{
    int port = free_port();
    double began = clock_seconds();
    char path[MOST][256];
    memset(j, 0, sizeof *j);
    for (int i = 0; i < count; i++) {
        said_path(path[i], i);
        j->child[i] = fork();
        if (j->child[i] == 0)
            be_rank(body, i, count, port, path[i]);
    }
    for (int i = 0; i < count; i++) {
        int status;
        if (i == stopped)
            continue;
        assert_int_equal(waitpid(j->child[i], &status, 0), j->child[i]);
        j->code[i] = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    j->seconds = clock_seconds() - began;
    if (stopped >= 0) {
        int status;
        kill(j->child[stopped], SIGCONT); /* it finds that the others have left, and follows */
        assert_int_equal(waitpid(j->child[stopped], &status, 0), j->child[stopped]);
        j->code[stopped] = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    for (int i = 0; i < count; i++) {
        FILE *f = fopen(path[i], "r");
        size_t size = f ? fread(j->said[i], 1, SAID - 1, f) : 0;
        j->said[i][size] = 0;
        if (f)
            fclose(f);
        unlink(path[i]);
    }
}

static void check_rank(const job *j, int rank, int code, const char *said)
{
    if (j->code[rank] != code || (said && !strstr(j->said[rank], said)))
        fail_msg("rank %d: exit %d, expected %d; said \"%s\", expected \"%s\"", rank, j->code[rank], code, j->said[rank],
                 said ? said : "");
}

static int finish(ranks *r, err e)
{
    e = ranks_close(r, e);
    if (e != OK)
        fprintf(stderr, "error[%s] %s\n", err_name(e), err_message());
    fflush(stderr);
    return err_exit_code(e);
}

static int no_ranks(err e)
{
    return finish(NULL, e);
}

/* ---- collective calls ---- */

static int gather_body(int rank)
{
    ranks *r;
    int64_t given[MOST] = {0}, mine = 100 + rank, told[3000];
    err e = ranks_open(&r, NULL);
    if (e != OK)
        return no_ranks(e);
    if (ranks_rank(r) != rank || ranks_how(r) != RANKS_ENVIRONMENT)
        return 90;
    for (int turn = 0; turn < 3 && e == OK; turn++) {
        e = ranks_gather(r, given, &mine, sizeof mine);
        for (int i = 0; i < ranks_count(r); i++)
            if (given[i] != 100 + i)
                return 91;
        for (int i = 0; i < 3000; i++)
            told[i] = rank == 0 ? i * turn : -1;
        if (e == OK)
            e = ranks_broadcast(r, told, sizeof told);
        for (int i = 0; i < 3000; i++)
            if (told[i] != i * turn)
                return 92;
    }
    return finish(r, e);
}

static void test_gather(void **state)
{
    (void)state;
    for (int count = 2; count <= MOST; count += 3) {
        job j;
        run_job(&j, gather_body, count, -1);
        for (int i = 0; i < count; i++)
            check_rank(&j, i, 0, NULL);
    }
}

static void test_alone(void **state)
{
    ranks *r = (ranks *)&state;
    int given = 0, mine = 7;
    (void)state;
    forget_variables();
    assert_int_equal(ranks_open(&r, NULL), OK);
    assert_null(r);
    assert_int_equal(ranks_count(r), 1);
    assert_int_equal(ranks_gather(r, &given, &mine, sizeof mine), OK);
    assert_int_equal(given, 7);
    ranks_phase(r, PHASE_SAVE, 1);
    assert_int_equal(ranks_compare(r, NULL, 0), OK);
    assert_int_equal(ranks_close(r, E_NUMERIC), E_NUMERIC);
}

static int compare_body(int rank)
{
    ranks *r;
    ranks_fact facts[] = {{"train.seed", rank == 2 ? "7" : "0"}, {"config", rank == 0 ? "a: 1\nb: 2\n" : "a: 1\nb: 3\n"}};
    err e = ranks_open(&r, NULL);
    return e == OK ? finish(r, ranks_compare(r, facts, 2)) : no_ranks(e);
}

static void test_compare(void **state)
{
    job j;
    (void)state;
    run_job(&j, compare_body, 4, -1);
    for (int i = 0; i < 4; i++) {
        check_rank(&j, i, 9, "rank 2 (");
        check_rank(&j, i, 9, "train.seed is 7, the others have 0");
        check_rank(&j, i, 9, "rank 0 (");
        check_rank(&j, i, 9, "config is b: 2, the others have b: 3");
    }
    run_job(&j, compare_body, 2, -1); /* one against one: rank 0's counts */
    check_rank(&j, 0, 9, "rank 1 (");
    check_rank(&j, 1, 9, "config is b: 3, the others have b: 2");
}

static int other_facts_body(int rank)
{
    ranks *r;
    ranks_fact facts[] = {{rank == 1 ? "seed" : "train.seed", "0"}};
    err e = ranks_open(&r, NULL);
    return e == OK ? finish(r, ranks_compare(r, facts, 1)) : no_ranks(e);
}

static void test_other_facts(void **state)
{
    job j;
    (void)state;
    run_job(&j, other_facts_body, 3, -1);
    check_rank(&j, 0, 9, "is another program");
    check_rank(&j, 2, 9, "rank 1 (");
}

/* ---- meeting ---- */

static int same_rank_body(int rank)
{
    ranks *r;
    if (rank == 2)
        setenv("RANK", "1", 1);
    return no_ranks(ranks_open(&r, NULL));
}

static void test_same_rank(void **state)
{
    (void)state;
    int port = free_port(), status;
    pid_t child[3];
    char path[3][256], said[SAID];
    for (int i = 0; i < 3; i++) {
        said_path(path[i], i);
        child[i] = fork();
        if (child[i] == 0)
            be_rank(same_rank_body, i, 3, port, path[i]);
    }
    assert_int_equal(waitpid(child[0], &status, 0), child[0]);
    for (int i = 1; i < 3; i++) { /* these would wait for a rank 0 for two minutes */
        kill(child[i], SIGKILL);
        waitpid(child[i], NULL, 0);
    }
    FILE *f = fopen(path[0], "r");
    said[fread(said, 1, SAID - 1, f)] = 0;
    fclose(f);
    for (int i = 0; i < 3; i++)
        unlink(path[i]);
    assert_int_equal(WEXITSTATUS(status), 9);
    assert_non_null(strstr(said, "two processes say they are rank 1"));
}

/* ---- what goes wrong ---- */

static int dying_body(int rank)
{
    ranks *r;
    err e = ranks_open(&r, NULL);
    if (e != OK)
        return no_ranks(e);
    ranks_phase(r, PHASE_FORWARD, 7);
    usleep(100000);
    if (rank == 1)
        raise(SIGKILL);
    return finish(r, ranks_barrier(r)); /* waits for ever */
}

static void test_death(void **state)
{
    job j;
    (void)state;
    run_job(&j, dying_body, 3, -1);
    check_rank(&j, 0, 9, "rank 1 (");
    check_rank(&j, 0, 9, "died in forward of step 7 (last step done: 6)");
    check_rank(&j, 1, 128 + SIGKILL, "");
    check_rank(&j, 2, 9, "died in forward of step 7 (last step done: 6)");
    assert_true(j.seconds < 10);
}

static int first_dies_body(int rank)
{
    ranks *r;
    err e = ranks_open(&r, NULL);
    if (e != OK)
        return no_ranks(e);
    ranks_phase(r, PHASE_SAVE, 12);
    usleep(100000);
    if (rank == 0)
        raise(SIGKILL);
    return finish(r, ranks_barrier(r));
}

static void test_first_dies(void **state)
{
    job j;
    (void)state;
    run_job(&j, first_dies_body, 3, -1);
    check_rank(&j, 1, 9, "rank 0 (");
    check_rank(&j, 2, 9, "died in save after step 12");
}

/* stops: which rank */
static int stopping(int rank, int stops)
{
    ranks *r;
    err e = ranks_open(&r, NULL);
    if (e != OK)
        return no_ranks(e);
    ranks_watch(r, 2);
    for (int step = 1; step <= 3; step++) {
        ranks_phase(r, PHASE_FORWARD, step);
        usleep(30000);
        if (rank == stops && step == 3)
            raise(SIGSTOP);
        ranks_phase(r, PHASE_REDUCE, step);
        if ((e = ranks_barrier(r)) != OK)
            break;
    }
    return finish(r, e);
}

static int stop_one_body(int rank)
{
    return stopping(rank, 1);
}

static int stop_first_body(int rank)
{
    return stopping(rank, 0);
}

static void test_hang(void **state)
{
    job j;
    (void)state;
    run_job(&j, stop_one_body, 3, 1);
    check_rank(&j, 0, 9, "rank 1 (");
    check_rank(&j, 0, 9, "hangs: nothing was heard of it");
    check_rank(&j, 2, 9, "in forward of step 3");
    check_rank(&j, 1, 9, "");
    assert_true(j.seconds < 2 + 5);
    run_job(&j, stop_first_body, 3, 0);
    check_rank(&j, 1, 9, "rank 0 (");
    check_rank(&j, 2, 9, "hangs: nothing was heard of it");
    assert_true(j.seconds < 2 + 5);
}

static int stuck_body(int rank)
{
    ranks *r;
    err e = ranks_open(&r, NULL);
    if (e != OK)
        return no_ranks(e);
    ranks_watch(r, 1);
    for (int step = 1; step <= 3 && e == OK; step++) {
        ranks_phase(r, PHASE_FORWARD, step);
        usleep(10000);
        if (rank == 2 && step == 3)
            sleep(60);
        ranks_phase(r, PHASE_REDUCE, step);
        e = ranks_barrier(r);
    }
    return finish(r, e);
}

static void test_standstill(void **state)
{
    job j;
    (void)state;
    run_job(&j, stuck_body, 4, -1);
    for (int i = 0; i < 4; i++)
        check_rank(&j, i, 9, "rank 2 hangs: no progress");
    assert_true(j.seconds < 1 + 5);
}

/* Longer than the watchdog, but it moves; and one long wait where waiting is allowed. */
static int slow_body(int rank)
{
    ranks *r;
    err e = ranks_open(&r, NULL);
    if (e != OK)
        return no_ranks(e);
    ranks_watch(r, 1);
    ranks_phase(r, PHASE_FORWARD, 1);
    if ((e = ranks_barrier(r)) != OK)
        return finish(r, e);
    ranks_phase(r, PHASE_FORWARD, 2);
    for (int i = 0; i < 16 && rank == 1; i++) {
        usleep(100000);
        ranks_phase(r, PHASE_FORWARD, 2);
    }
    if ((e = ranks_barrier(r)) != OK)
        return finish(r, e);
    if (rank == 0) {
        ranks_phase(r, PHASE_SAVE, 2);
        usleep(2500000);
    } else {
        ranks_phase(r, PHASE_FORWARD, 3);
    }
    return finish(r, ranks_barrier(r));
}

static void test_slow(void **state)
{
    job j;
    (void)state;
    run_job(&j, slow_body, 3, -1);
    for (int i = 0; i < 3; i++)
        check_rank(&j, i, 0, NULL);
}

static int failing_body(int rank)
{
    ranks *r;
    err e = ranks_open(&r, NULL);
    if (e != OK)
        return no_ranks(e);
    if (rank == 1)
        return finish(r, err_set(E_DATASET, "data.jsonl:7: no picture"));
    return finish(r, ranks_barrier(r));
}

static void test_failure(void **state)
{
    job j;
    (void)state;
    run_job(&j, failing_body, 3, -1);
    check_rank(&j, 0, 3, "data.jsonl:7: no picture");
    check_rank(&j, 1, 3, "error[E_DATASET] data.jsonl:7: no picture");
    check_rank(&j, 2, 3, "rank 1 (");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_place), cmocka_unit_test(test_malformed), cmocka_unit_test(test_alone),
        cmocka_unit_test(test_gather), cmocka_unit_test(test_compare), cmocka_unit_test(test_other_facts),
        cmocka_unit_test(test_same_rank), cmocka_unit_test(test_death), cmocka_unit_test(test_first_dies),
        cmocka_unit_test(test_hang), cmocka_unit_test(test_standstill), cmocka_unit_test(test_slow), cmocka_unit_test(test_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
