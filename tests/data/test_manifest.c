#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/progress.h"
#include "data/manifest.h"

static arena memory;
static const char *path = MSD_TEST_TMP "/manifest.jsonl";

static void load(manifest *m, problems *p, const char *text, size_t size, int64_t max_subjects)
{
    file_writer *w;
    assert_int_equal(file_create(&w, path), OK);
    assert_int_equal(file_write(w, text, size), OK);
    assert_int_equal(file_publish(w), OK);
    *p = (problems){.memory = &memory};
    manifest_load(m, p, path, max_subjects);
}

static int tear_down(void **state)
{
    (void)state;
    remove(path);
    arena_free(&memory);
    return 0;
}

static void test_good(void **state)
{
    (void)state;
    const char *text = "{\"image\":\"a.jpg\",\"text\":\"a "
                       "dog\",\"subjects\":[{\"phrase\":\"dog\",\"box\":[1,2,30.5,40],\"reference\":\"/abs/dog.png\","
                       "\"reference_box\":[0,0,5,6],\"mask\":\"m.png\"},{\"phrase\":\"cat\",\"box\":[-3,2,30,40]}],"
                       "\"box_units\":\"pixel\"}\r\n"
                       "\n"
                       "{\"image\":\"b.jpg\",\"text\":\"\",\"box_units\":\"normalized\",\"subjects\":[]}\n"
                       "{\"image\":\"c.jpg\",\"text\":\"x\",\"box_units\":\"normalized\",\"subjects\":[{\"phrase\":"
                       "\"x\",\"box\":[0.1,0,1.2,1]}]}";
    manifest m;
    problems p;
    load(&m, &p, text, strlen(text), 4);
    assert_int_equal(p.errors, 0);
    assert_int_equal(p.warnings, 1);
    assert_string_equal(p.item[0].text,
                        "subjects[0].box: [0.1, 0, 1.2, 1] reaches outside of the picture and is clipped");
    assert_int_equal(p.item[0].line, 4);
    assert_int_equal(m.count, 3);
    const sample *s = &m.sample[0];
    assert_string_equal(s->image, MSD_TEST_TMP "/a.jpg");
    assert_int_equal(s->units, BOX_PIXEL);
    assert_int_equal(s->subjects, 2);
    assert_true(s->subject[0].box[2] == 30.5);
    assert_string_equal(s->subject[0].reference, "/abs/dog.png");
    assert_true(s->subject[0].has_reference_box && s->subject[0].reference_box[3] == 6);
    assert_string_equal(s->subject[0].mask, MSD_TEST_TMP "/m.png");
    assert_null(s->subject[1].reference);
    assert_false(s->subject[1].has_reference_box);
    assert_int_equal(m.sample[1].line, 3);
    assert_int_equal(m.sample[1].subjects, 0);
    manifest_free(&m);
}

/* One mistake a row; %s stands for a whole subject list. */
static void test_mistakes(void **state)
{
    (void)state;
    static const char *const row[][2] = {
        {"{\"image\":\"a\",\"text\":\"t\",\"box_units\":\"pixel\"", "not JSON"},
        {"[1]", "sample: found a list of 1, expected an object"},
        {"{\"text\":\"t\",\"box_units\":\"pixel\"}", "image: missing"},
        {"{\"image\":3,\"text\":\"t\",\"box_units\":\"pixel\"}", "image: found 3"},
        {"{\"image\":\"\",\"text\":\"t\",\"box_units\":\"pixel\"}", "image: found \"\""},
        {"{\"image\":\"a\\nb\",\"text\":\"t\",\"box_units\":\"pixel\"}", "image: found \"a\\x0Ab\""},
        {"{\"image\":\"a\",\"box_units\":\"pixel\"}", "text: missing"},
        {"{\"image\":\"a\",\"text\":null,\"box_units\":\"pixel\"}", "text: found null"},
        {"{\"image\":\"a\",\"text\":\"t\"}", "box_units: missing"},
        {"{\"image\":\"a\",\"text\":\"t\",\"box_units\":\"pixels\"}", "box_units: found \"pixels\""},
        {"{\"image\":\"a\",\"text\":\"t\",\"box_units\":\"pixel\",\"subject\":[]}",
         "subject: unknown key; did you mean subjects?"},
        {"{\"image\":\"a\",\"text\":\"t\",\"text\":\"u\",\"box_units\":\"pixel\"}", "duplicate"},
        {"{\"image\":\"a\",\"text\":\"t\",\"box_units\":\"pixel\",\"subjects\":{}}", "subjects: found an object"},
        {"{\"image\":\"a\",\"text\":\"t\",\"box_units\":\"pixel\",\"subjects\":[1]}", "subjects[0]: found 1"},
        {"pixel[{\"box\":[0,0,9,9]}]", "subjects[0].phrase: missing"},
        {"pixel[{\"phrase\":\"\",\"box\":[0,0,9,9]}]", "subjects[0].phrase: found \"\""},
        {"pixel[{\"phrase\":\"p\"}]", "subjects[0].box: missing, expected a list of four numbers"},
        {"pixel[{\"phrase\":\"p\",\"box\":[0,0,9]}]", "subjects[0].box: found a list of 3"},
        {"pixel[{\"phrase\":\"p\",\"box\":[0,0,9,\"9\"]}]", "subjects[0].box: found a list of 4"},
        {"pixel[{\"phrase\":\"p\",\"box\":[0,0,9,NaN]}]", "not JSON"},
        {"pixel[{\"phrase\":\"p\",\"box\":[9,0,9,9]}]", "expected x0 < x1"},
        {"pixel[{\"phrase\":\"p\",\"box\":[0,9,9,4]}]", "not x, y, width, height"},
        {"pixel[{\"phrase\":\"p\",\"box\":[0,0,1,0.5]}]", "set box_units to \"normalized\""},
        {"pixel[{\"phrase\":\"p\",\"box\":[-9,0,-1,5]}]", "lies outside"},
        {"normalized[{\"phrase\":\"p\",\"box\":[0,0,200,100]}]", "set box_units to \"pixel\""},
        {"normalized[{\"phrase\":\"p\",\"box\":[1.1,0,1.2,1]}]", "lies outside"},
        {"pixel[{\"phrase\":\"p\",\"box\":[0,0,9,9],\"refrence\":\"r\"}]", "did you mean subjects[0].reference?"},
        {"pixel[{\"phrase\":\"p\",\"box\":[0,0,9,9],\"reference_box\":[0,0,5,5]}]", "given without a reference"},
        {"pixel[{\"phrase\":\"p\",\"box\":[0,0,9,9],\"reference\":7}]", "subjects[0].reference: found 7"},
        {"pixel[{\"phrase\":\"p\",\"box\":[0,0,9,9],\"mask\":\"\"}]", "subjects[0].mask: found \"\""},
        {"pixel[{\"phrase\":\"p\",\"box\":[0,0,9,9]},{\"phrase\":\"p\",\"box\":[0,0,9,9]},{\"phrase\":\"p\",\"box\":[0,"
         "0,9,9]}]",
         "subjects: found 3, expected at most the 2"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        const char *list = strchr(row[i][0], '['), *body = row[i][0];
        if (body[0] == 'p' || body[0] == 'n')
            body = arena_print(&memory, "{\"image\":\"a\",\"text\":\"t\",\"box_units\":\"%.*s\",\"subjects\":%s}",
                               (int)(list - row[i][0]), row[i][0], list);
        char *text = arena_print(&memory, "{\"image\":\"z\",\"text\":\"t\",\"box_units\":\"pixel\"}\n%s\n", body);
        manifest m;
        problems p;
        load(&m, &p, text, strlen(text), 2);
        if (p.errors != 1 || p.count != 1 || p.item[0].line != 2 || !strstr(p.item[0].text, row[i][1]) ||
            p.worst != E_DATASET)
            fail_msg("%s: %lld errors, line %lld: %s", row[i][0], (long long)p.errors,
                     p.count ? (long long)p.item[0].line : -1, p.count ? p.item[0].text : "");
        assert_int_equal(m.count, 2);
        assert_true(m.sample[0].valid);
        assert_false(m.sample[1].valid);
        manifest_free(&m);
    }
}

static void test_whole_file(void **state)
{
    (void)state;
    manifest m;
    problems p;
    load(&m, &p, "", 0, 4);
    assert_int_equal(p.errors, 1);
    assert_non_null(strstr(p.item[0].text, "no samples"));
    manifest_free(&m);
    load(&m, &p, "\n \n\r\n", 5, 4);
    assert_int_equal(p.errors, 1);
    manifest_free(&m);
    load(&m, &p, "\xEF\xBB\xBF{}", 5, 4);
    assert_non_null(strstr(p.item[0].text, "byte order mark"));
    manifest_free(&m);
    p = (problems){.memory = &memory};
    manifest_load(&m, &p, MSD_TEST_TMP "/no-manifest.jsonl", 4);
    assert_int_equal(p.worst, E_DATASET);
    assert_non_null(strstr(p.item[0].text, "no-manifest.jsonl: cannot open"));
    manifest_free(&m);
    p = (problems){.memory = &memory};
    manifest_load(&m, &p, MSD_TEST_TMP, 4);
    assert_int_equal(p.errors, 1);
    manifest_free(&m);
    size_t size = 100000000; /* one line of 100 MB */
    char *huge = malloc(size);
    memset(huge, 'x', size);
    double before = clock_seconds();
    load(&m, &p, huge, size, 4);
    assert_int_equal(p.errors, 1);
    assert_non_null(strstr(p.item[0].text, "longer than 1048576 bytes"));
    assert_true(clock_seconds() - before < 5);
    manifest_free(&m);
    free(huge);
}

static void test_duplicates(void **state)
{
    (void)state;
    char *text = malloc(2000 * 64);
    size_t used = 0;
    for (int i = 0; i < 2000; i++)
        used += (size_t)sprintf(text + used, "{\"image\":\"%d\",\"text\":\"t\",\"box_units\":\"pixel\"}\n",
                                i == 1999 ? 7 : i);
    manifest m;
    problems p;
    load(&m, &p, text, used, 4);
    assert_int_equal(p.errors, 0);
    assert_int_equal(p.warnings, 1);
    assert_string_equal(p.item[0].text, "the same image and text as on line 8");
    assert_int_equal(p.item[0].line, 2000);
    assert_int_equal(m.count, 2000);
    manifest_free(&m);
    free(text);
}

static void test_box_fit(void **state)
{
    (void)state;
    static const struct {
        double      box[4];
        box_units   units;
        box_verdict verdict;
        float       out[4];
    } row[] = {
        {{10, 20, 100, 50}, BOX_PIXEL, BOX_INSIDE, {0.1f, 0.4f, 1, 1}},
        {{-10, 20, 110, 40}, BOX_PIXEL, BOX_CLIPPED, {0, 0.4f, 1, 0.8f}},
        {{100, 0, 110, 40}, BOX_PIXEL, BOX_OUTSIDE, {0, 0, 0, 0}},
        {{5, 5, 5, 9}, BOX_PIXEL, BOX_OUTSIDE, {0, 0, 0, 0}},
        {{NAN, 0, 5, 9}, BOX_PIXEL, BOX_OUTSIDE, {0, 0, 0, 0}},
        {{0.25, 0, 1, 0.5}, BOX_NORMALIZED, BOX_INSIDE, {0.25f, 0, 1, 0.5f}},
        {{0.25, -1e-9, 1 + 1e-9, 0.5}, BOX_NORMALIZED, BOX_INSIDE, {0.25f, 0, 1, 0.5f}},
        {{-0.5, 0, 0.5, 1.5}, BOX_NORMALIZED, BOX_CLIPPED, {0, 0, 0.5f, 1}},
        {{1, 0, 1.5, 1}, BOX_NORMALIZED, BOX_OUTSIDE, {0, 0, 0, 0}},
        {{0, 0, 1e308, 1e308}, BOX_PIXEL, BOX_CLIPPED, {0, 0, 1, 1}},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        float out[4];
        box_verdict verdict = box_fit(out, row[i].box, row[i].units, 100, 50);
        if (verdict != row[i].verdict || memcmp(out, row[i].out, sizeof out) != 0)
            fail_msg("row %zu: %d [%g %g %g %g]", i, verdict, out[0], out[1], out[2], out[3]);
    }
}

#define TEST(f) cmocka_unit_test_teardown(f, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_good), TEST(test_mistakes), TEST(test_whole_file), TEST(test_duplicates), TEST(test_box_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
