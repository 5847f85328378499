#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"

static json_t *parse(const char *text)
{
    json_t *value;
    assert_int_equal(json_text_parse(&value, text, strlen(text), "x.json", JSON_REFUSE_DUPLICATES), OK);
    return value;
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } row[] = {
        {"", "x.json:1:1: empty"},
        {"{\"a\": 1,\n \"b\" 2}", "x.json:2:"},
        {"{\"a\": 1} x", "x.json:1:"},
        {"{\"a\": 1}\n{\"b\": 2}", "x.json:2:"},
        {"{'a': 1}", "not JSON"},
        {"{\"a\": NaN}", "not JSON"},
        {"{\"a\": 1e400}", "not JSON"},
        {"{\"a\": 9223372036854775808}", "not JSON"},
        {"{\"a\": 01}", "not JSON"},
        {"{\"a\": \"\xE9\"}", "not JSON"},
        {"{\"a\": \"\\u0000\"}", "not JSON"},
        {"{\"a\": 1, \"a\": 2}", "duplicate"},
        {"\xEF\xBB\xBF{}", "byte order mark"},
        {"{\"a\": 1", "x.json:1:"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        json_t *value = (json_t *)1;
        err result = json_text_parse(&value, row[i].text, strlen(row[i].text), "x.json", JSON_REFUSE_DUPLICATES);
        if (result != E_FORMAT || value || !strstr(err_message(), row[i].message))
            fail_msg("row %zu: %s: %s", i, err_name(result), err_message());
        assert_null(strchr(err_message(), '\n'));
    }
    json_t *value;
    assert_int_equal(json_text_parse(&value, "{}\0", 3, "x.json", JSON_KEEP_LAST), E_FORMAT);
}

static void test_depth(void **state)
{
    (void)state;
    enum { N = 1000000 };
    char *text = malloc(N + 1);
    memset(text, '[', N);
    json_t *value;
    assert_int_equal(json_text_parse(&value, text, N, "x", JSON_KEEP_LAST), E_FORMAT);
    assert_non_null(strstr(err_message(), "nested too deep"));
    memset(text + JSON_DEPTH, ']', JSON_DEPTH);
    assert_int_equal(json_text_parse(&value, text, 2 * JSON_DEPTH, "x", JSON_KEEP_LAST), OK);
    json_decref(value);
    json_decref(parse("\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[\""));
    free(text);
}

static void test_duplicates_kept(void **state)
{
    (void)state;
    json_t *value;
    const char *text = "{\"a\": 1, \"a\": 2}";
    assert_int_equal(json_text_parse(&value, text, strlen(text), "x", JSON_KEEP_LAST), OK);
    int64_t a;
    assert_int_equal(json_get_int(&a, value, "a", "x", 0, 10), OK);
    assert_int_equal(a, 2);
    json_decref(value);
}

static void test_getters(void **state)
{
    (void)state;
    json_t *o = parse("{\"n\": 8, \"s\": \"8\", \"r\": 1.5, \"b\": true, \"l\": [1, 2], \"o\": {}, \"z\": null}");
    int64_t n = 7;
    double r = 7;
    bool b = false;
    const char *s = NULL;
    const json_t *inner = NULL;
    assert_int_equal(json_get_int(&n, o, "n", "f: k", 1, 8), OK);
    assert_int_equal(n, 8);
    assert_int_equal(json_get_int(&n, o, "n", "f", 1, 7), E_FORMAT);
    assert_string_equal(err_message(), "f: n: found 8, expected a whole number from 1 to 7");
    assert_int_equal(json_get_int(&n, o, "s", "f", 1, 8), E_FORMAT);
    assert_string_equal(err_message(), "f: s: found \"8\" (a string), expected a whole number from 1 to 8");
    assert_int_equal(json_get_int(&n, o, "missing", "f", 1, 8), E_FORMAT);
    assert_string_equal(err_message(), "f: missing: missing, expected a whole number from 1 to 8");
    assert_int_equal(json_get_int(&n, o, "r", "f", 1, 8), E_FORMAT);
    assert_int_equal(json_get_int(&n, o, "b", "f", 0, 8), E_FORMAT);
    assert_int_equal(n, 8);
    assert_int_equal(json_get_number(&r, o, "n", "f"), OK);
    assert_true(r == 8);
    assert_int_equal(json_get_number(&r, o, "r", "f"), OK);
    assert_true(r == 1.5);
    assert_int_equal(json_get_number(&r, o, "s", "f"), E_FORMAT);
    assert_int_equal(json_get_bool(&b, o, "b", "f"), OK);
    assert_true(b);
    assert_int_equal(json_get_bool(&b, o, "n", "f"), E_FORMAT);
    assert_int_equal(json_get_text(&s, o, "s", "f"), OK);
    assert_string_equal(s, "8");
    assert_int_equal(json_get_text(&s, o, "z", "f"), E_FORMAT);
    assert_non_null(strstr(err_message(), "found null"));
    assert_int_equal(json_get_list(&inner, o, "l", "f"), OK);
    assert_int_equal(json_get_list(&inner, o, "o", "f"), E_FORMAT);
    assert_int_equal(json_get_object(&inner, o, "o", "f"), OK);
    assert_int_equal(json_get_object(&inner, o, "l", "f"), E_FORMAT);
    assert_non_null(strstr(err_message(), "a list of 2"));
    assert_true(json_get_present(o, "n"));
    assert_false(json_get_present(o, "z"));
    assert_false(json_get_present(o, "missing"));
    json_decref(o);
}

static void test_file(void **state)
{
    (void)state;
    char *path = path_join(MSD_TEST_TMP, "test.json");
    file_writer *w;
    assert_int_equal(file_create(&w, path), OK);
    assert_int_equal(file_write(w, "{\"a\":1}", 7), OK);
    assert_int_equal(file_publish(w), OK);
    json_t *value;
    assert_int_equal(json_file_parse(&value, path, 7, JSON_KEEP_LAST), OK);
    json_decref(value);
    assert_int_equal(json_file_parse(&value, path, 6, JSON_KEEP_LAST), E_FORMAT);
    assert_int_equal(json_file_parse(&value, MSD_TEST_TMP "/none.json", 6, JSON_KEEP_LAST), E_IO);
    assert_null(value);
    remove(path);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused), cmocka_unit_test(test_depth), cmocka_unit_test(test_duplicates_kept),
        cmocka_unit_test(test_getters), cmocka_unit_test(test_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
