/* log.jsonl after a crash and a resume: lines beyond the checkpoint are gone, the rest is untouched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "train/run_log.h"

static const char *const path = MSD_TEST_TMP "/log.jsonl";

static void put(const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void expect(const char *wanted)
{
    char *text;
    size_t size;
    assert_int_equal(file_read(&text, &size, path, 1 << 20), OK);
    assert_string_equal(text, wanted);
    free(text);
}

static void reopen(int64_t last_step)
{
    file_log *log;
    assert_int_equal(run_log_open(&log, path, last_step), OK);
    file_log_close(log);
}

static void later_and_torn_lines_are_cut(void **state)
{
    (void)state;
    put("{\"step\": 1, \"loss\": 0.5}\n{\"step\": 2, \"loss\": 0.25}\n{\"step\": 3, \"lo");
    reopen(2);
    expect("{\"step\": 1, \"loss\": 0.5}\n{\"step\": 2, \"loss\": 0.25}\n");
    reopen(1);
    expect("{\"step\": 1, \"loss\": 0.5}\n");
    reopen(0);
    expect("");
}

static void digits_are_enough_to_compare_runs(void **state)
{
    (void)state;
    remove(path);
    file_log *log;
    assert_int_equal(run_log_open(&log, path, 0), OK);
    step_record r = {.step = 1, .loss = 0.123456789012, .grad_norm = 1.0 / 3, .lr = 1e-4, .seconds = 2,
                     .wait = 0.25, .images_per_second = 4};
    assert_int_equal(run_log_write(log, &r), OK);
    r.step = 2;
    r.loss = 0.0 / 0.0;
    r.skipped = 1;
    assert_int_equal(run_log_write(log, &r), OK);
    file_log_close(log);
    expect("{\"step\": 1, \"loss\": 0.123456789012, \"grad_norm\": 0.333333333333, \"lr\": 0.0001, \"skipped\": 0, \"seconds\": 2, "
           "\"wait\": 0.25, \"images_per_second\": 4}\n"
           "{\"step\": 2, \"loss\": null, \"grad_norm\": 0.333333333333, \"lr\": 0.0001, \"skipped\": 1, \"seconds\": 2, "
           "\"wait\": 0.25, \"images_per_second\": 4}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(later_and_torn_lines_are_cut),
        cmocka_unit_test(digits_are_enough_to_compare_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
