#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "base/file.h"
#include "data/phrase.h"
#include "data/tokenizer.h"
#include "data/vocab.h"

#define GOLDEN_FOLDER MSD_GOLDENS "/tokenizer"
#define SECOND_FOLDER MSD_TEST_TMP "/tokenizer_2"

static tokenizer *opened(const char *folder)
{
    tokenizer *t;
    if (tokenizer_open(&t, folder) != OK)
        fail_msg("%s: %s", folder, err_message());
    return t;
}

static void expect_ids(const tokenizer *t, const json_t *text, const json_t *ids, const char *what)
{
    token_list found = {0};
    const char *bytes = json_string_value(text);
    if (tokenizer_encode(&found, t, bytes, json_string_length(text)) != OK)
        fail_msg("%s: '%s': %s", what, bytes, err_message());
    bool equal = found.count == json_array_size(ids);
    for (size_t i = 0; equal && i < found.count; i++)
        equal = found.id[i] == json_integer_value(json_array_get(ids, i));
    if (!equal) {
        char *wanted = json_dumps(ids, JSON_COMPACT), *shown = json_dumps(text, JSON_ENCODE_ANY);
        fprintf(stderr, "found [");
        for (size_t i = 0; i < found.count; i++)
            fprintf(stderr, "%d,", found.id[i]);
        fprintf(stderr, "]\n");
        fail_msg("%s: %s: wanted %s", what, shown, wanted);
    }
    token_list_free(&found);
}

/* Some three hundred lines, by both of SDXL's tokenizers. */
static void test_equals_transformers(void **state)
{
    tokenizer *first = opened(GOLDEN_FOLDER), *second = opened(SECOND_FOLDER), *whole = opened(GOLDEN_FOLDER "/whole");
    json_t *line;
    size_t i;
    json_array_foreach(json_object_get(*state, "lines"), i, line) {
        json_t *text = json_array_get(line, 0), *ids = json_array_get(line, 1);
        expect_ids(first, text, ids, "first");
        expect_ids(whole, text, ids, "tokenizer.json");
        expect_ids(second, text, json_array_size(line) == 3 ? json_array_get(line, 2) : ids, "second");
    }
    assert_true(i >= 280);
    assert_int_equal(tokenizer_size(first), VOCAB_TOKENS);
    assert_int_equal(tokenizer_start(first), VOCAB_TOKENS - 2);
    assert_int_equal(tokenizer_end(first), VOCAB_TOKENS - 1);
    assert_int_equal(tokenizer_pad(first), VOCAB_TOKENS - 1);
    assert_int_equal(tokenizer_pad(second), 0);
    tokenizer_close(first);
    tokenizer_close(second);
    tokenizer_close(whole);
}

static void write_file(const char *folder, const char *name, const char *text)
{
    file_writer *w;
    char *path = path_join(folder, name);
    assert_int_equal(file_create(&w, path), OK);
    assert_int_equal(file_write(w, text, strlen(text)), OK);
    assert_int_equal(file_publish(w), OK);
    free(path);
}

static void copy_file(const char *folder, const char *name)
{
    char *from = path_join(GOLDEN_FOLDER, name), *text;
    size_t size;
    assert_int_equal(file_read(&text, &size, from, 1 << 20), OK);
    write_file(folder, name, text);
    free(text);
    free(from);
}

/* A folder of its own with the golden vocabulary; settings NULL: no such file. */
static void make_folder(const char *folder, const char *config, const char *map)
{
    folder_remove(folder);
    assert_int_equal(folder_make(folder), OK);
    copy_file(folder, "vocab.json");
    copy_file(folder, "merges.txt");
    if (config)
        write_file(folder, "tokenizer_config.json", config);
    if (map)
        write_file(folder, "special_tokens_map.json", map);
}

/* The forms in which published folders name their special tokens. */
static void test_settings(void **state)
{
    json_t *row, *line;
    size_t i, k;
    json_array_foreach(json_object_get(*state, "variants"), i, row) {
        const char *folder = MSD_TEST_TMP "/tokenizer_settings",
                   *name = json_string_value(json_object_get(row, "name"));
        make_folder(folder, json_string_value(json_object_get(row, "config")),
                    json_string_value(json_object_get(row, "map")));
        tokenizer *t = opened(folder);
        if (tokenizer_pad(t) != json_integer_value(json_object_get(row, "pad")))
            fail_msg("%s: pad %d", name, tokenizer_pad(t));
        json_array_foreach(json_object_get(row, "lines"), k, line)
            expect_ids(t, json_array_get(line, 0), json_array_get(line, 1), name);
        tokenizer_close(t);
    }
    assert_true(i >= 8);
}

static void test_padding(void **state)
{
    (void)state;
    tokenizer *first = opened(GOLDEN_FOLDER), *second = opened(SECOND_FOLDER);
    int32_t ids[TOKENIZER_LENGTH];
    size_t cut = 9;
    assert_int_equal(tokenizer_encode_padded(ids, &cut, first, "", 0), OK);
    assert_int_equal(cut, 0);
    assert_int_equal(ids[0], VOCAB_TOKENS - 2);
    for (int i = 1; i < TOKENIZER_LENGTH; i++)
        assert_int_equal(ids[i], VOCAB_TOKENS - 1);
    assert_int_equal(tokenizer_encode_padded(ids, &cut, second, "dog", 3), OK);
    assert_int_equal(ids[2], VOCAB_TOKENS - 1);
    for (int i = 3; i < TOKENIZER_LENGTH; i++)
        assert_int_equal(ids[i], 0);
    char many[4 * 80];
    for (int i = 0; i < 80; i++)
        memcpy(many + 4 * i, "dog ", 4);
    for (size_t n = 74; n <= 80; n++) {
        assert_int_equal(tokenizer_encode_padded(ids, &cut, first, many, 4 * n), OK);
        assert_int_equal(cut, n > 75 ? n - 75 : 0);
        assert_int_equal(ids[TOKENIZER_LENGTH - 1], VOCAB_TOKENS - 1);
        assert_true((ids[75] == VOCAB_TOKENS - 1) == (n == 74));
    }
    tokenizer_close(first);
    tokenizer_close(second);
}

static void test_bad_text(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t size;
        const char *word;
    } rows[] = {{"ab\xff", 3, "byte 2 (0xff)"},
                {"\xc0\xaf", 2, "byte 0"},
                {"x\xed\xa0\x80", 4, "byte 1"},
                {"\xe4\xbd", 2, "byte 0"},
                {"\xf5\x80\x80\x80", 4, "byte 0"}};
    tokenizer *t = opened(GOLDEN_FOLDER);
    token_list ids = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(tokenizer_encode(&ids, t, rows[i].text, rows[i].size), E_FORMAT);
        if (!strstr(err_message(), rows[i].word))
            fail_msg("message '%s', expected '%s' in it", err_message(), rows[i].word);
    }
    assert_int_equal(ids.count, 0);
    char marks[2 * 1002 + 2];
    marks[0] = 'a';
    for (int i = 0; i < 1001; i++)
        memcpy(marks + 1 + 2 * i, i % 2 ? "\xcc\xa3" : "\xcc\x81", 2);
    assert_int_equal(tokenizer_encode(&ids, t, marks, 1 + 2 * 1000), OK);
    assert_int_equal(tokenizer_encode(&ids, t, marks, 1 + 2 * 1001), E_FORMAT);
    token_list_free(&ids);
    tokenizer_close(t);
}

/* A word of a million letters takes its time in proportion: quadratic work would be hours. */
static void test_long_words(void **state)
{
    (void)state;
    static const char *const units[] = {"a", "the", "\xf0\x9f\x90\xb6", "!?", "small ", "7"};
    enum { BYTES = 1000000, SECONDS = 20 };
    tokenizer *t = opened(GOLDEN_FOLDER);
    char *text = malloc(BYTES + 8);
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        size_t size = 0, unit = strlen(units[u]), count;
        while (size + unit <= BYTES) {
            memcpy(text + size, units[u], unit);
            size += unit;
        }
        clock_t before = clock();
        assert_int_equal(tokenizer_count(&count, t, text, size), OK);
        double seconds = (double)(clock() - before) / CLOCKS_PER_SEC;
        print_message("%zu tokens of %zu bytes in %.2f s\n", count, size, seconds);
        assert_true(count > 0 && seconds < SECONDS);
    }
    free(text);
    tokenizer_close(t);
}

static void expect_refused(const char *folder, err code, const char *word)
{
    tokenizer *t;
    err found = tokenizer_open(&t, folder);
    if (found != code || t || !strstr(err_message(), word))
        fail_msg("%s, message '%s', expected '%s' in it", err_name(found), found ? err_message() : "", word);
}

/* Files missing, cut off, contradicting each other (E10). */
static void test_bad_files(void **state)
{
    (void)state;
    static const struct {
        const char *file, *text, *word;
        err code;
    } rows[] = {
        {"vocab.json", "{\"a\": 0, \"b\"", "vocab.json:1:", E_FORMAT},
        {"vocab.json", "{}", "no tokens", E_FORMAT},
        {"vocab.json", "[1]", "no object", E_FORMAT},
        {"vocab.json", "{\"a\": 0, \"b\": 0}", "another token's", E_FORMAT},
        {"vocab.json", "{\"a\": 0, \"b\": -1}", "expected an id", E_FORMAT},
        {"vocab.json", "{\"a\": 0, \"b\": 1.5}", "expected an id", E_FORMAT},
        {"vocab.json", "{\"a\": 0, \"a\": 1}", "vocab.json", E_FORMAT},
        {"vocab.json", "{\"a\": 0}", "merge", E_FORMAT},
        {"merges.txt", "#version: 0.2\nt h\nonly\n", "merges.txt:3", E_FORMAT},
        {"merges.txt", "t h\nt h e\n", "merges.txt:2", E_FORMAT},
        {"merges.txt", "q zz\n", "'zz' is not in it", E_FORMAT},
        {"merges.txt", "q z\n", "'qz' is not in it", E_FORMAT},
        {"tokenizer_config.json", "{", "tokenizer_config.json:1", E_FORMAT},
        {"tokenizer_config.json", "[]", "no object", E_FORMAT},
        {"tokenizer_config.json", "{\"pad_token\": \"<pad>\"}", "'<pad>' is not in it", E_FORMAT},
        {"tokenizer_config.json", "{\"pad_token\": 7}", "pad_token", E_FORMAT},
        {"tokenizer_config.json", "{\"pad_token\": {\"content\": \"!\", \"lstrip\": true}}", "lstrip", E_FORMAT},
        {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"1e99\": {\"content\": \"<new>\"}}}", "found id 1e+99",
         E_FORMAT},
    };
    const char *folder = MSD_TEST_TMP "/tokenizer_bad";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        make_folder(folder, NULL, NULL);
        write_file(folder, rows[i].file, rows[i].text);
        expect_refused(folder, rows[i].code, rows[i].word);
    }
    make_folder(folder, NULL, NULL);
    remove(MSD_TEST_TMP "/tokenizer_bad/merges.txt");
    expect_refused(folder, E_IO, "merges.txt");
    remove(MSD_TEST_TMP "/tokenizer_bad/vocab.json");
    expect_refused(folder, E_IO, "vocab.json");
    write_file(folder, "tokenizer.json", "{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": [\"a\"]}}");
    expect_refused(folder, E_FORMAT, "model.merges[0]");
    write_file(folder, "tokenizer.json", "{\"model\": {\"vocab\": {\"a\": 0}}}");
    expect_refused(folder, E_FORMAT, "merges");
}

/* A vocabulary without most bytes, as tiny test models have: the unknown token takes their place. */
static void test_unknown_bytes(void **state)
{
    (void)state;
    const char *folder = MSD_TEST_TMP "/tokenizer_small";
    folder_remove(folder);
    assert_int_equal(folder_make(folder), OK);
    write_file(folder, "vocab.json",
               "{\"l\":0,\"o\":1,\"w\":2,\"w</w>\":3,\"lo\":4,\"low</"
               "w>\":5,\"<unk>\":6,\"<|startoftext|>\":7,\"<|endoftext|>\":8}");
    write_file(folder, "merges.txt", "#version: 0.2\nl o\nlo w</w>\n");
    write_file(folder, "special_tokens_map.json", "{\"unk_token\": \"<unk>\"}");
    tokenizer *t = opened(folder);
    token_list ids = {0};
    assert_int_equal(tokenizer_encode(&ids, t, "low wolx", 8), OK);
    static const int32_t wanted[] = {5, 2, 1, 0, 6};
    assert_int_equal(ids.count, 5);
    assert_memory_equal(ids.id, wanted, sizeof wanted);
    token_list_free(&ids);
    tokenizer_close(t);
}

/* Of equal merges the leftmost is done first. */
static void test_equal_merges(void **state)
{
    (void)state;
    const char *folder = MSD_TEST_TMP "/tokenizer_equal";
    folder_remove(folder);
    assert_int_equal(folder_make(folder), OK);
    write_file(folder, "vocab.json", "{\"a\":0,\"a</w>\":1,\"aa\":2,\"<|startoftext|>\":3,\"<|endoftext|>\":4}");
    write_file(folder, "merges.txt", "a a\n");
    tokenizer *t = opened(folder);
    token_list ids = {0};
    assert_int_equal(tokenizer_encode(&ids, t, "aaaaaaaa", 8), OK);
    static const int32_t wanted[] = {2, 2, 2, 0, 1}; /* from the right it would be 0, 2, 2, 2, 1 */
    assert_int_equal(ids.count, 5);
    assert_memory_equal(ids.id, wanted, sizeof wanted);
    token_list_free(&ids);
    tokenizer_close(t);
}

static void test_vocab_write(void **state)
{
    (void)state;
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"};
    const char *folder = MSD_TEST_TMP "/tokenizer_written";
    assert_int_equal(folder_make(folder), OK);
    assert_int_equal(vocab_write(folder, "<|endoftext|>"), OK);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *ours = path_join(folder, names[i]), *theirs = path_join(GOLDEN_FOLDER, names[i]), hex[65], golden[65];
        assert_int_equal(file_sha256(hex, ours), OK);
        assert_int_equal(file_sha256(golden, theirs), OK);
        assert_string_equal(hex, golden);
        free(ours);
        free(theirs);
    }
}

static void test_phrases(void **state)
{
    tokenizer *t = opened(GOLDEN_FOLDER);
    json_t *row;
    size_t i;
    json_array_foreach(json_object_get(*state, "phrases"), i, row) {
        const char *prompt = json_string_value(json_array_get(row, 0)), *phrases[8];
        json_t *list = json_array_get(row, 1), *found = json_array_get(row, 2);
        int count = (int)json_array_size(list);
        phrase_match match[8];
        arena owner = {0};
        for (int k = 0; k < count; k++)
            phrases[k] = json_string_value(json_array_get(list, (size_t)k));
        assert_int_equal(phrase_find(match, &owner, t, prompt, phrases, count), OK);
        for (int k = 0; k < count; k++) {
            json_t *wanted = json_array_get(found, (size_t)k);
            int start = (int)json_integer_value(json_array_get(wanted, 0)),
                end = (int)json_integer_value(json_array_get(wanted, 1));
            const char *words = json_string_value(json_array_get(wanted, 2));
            if (match[k].start != start || match[k].end != end || strcmp(match[k].words, words) ||
                match[k].found != (end > 0))
                fail_msg("'%s': '%s'[%d]: found [%d,%d) '%s', wanted [%d,%d) '%s'", prompt, phrases[k], k,
                         match[k].start, match[k].end, match[k].words, start, end, words);
        }
        arena_free(&owner);
    }
    assert_true(i >= 20);
    tokenizer_close(t);
}

static int load(void **state)
{
    json_error_t problem;
    *state = json_load_file(GOLDEN_FOLDER "/tokens.json", JSON_ALLOW_NUL, &problem);
    if (!*state || folder_make(SECOND_FOLDER) != OK || vocab_write(SECOND_FOLDER, "!") != OK) {
        print_error("%s:%d: %s\n", GOLDEN_FOLDER "/tokens.json", problem.line, problem.text);
        return 1;
    }
    return 0;
}

static int drop(void **state)
{
    json_decref(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_transformers),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_bad_text),
        cmocka_unit_test(test_long_words),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_unknown_bytes),
        cmocka_unit_test(test_equal_merges),
        cmocka_unit_test(test_vocab_write),
        cmocka_unit_test(test_phrases),
    };
    return cmocka_run_group_tests(tests, load, drop);
}
