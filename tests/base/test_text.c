#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

static void test_nearest(void **state)
{
    (void)state;
    static const char *const names[] = {"steps", "batch_size", "lr", "--width", "checkpoint_every"};
    static const struct {
        const char *word, *nearest;
    } row[] = {{"stpes", "steps"}, {"step", "steps"},     {"batchsize", "batch_size"}, {"l", "lr"},
               {"rl", "lr"},       {"--widht", "--width"}, {"checkpoint_ever", "checkpoint_every"},
               {"xy", NULL},       {"", NULL},            {"learning_rate", NULL}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        const char *found = text_nearest(row[i].word, names, 5);
        if (row[i].nearest ? !found || strcmp(found, row[i].nearest) : found != NULL)
            fail_msg("%s: %s", row[i].word, found ? found : "nothing");
    }
    char huge[1000];
    memset(huge, 's', sizeof huge - 1);
    huge[999] = 0;
    assert_null(text_nearest(huge, names, 5));
    assert_null(text_nearest("steps", NULL, 0));
}

static void test_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t      size, bad;
    } row[] = {
        {"abc", 3, 3},
        {"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 9, 9},
        {"a\xFF", 2, 1},
        {"ab\xC0\xAF", 4, 2},             /* over-long */
        {"\xE0\x80\xAF", 3, 0},           /* over-long */
        {"\xED\xA0\x80", 3, 0},           /* a surrogate */
        {"\xF4\x90\x80\x80", 4, 0},       /* beyond U+10FFFF */
        {"a\xE2\x82", 3, 1},              /* cut off */
        {"\x80", 1, 0},
        {"\xF4\x8F\xBF\xBF\xED\x9F\xBF", 7, 7},
        {"", 0, 0},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        size_t bad = 99;
        bool valid = text_utf8_valid(&bad, row[i].text, row[i].size);
        assert_int_equal(valid, row[i].bad == row[i].size);
        assert_int_equal(bad, row[i].bad);
    }
    assert_true(text_utf8_valid(NULL, "x", 1));
}

static void test_escaped(void **state)
{
    (void)state;
    char out[64];
    assert_string_equal(text_escaped(out, sizeof out, "a\nb\x7F\xFF\xC3\xA9"), "a\\x0Ab\\x7F\\xFF\xC3\xA9");
    for (size_t room = 1; room < 24; room++) {
        memset(out, '#', sizeof out);
        text_escaped(out, room, "\xC3\xA9\n\xC3\xA9\n\xC3\xA9\n\xC3\xA9\n");
        assert_true(strlen(out) < room);
        assert_int_equal(out[room], '#');
        assert_true(text_utf8_valid(NULL, out, strlen(out)));
    }
}

static void test_amounts(void **state)
{
    (void)state;
    char out[32];
    assert_string_equal(text_bytes(out, 0), "0 bytes");
    assert_string_equal(text_bytes(out, 1023), "1023 bytes");
    assert_string_equal(text_bytes(out, 1536), "1.5 KiB");
    assert_string_equal(text_bytes(out, 1048575), "1.0 MiB");
    assert_string_equal(text_bytes(out, (uint64_t)80 << 30), "80.0 GiB");
    assert_string_equal(text_bytes(out, (uint64_t)800 << 30), "800 GiB");
    assert_string_equal(text_bytes(out, UINT64_MAX), "16.0 EiB");
    assert_string_equal(text_duration(out, 0), "0:00");
    assert_string_equal(text_duration(out, 59.6), "1:00");
    assert_string_equal(text_duration(out, 3723), "1:02:03");
    assert_string_equal(text_duration(out, NAN), "?");
    assert_string_equal(text_duration(out, -1), "?");
    assert_string_equal(text_duration(out, 1e300), "?");
    static const double values[] = {1e-4, 0.1, 1, 1e300, 0.30000000000000004, 5e-324, -2.5, 0, 10, -120, 1e15};
    static const char *const texts[] = {"0.0001", "0.1", "1",    "1e+300", "0.30000000000000004", "5e-324", "-2.5",
                                        "0",      "10",  "-120", "1e+15"};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        assert_string_equal(text_number(out, values[i]), texts[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nearest), cmocka_unit_test(test_utf8), cmocka_unit_test(test_escaped),
        cmocka_unit_test(test_amounts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
