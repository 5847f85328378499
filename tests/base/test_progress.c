/* Log lines, progress and problems: what a person reads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/problems.h"
#include "base/progress.h"

static double now;

static double test_clock(void)
{
    return now;
}

static char  *printed;
static size_t printed_size;

static logger captured(bool quiet, bool terminal)
{
    return (logger){.stream = open_memstream(&printed, &printed_size), .quiet = quiet, .terminal = terminal};
}

static void assert_printed(logger *l, const char *expected)
{
    fclose(l->stream);
    assert_string_equal(printed, expected);
    free(printed);
}

static progress start(logger *l, int64_t first, int64_t total)
{
    progress p = progress_start(l, "train", "steps", first, total);
    now = 100;
    p.started = now;
    p.clock = test_clock;
    return p;
}

static void test_log(void **state)
{
    (void)state;
    logger l = captured(false, false);
    log_info(&l, "step %d", 3);
    log_warning(&l, "%s is odd", "x");
    log_info(NULL, "nothing");
    assert_printed(&l, "step 3\nwarning: x is odd\n");
    l = captured(true, false);
    log_info(&l, "hidden");
    log_warning(&l, "shown");
    assert_printed(&l, "warning: shown\n");
}

static void test_plain_lines(void **state)
{
    (void)state;
    logger l = captured(false, false);
    progress p = start(&l, 0, 100);
    for (int i = 1; i <= 100; i++) {
        now += 0.5;
        progress_update(&p, i, i == 100 ? "loss 0.5" : "loss 1");
    }
    progress_end(&p);
    assert_printed(&l, "train 1/100 1% loss 1, 2.00 steps/s, 0:50 left\n"
                       "train 21/100 21% loss 1, 2.00 steps/s, 0:40 left\n"
                       "train 41/100 41% loss 1, 2.00 steps/s, 0:30 left\n"
                       "train 61/100 61% loss 1, 2.00 steps/s, 0:20 left\n"
                       "train 81/100 81% loss 1, 2.00 steps/s, 0:10 left\n"
                       "train 100/100 100% loss 0.5, 2.00 steps/s, 0:50 in all\n");
}

static void test_resumed_rate(void **state)
{
    (void)state;
    logger l = captured(false, false);
    progress p = start(&l, 90, 100);
    now += 10;
    progress_update(&p, 91, NULL);
    progress_end(&p); /* nothing new to say */
    assert_printed(&l, "train 91/100 91%, 0.10 steps/s, 1:30 left\n");
}

static void test_terminal(void **state)
{
    (void)state;
    logger l = captured(false, true);
    progress p = start(&l, 0, 10);
    progress_update(&p, 0, NULL);
    now += 0.01;
    progress_update(&p, 1, NULL); /* too soon */
    log_warning(&l, "odd");
    now += 0.99;
    progress_update(&p, 2, NULL);
    progress_end(&p);
    assert_printed(&l, "\rtrain 0/10 0%\033[K\r\033[Kwarning: odd\n\rtrain 2/10 20%, 2.00 steps/s, 0:04 left\033[K\n");
}

static void test_quiet(void **state)
{
    (void)state;
    logger l = captured(true, true);
    progress p = start(&l, 0, 10), silent = start(NULL, 0, 10);
    progress_update(&p, 1, "x");
    progress_update(&silent, 1, "x");
    progress_end(&p);
    progress_end(&silent);
    assert_printed(&l, "");
}

static void test_problems(void **state)
{
    (void)state;
    arena memory = {0};
    problems p = {.memory = &memory};
    logger l = captured(false, false);
    assert_int_equal(problems_report(&p, l.stream, 50), OK);
    problems_warn(&p, "data.jsonl", 9, "clipped");
    problems_add(&p, E_DATASET, "data.jsonl", 2, "box %d", 1);
    assert_int_equal(problems_report(&p, l.stream, 50), E_DATASET);
    assert_string_equal(err_message(), "data.jsonl:2: box 1");
    problems_add(&p, E_MODEL, NULL, 0, "no unet");
    problems_add(&p, E_CONFIG, "RUN.yaml", 7, "lr");
    problems_add(&p, E_DATASET, "data.jsonl", 1, "first");
    assert_int_equal(problems_report(&p, l.stream, 3), E_CONFIG);
    assert_non_null(strstr(err_message(), "4 problems"));
    assert_printed(&l, "warning: data.jsonl:9: clipped\n"
                       "error[E_DATASET] data.jsonl:1: first\n"
                       "error[E_DATASET] data.jsonl:2: box 1\n"
                       "warning: data.jsonl:9: clipped\n"
                       "... and 2 more\n");
    for (int i = 0; i < 5000; i++)
        problems_add(&p, E_DATASET, "data.jsonl", i, "again");
    assert_int_equal(p.errors, 5004);
    assert_true(p.count <= 1000);
    arena_free(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log),      cmocka_unit_test(test_plain_lines), cmocka_unit_test(test_resumed_rate),
        cmocka_unit_test(test_terminal), cmocka_unit_test(test_quiet),       cmocka_unit_test(test_problems),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
