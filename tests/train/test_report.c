/* The report's parts: text that cannot break out of the page, ticks, lines with gaps and outliers, and what is read of
 * a run folder with damaged files. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "train/chart.h"
#include "train/report_data.h"

static void expect_text(const char *text, const char *wanted)
{
    html h = {0};
    html_text(&h, text);
    assert_string_equal(h.text, wanted);
    free(h.text);
}

static void strangers_text(void **state)
{
    (void)state;
    expect_text("a <b> & \"c\" 'd'\n\te", "a &lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;\n\te");
    expect_text("caf\xC3\xA9 \xE4\xB8\xAD", "caf\xC3\xA9 \xE4\xB8\xAD");
    expect_text("a\xFF<\x01\xC3", "a\xEF\xBF\xBD&lt;\xEF\xBF\xBD\xEF\xBF\xBD");
}

/* RFC 4648, section 10. */
static void base64(void **state)
{
    (void)state;
    static const char *const pair[][2] = {
        {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        html h = {0};
        html_base64(&h, (const uint8_t *)pair[i][0], strlen(pair[i][0]));
        assert_string_equal(h.text, pair[i][1]);
        free(h.text);
    }
}

static void expect_ticks(double low, double high, bool whole, const double *wanted, int count)
{
    double tick[12];
    assert_int_equal(chart_ticks(tick, low, high, 5, whole), count);
    for (int i = 0; i < count; i++)
        assert_true(fabs(tick[i] - wanted[i]) < 1e-12);
}

static void ticks(void **state)
{
    (void)state;
    expect_ticks(0, 1, false, (const double[]){0, 0.2, 0.4, 0.6, 0.8, 1}, 6);
    expect_ticks(0.93, 1.14, false, (const double[]){0.95, 1, 1.05, 1.1}, 4);
    expect_ticks(1, 3, true, (const double[]){1, 2, 3}, 3);
    expect_ticks(-0.5, 0.5, false, (const double[]){-0.4, -0.2, 0, 0.2, 0.4}, 5);
    expect_ticks(1, 900, true, (const double[]){200, 400, 600, 800}, 4);
    expect_ticks(1, 1, false, NULL, 0);
    expect_ticks(NAN, 1, false, NULL, 0);
}

static char *drawn(const double *x, const double *y, int64_t count)
{
    html h = {0};
    chart_line line = {.name = "n", .style = "main", .x = x, .y = y, .count = count};
    chart_write(&h, &(chart){.title = "T", .caption = "C", .unit = "", .line = &line, .lines = 1});
    return h.text;
}

static int count_of(const char *text, const char *what)
{
    int count = 0;
    for (; (text = strstr(text, what)); text += strlen(what))
        count++;
    return count;
}

static void lines(void **state)
{
    (void)state;
    double x[2000], y[2000];
    for (int i = 0; i < 2000; i++) {
        x[i] = i + 1;
        y[i] = i % 7;
    }
    y[2] = NAN;
    char *text = drawn(x, y, 5);
    assert_int_equal(count_of(text, "<circle"), 4);
    assert_int_equal(count_of(strstr(text, " d=\""), "M"), 2); /* a gap */
    assert_null(strstr(text, "nan"));
    free(text);
    y[1000] = 1e9; /* one of many: cut off and said */
    text = drawn(x, y, 2000);
    assert_non_null(strstr(text, "1 value lies outside"));
    assert_true(strlen(text) < 30000);
    assert_null(strstr(text, "nan"));
    free(text);
    y[0] = INFINITY;
    text = drawn(x, y, 1);
    assert_null(text); /* nothing to draw */
    y[0] = 0;
    text = drawn(x, y, 1);
    assert_null(strstr(text, "nan"));
    assert_int_equal(count_of(text, "<circle"), 1);
    free(text);
}

static void put(const char *path, const char *text)
{
    file_writer *w;
    assert_int_equal(file_create(&w, path), OK);
    assert_int_equal(file_write(w, text, strlen(text)), OK);
    assert_int_equal(file_publish(w), OK);
}

static void a_damaged_run(void **state)
{
    (void)state;
    const char *const run = MSD_TEST_TMP "/report";
    report_data d;
    folder_remove(run);
    assert_int_equal(report_data_read(&d, run), E_USAGE);
    report_data_free(&d);
    assert_int_equal(folder_make(MSD_TEST_TMP "/report/samples"), OK);
    assert_int_equal(report_data_read(&d, run), E_USAGE);
    report_data_free(&d);
    put(MSD_TEST_TMP "/report/log.jsonl",
        "{\"step\": 1, \"loss\": 2, \"seconds\": 2, \"wait\": 1, \"lr\": 0.5, \"skipped\": 0}\n"
        "{\"step\": 2, \"loss\": null, \"seconds\": 2, \"skipped\": 1, \"validation\": {\"loss\": 3, \"samples\": 4, "
        "\"timesteps\": [0, 1, 2, 3, 4], \"bins\": [1, 2, 3, null]}}\n"
        "{\"step\": 2, \"loss\": 9}\nnonsense\n"
        "{\"step\": 3, \"loss\": 1, \"skipped\": 1, \"validation\": {\"timesteps\": [], \"bins\": 7}}\n{\"step\": 4, "
        "\"lo");
    put(MSD_TEST_TMP "/report/config.yaml", "model: 7\n");
    put(MSD_TEST_TMP "/report/samples/step-000010_01.png", "x");
    put(MSD_TEST_TMP "/report/samples/step-000002_01.png", "x");
    put(MSD_TEST_TMP "/report/samples/step-000002_00_0.png", "x");
    put(MSD_TEST_TMP "/report/samples/step-000002_00_1.png", "x");
    put(MSD_TEST_TMP "/report/samples/step-000002_00.png.bak", "x");
    assert_int_equal(report_data_read(&d, run), OK);
    assert_int_equal(d.steps.count, 3);
    assert_true(d.steps.average[0] == 2 && d.steps.average[1] == 2 && fabs(d.steps.average[2] - 1.95) < 1e-12);
    assert_true(isnan(d.steps.loss[1]) && d.steps.wait[0] == 0.5 && d.steps.seconds == 4 && d.steps.skipped == 1);
    assert_int_equal(d.validations.count, 1);
    assert_true(d.validations.step[0] == 2 && d.validations.bin[1][0] == 2 && isnan(d.validations.bin[3][0]));
    assert_int_equal(d.pictures, 3);
    assert_true(d.picture[0].job == 0 && d.picture[1].step == 2 && d.picture[2].step == 10);
    assert_null(d.config);
    assert_int_equal(d.notes, 2); /* two lines; the config */
    report_data_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strangers_text), cmocka_unit_test(base64), cmocka_unit_test(ticks), cmocka_unit_test(lines),
        cmocka_unit_test(a_damaged_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
