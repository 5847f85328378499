#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/progress.h"
#include "base/yaml.h"

static arena memory;

static yaml_node *parse(problems *p, const char *text)
{
    *p = (problems){.memory = &memory};
    yaml_node *root;
    yaml_parse(&root, &memory, p, text, strlen(text), "RUN.yaml");
    return root;
}

static int forget(void **state)
{
    (void)state;
    arena_free(&memory);
    return 0;
}

/* Texts that cannot be accepted: the line, and words of the message. */
static void test_refused_texts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t     line;
        const char *message;
    } row[] = {
        {"a: 1\nb: [1, 2\nc: 3\n", 3, "not YAML"},
        {"a: 1\n  b: 2\n", 1, "not YAML"},
        {"a: \"x\n", 1, "not YAML"},
        {"\xEF\xBB\xBF" "a: 1\n", 1, "byte order mark"},
        {"a: 1\nb: caf\xE9\n", 2, "byte 0xE9 is not UTF-8"},
        {"a: 1\nb: 2\na: 3\n", 3, "a: given twice, first on line 1"},
        {"a: {b: 1, b: 2}\n", 1, "b: given twice"},
        {"a: &x 1\nb: 2\n", 1, "anchors"},
        {"a: 1\nb: *x\n", 2, "aliases"},
        {"a: !!str 1\n", 1, "tags"},
        {"a: 1\n---\nb: 2\n", 2, "a second document"},
        {"{a: 1}: 2\n", 1, "a key must be a word"},
        {"a: \"x\\0y\"\n", 1, "NUL"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        problems p;
        parse(&p, row[i].text);
        if (p.count != 1 || p.item[0].line != row[i].line || !strstr(p.item[0].text, row[i].message))
            fail_msg("row %zu: %d problems, line %lld: %s", i, p.count, p.count ? (long long)p.item[0].line : -1,
                     p.count ? p.item[0].text : "");
        assert_int_equal(p.item[0].code, E_CONFIG);
    }
}

static void test_nul_and_size(void **state)
{
    (void)state;
    problems p = {.memory = &memory};
    yaml_node *root;
    yaml_parse(&root, &memory, &p, "a: 1\nb\0: 2", 11, "x");
    assert_null(root);
    assert_int_equal(p.item[0].line, 2);
    assert_non_null(strstr(p.item[0].text, "NUL"));
    char *big = malloc(YAML_LIMIT + 1);
    memset(big, '#', YAML_LIMIT + 1);
    p = (problems){.memory = &memory};
    yaml_parse(&root, &memory, &p, big, YAML_LIMIT + 1, "x");
    assert_null(root);
    assert_int_equal(p.errors, 1);
    free(big);
}

/* Neither the stack nor the time may grow with hostile nesting. */
static void test_deep_nesting(void **state)
{
    (void)state;
    enum { N = 100000 };
    char *text = malloc(4 * N + 1);
    double before = clock_seconds();
    for (int kind = 0; kind < 3; kind++) {
        const char *piece = kind == 0 ? "[" : kind == 1 ? "{a: " : "- ";
        text[0] = 0;
        size_t length = strlen(piece);
        for (size_t i = 0; i < N; i++)
            memcpy(text + i * length, piece, length + 1);
        problems p;
        assert_null(parse(&p, text));
        assert_int_equal(p.errors, 1);
    }
    assert_true(clock_seconds() - before < 5);
    free(text);
}

static void test_tree(void **state)
{
    (void)state;
    problems p;
    yaml_node *root =
        parse(&p, "# comment\r\ntrain:\r\n  steps: 10\r\n  name: 'it''s'\r\nlist: [1, two]\r\nempty:\r\n");
    assert_int_equal(p.errors, 0);
    const yaml_pair *train = yaml_find(root, "train");
    assert_int_equal(train->line, 2);
    assert_int_equal(yaml_find(train->value, "steps")->line, 3);
    assert_string_equal(yaml_find(train->value, "name")->value->text, "it's");
    assert_false(yaml_find(train->value, "name")->value->plain);
    const yaml_node *list = yaml_find(root, "list")->value;
    assert_int_equal(list->count, 2);
    assert_string_equal(list->item[1]->text, "two");
    assert_true(yaml_is_null(yaml_find(root, "empty")->value));
    assert_null(yaml_find(root, "nothing"));
    assert_null(yaml_find(list, "x"));
    root = parse(&p, "");
    assert_int_equal(root->kind, YAML_MAP);
    assert_int_equal(root->count, 0);
    root = parse(&p, "# nothing\n");
    assert_int_equal(root->count, 0);
}

static void test_whole_numbers(void **state)
{
    (void)state;
    static const char *const bad[] = {"\"8\"",
                                      "'8'",
                                      "1.5",
                                      "1e3",
                                      "true",
                                      "+8",
                                      "0x10",
                                      "1_000",
                                      "8,5",
                                      "010",
                                      "0",
                                      "-1",
                                      "101",
                                      "2147483648",
                                      "9223372036854775808",
                                      "99999999999999999999999",
                                      "[8]",
                                      "{a: 1}",
                                      "",
                                      "null",
                                      "8 9",
                                      ".5",
                                      "--8",
                                      "8-"};
    int64_t value = 77;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        problems p;
        yaml_node *root = parse(&p, arena_print(&memory, "k: %s\n", bad[i]));
        if (yaml_int(&value, &p, yaml_find(root, "k")->value, "k", 1, 100) || p.errors != 1 || value != 77)
            fail_msg("%s taken as a whole number", bad[i]);
    }
    problems p;
    yaml_node *root = parse(&p, "a: 100\nb: -5\nc: 9223372036854775807\nd: 9223372036854775808\n");
    assert_true(yaml_int(&value, &p, root->pair[0].value, "a", 1, 100));
    assert_int_equal(value, 100);
    assert_true(yaml_int(&value, &p, root->pair[1].value, "b", -5, 5));
    assert_int_equal(value, -5);
    assert_true(yaml_int(&value, &p, root->pair[2].value, "c", 0, INT64_MAX));
    assert_true(value == INT64_MAX);
    assert_false(yaml_int(&value, &p, root->pair[3].value, "d", 0, INT64_MAX));
    parse(&p, "");
    yaml_int(&value, &p, root->pair[1].value, "train.steps", 1, 100);
    assert_string_equal(p.item[0].text, "train.steps: found -5, expected a whole number from 1 to 100");
    assert_int_equal(p.item[0].line, 2);
}

static void test_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double      value;
    } good[] = {{"1e-4", 1e-4}, {"0.5", 0.5},     {"1", 1},       {".5", .5},
                {"1.", 1},      {"-0.25", -0.25}, {"1.5E+1", 15}, {"0", 0}};
    static const char *const bad[] = {"1e400", "-1e400", ".inf",  ".nan", "nan", "inf", "0x1p3", "1e",  "e5",
                                      ".",     "1,5",    "\"1\"", "16",   "+1",  "1_0", "1e5",   "1 2", ""};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        problems p;
        double value = 99;
        yaml_node *root = parse(&p, arena_print(&memory, "k: %s\n", good[i].text));
        assert_true(yaml_number(&value, &p, root->pair[0].value, "k", -1, 15));
        assert_true(value == good[i].value);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        problems p;
        double value = 99;
        yaml_node *root = parse(&p, arena_print(&memory, "k: %s\n", bad[i]));
        if (yaml_number(&value, &p, root->pair[0].value, "k", -1, 15) || p.errors != 1 || value != 99)
            fail_msg("%s taken as a number", bad[i]);
    }
    problems p;
    double pair[2] = {7, 7};
    yaml_node *root = parse(&p, "a: [0.9, 0.999]\nb: [0.9]\nc: [0.9, x]\nd: 0.9\n");
    assert_true(yaml_numbers(pair, &p, root->pair[0].value, "a", 2, 0, 1));
    assert_true(pair[0] == 0.9 && pair[1] == 0.999);
    for (int i = 1; i < 4; i++)
        assert_false(yaml_numbers(pair, &p, root->pair[i].value, "k", 2, 0, 1));
    assert_int_equal(p.errors, 3);
}

static void test_words(void **state)
{
    (void)state;
    problems p;
    static const char *const names[] = {"constant", "linear", "cosine"};
    yaml_node *root =
        parse(&p, "a: linear\nb: consine\nc: [linear]\nd: true\ne: yes\nf: ''\ng: \"a\\nb\"\nh: some/path\n");
    int choice = -1;
    bool flag = false;
    const char *text = NULL;
    assert_true(yaml_choice(&choice, &p, root->pair[0].value, "a", names, 3));
    assert_int_equal(choice, 1);
    assert_false(yaml_choice(&choice, &p, root->pair[1].value, "b", names, 3));
    assert_string_equal(p.item[0].text, "b: found consine, expected constant, linear or cosine; did you mean cosine?");
    assert_false(yaml_choice(&choice, &p, root->pair[2].value, "c", names, 3));
    assert_true(yaml_bool(&flag, &p, root->pair[3].value, "d") && flag);
    assert_false(yaml_bool(&flag, &p, root->pair[4].value, "e"));
    assert_false(yaml_text(&text, &p, root->pair[5].value, "f"));
    assert_false(yaml_text(&text, &p, root->pair[6].value, "g"));
    assert_true(yaml_text(&text, &p, root->pair[7].value, "h"));
    assert_string_equal(text, "some/path");
    assert_int_equal(p.errors, 5);
}

static void test_unknown_keys(void **state)
{
    (void)state;
    problems p;
    static const char *const names[] = {"steps", "seed", "batch_size"};
    yaml_node *root = parse(&p, "stepz: 1\nseed: 2\nbatchsize: 3\nunrelated: 4\n");
    yaml_unknown(&p, root, "train.", names, 3);
    assert_int_equal(p.errors, 3);
    assert_string_equal(p.item[0].text, "train.stepz: unknown key; did you mean train.steps?");
    assert_int_equal(p.item[1].line, 3);
    assert_string_equal(p.item[1].text, "train.batchsize: unknown key; did you mean train.batch_size?");
    assert_string_equal(p.item[2].text, "train.unrelated: unknown key");
}

static void test_override(void **state)
{
    (void)state;
    problems p;
    yaml_node *root = parse(&p, "train: {steps: 10}\nflat: 1\n");
    yaml_override(root, &memory, &p, "train.steps=20");
    yaml_override(root, &memory, &p, "optimizer.betas=[0.5, 0.6]");
    yaml_override(root, &memory, &p, "flat.deep=x=y");
    yaml_override(root, &memory, &p, "train.none=");
    assert_int_equal(p.errors, 0);
    const yaml_node *train = yaml_find(root, "train")->value;
    assert_string_equal(yaml_find(train, "steps")->value->text, "20");
    assert_string_equal(yaml_find(train, "steps")->value->file, "--set train.steps=20");
    assert_int_equal(yaml_find(train, "steps")->value->line, 0);
    assert_int_equal(yaml_find(yaml_find(root, "optimizer")->value, "betas")->value->count, 2);
    assert_string_equal(yaml_find(yaml_find(root, "flat")->value, "deep")->value->text, "x=y");
    assert_true(yaml_is_null(yaml_find(train, "none")->value));
    static const char *const bad[] = {"train.steps", "=3", "", ".a=1", "a.=1", "a=[1", "a..b=1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        yaml_override(root, &memory, &p, bad[i]);
        assert_int_equal(p.errors, (int)i + 1);
    }
}

static void test_read(void **state)
{
    (void)state;
    problems p = {.memory = &memory};
    yaml_node *root;
    yaml_read(&root, &memory, &p, MSD_TEST_TMP "/no-such.yaml");
    assert_null(root);
    assert_int_equal(p.worst, E_CONFIG);
    assert_non_null(strstr(p.item[0].text, "no-such.yaml: cannot open: No such file"));
    yaml_read(&root, &memory, &p, MSD_TEST_TMP);
    assert_int_equal(p.errors, 2);
}

static void test_quoted(void **state)
{
    (void)state;
    const char *text = "a \"b\" \\c\t# d: \xC3\xA9";
    problems p;
    yaml_node *root = parse(&p, arena_print(&memory, "k: %s\n", yaml_quoted(&memory, text)));
    assert_string_equal(root->pair[0].value->text, text);
}

#define TEST(f) cmocka_unit_test_teardown(f, forget)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_refused_texts), TEST(test_nul_and_size), TEST(test_deep_nesting), TEST(test_tree),
        TEST(test_whole_numbers), TEST(test_numbers),      TEST(test_words),        TEST(test_unknown_keys),
        TEST(test_override),      TEST(test_read),         TEST(test_quoted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
