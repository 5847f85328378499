#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/safetensors.h"

/* A file in memory of exactly its size, so that the sanitizer sees any read beyond it. */
typedef struct image {
    uint8_t *bytes;
    size_t size;
} image;

static image make(const char *header, size_t header_size, uint64_t length, size_t data_bytes)
{
    image m = {.size = 8 + header_size + data_bytes};
    m.bytes = heap_get(m.size);
    for (int i = 0; i < 8; i++)
        m.bytes[i] = (uint8_t)(length >> (8 * i));
    memcpy(m.bytes + 8, header, header_size);
    for (size_t i = 0; i < data_bytes; i++)
        m.bytes[8 + header_size + i] = (uint8_t)i;
    return m;
}

static image make_plain(const char *header, size_t data_bytes)
{
    return make(header, strlen(header), strlen(header), data_bytes);
}

static void expect(image m, err code, const char *words)
{
    safetensors *s;
    err e = safetensors_parse(&s, m.bytes, m.size, "a.safetensors");
    if (e != code || (e && (!strstr(err_message(), words) || strncmp(err_message(), "a.safetensors: ", 15) != 0)))
        fail_msg("got %s '%s', expected %s '%s'", err_name(e), e ? err_message() : "", err_name(code), words);
    if (!e)
        safetensors_close(s);
    free(m.bytes);
}

/* ---- what a reader must refuse, by the rules of the format ---- */

#define T(name, fields) "\"" name "\":{" fields "}"
#define F4(begin, end) "\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[" #begin "," #end "]"

static const struct {
    const char *rule, *header;
    size_t data_bytes;
    const char *words; /* NULL: legal */
} cases[] = {
    {"legal: one tensor", "{" T("a", F4(0, 4)) "}", 4, NULL},
    {"legal: empty object", "{}", 0, NULL},
    {"legal: spaces behind", "{" T("a", F4(0, 4)) "}    ", 4, NULL},
    {"legal: white space inside", "{ \n\"a\" :\t{\"shape\":[ 1 ],\"dtype\":\"F32\" , \"data_offsets\":[ 0 ,4]} }", 4, NULL},
    {"legal: rank 0", "{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, NULL},
    {"legal: zero size", "{\"a\":{\"dtype\":\"F32\",\"shape\":[3,0],\"data_offsets\":[0,0]}," T("b", F4(0, 4)) "}", 4, NULL},
    {"legal: offsets not in order", "{" T("b", F4(4, 8)) "," T("a", F4(0, 4)) "}", 8, NULL},
    {"legal: metadata", "{\"__metadata__\":{\"k\":\"v\",\"j\":\"\"}}", 0, NULL},
    {"header not an object", "[]", 0, "does not begin with '{'"},
    {"white space before the object", " {}", 0, "does not begin with '{'"},
    {"not UTF-8", "{\"\xff\":1}", 0, "not UTF-8"},
    {"over-long UTF-8", "{\"\xc0\xaf\":1}", 0, "not UTF-8"},
    {"surrogate in UTF-8", "{\"\xed\xa0\x80\":1}", 0, "not UTF-8"},
    {"newline padding", "{}\n", 0, "only spaces behind"},
    {"text behind the object", "{}{}", 0, "only spaces behind"},
    {"not JSON", "{a}", 0, "a tensor's name"},
    {"trailing comma", "{" T("a", F4(0, 4)) ",}", 4, "a tensor's name"},
    {"cut short", "{" T("a", F4(0, 4)), 4, "ends early"},
    {"control character in a string", "{\"a\tb\":{}}", 0, "control characters"},
    {"escaped NUL in a name", "{\"a\\u0000\":{}}", 0, "no NUL"},
    {"lone surrogate escape", "{\"\\udc00\":{}}", 0, "no lone surrogate"},
    {"half a surrogate pair", "{\"\\ud800x\":{}}", 0, "second half"},
    {"unknown escape", "{\"\\q\":{}}", 0, "an escape"},
    {"metadata value not a string", "{\"__metadata__\":{\"k\":1}}", 0, "a string in __metadata__"},
    {"metadata not an object", "{\"__metadata__\":\"x\"}", 0, "'{' of __metadata__"},
    {"metadata twice", "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ appears twice"},
    {"metadata key twice", "{\"__metadata__\":{\"k\":\"a\",\"k\":\"a\"}}", 0, "key 'k' appears twice"},
    {"tensor twice", "{" T("a", F4(0, 4)) "," T("a", F4(0, 4)) "}", 4, "a: appears twice"},
    {"tensor twice, one name escaped", "{" T("a", F4(0, 4)) "," T("\\u0061", F4(4, 8)) "}", 8, "a: appears twice"},
    {"field twice", "{" T("a", "\"dtype\":\"F32\"," F4(0, 4)) "}", 4, "a: field 'dtype' appears twice"},
    {"field missing", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "a: field 'data_offsets' is missing"},
    {"extra field", "{" T("a", "\"extra\":1," F4(0, 4)) "}", 4, "a: unknown field 'extra'"},
    {"tensor not an object", "{\"a\":[]}", 0, "a: header byte 5"},
    {"unknown dtype", "{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype 'F33' is not supported"},
    {"sub-byte dtype", "{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1, "dtype 'F4' is not supported"},
    {"negative dimension", "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "not a whole number"},
    {"fraction", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, "not a whole number"},
    {"exponent", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1e0],\"data_offsets\":[0,4]}}", 4, "not a whole number"},
    {"negative zero", "{" T("a", F4(-0, 4)) "}", 4, "not a whole number"},
    {"leading zero", "{" T("a", F4(0, 04)) "}", 4, "not a whole number"},
    {"offset of 2^64", "{" T("a", F4(0, 18446744073709551616)) "}", 4, "2^63 or more"},
    {"one offset", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "two data_offsets"},
    {"three offsets", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "']' behind two data_offsets"},
    {"end before begin", "{" T("a", F4(4, 0)) "}", 4, "run backwards"},
    {"first tensor not at 0", "{" T("a", F4(4, 8)) "}", 8, "there is a hole"},
    {"control characters in a name reach no message", "{" T("\\u001b[2J", F4(4, 8)) "}", 8, "\\x1B[2J: data begins at 4"},
    {"hole", "{" T("a", F4(0, 4)) "," T("b", F4(8, 12)) "}", 12, "b: data begins at 8, expected 4: there is a hole"},
    {"overlap", "{" T("a", F4(0, 4)) "," T("b", F4(2, 6)) "}", 6, "b: data begins at 2, expected 4: it overlaps"},
    {"same place twice", "{" T("a", F4(0, 4)) "," T("b", F4(0, 4)) "}", 4, "it overlaps"},
    {"size against shape", "{\"a\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[0,4]}}", 4, "span 4 bytes, dtype and shape need 6"},
    {"product overflows", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, "overflows"},
    {"bytes overflow", "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]}}", 4, "overflows"},
    {"data beyond the file", "{" T("a", F4(0, 4)) "}", 3, "a: data ends at 4, the file has 3"},
    {"bytes behind the last tensor", "{" T("a", F4(0, 4)) "}", 5, "1 bytes lie behind"},
    {"data without tensors", "{}", 1, "1 bytes lie behind"},
};

static void test_rules(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        print_message("  %s\n", cases[i].rule);
        expect(make_plain(cases[i].header, cases[i].data_bytes), cases[i].words ? E_FORMAT : OK, cases[i].words);
    }
}

static void test_lengths(void **state)
{
    (void)state;
    expect(make("{}", 0, 0, 0), E_FORMAT, "does not begin with '{'");
    expect(make("{}", 2, 3, 0), E_FORMAT, "header length 3, but only 2 bytes follow");
    expect(make("{}", 2, 100000001, 0), E_FORMAT, "header length 100000001, at most 100000000");
    expect(make("{}", 2, UINT64_MAX, 0), E_FORMAT, "at most 100000000");
    expect(make("{}\0\0", 4, 4, 0), E_FORMAT, "only spaces behind");
    image m = {heap_get(7), 7};
    memset(m.bytes, 1, 7);
    expect(m, E_FORMAT, "7 bytes are too few");
    expect((image){NULL, 0}, E_FORMAT, "found an empty file");
    char deep[400] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1";
    for (int i = 0; i < 64; i++)
        strcat(deep, ",1");
    strcat(deep, "],\"data_offsets\":[0,4]}}");
    expect(make_plain(deep, 4), E_FORMAT, "more than 64 dimensions");
}

static void test_other_files_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *words;
    } others[] = {
        {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 10\n", "git lfs pull"},
        {"  <!DOCTYPE html><html></html>", "found an HTML page"},
        {"<HTML><head>", "found an HTML page"},
        {"PK\3\4 and more", "found a zip archive"},
        {"\x80\2}q", "found a bare pickle"},
        {"\x89HDF\r\n\x1a\n....", "found an HDF5 file"},
        {"{\"metadata\": {}}", "found JSON text"},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        size_t size = strlen(others[i].bytes);
        image m = {memcpy(heap_get(size), others[i].bytes, size), size};
        expect(m, E_FORMAT, others[i].words);
    }
    uint8_t *zeros = memset(heap_get(100), 0, 100);
    expect((image){zeros, 100}, E_FORMAT, "only zero bytes");
}

/* Every truncation and every change of one byte is either refused or gives a consistent table. */
static void test_damaged_everywhere(void **state)
{
    (void)state;
    image m = make_plain("{\"__metadata__\":{\"k\":\"\\u00e9\\\"\"}," T("a", F4(0, 4)) "," T("b.c", F4(4, 8)) "}  ", 8);
    for (size_t size = 0; size < m.size; size++) {
        image cut = {memcpy(heap_get(size), m.bytes, size), size};
        expect(cut, E_FORMAT, "");
    }
    for (size_t at = 0; at < m.size; at++) {
        for (int value = 0; value < 256; value++) {
            uint8_t *copy = memcpy(heap_get(m.size), m.bytes, m.size);
            copy[at] = (uint8_t)value;
            safetensors *s;
            if (safetensors_parse(&s, copy, m.size, "x") == OK) {
                for (size_t i = 0; i < s->tensors.count; i++)
                    assert_true(s->tensors.at[i].data + s->tensors.at[i].bytes <= copy + m.size);
                safetensors_close(s);
            }
            free(copy);
        }
    }
    free(m.bytes);
}

/* ---- what is read ---- */

static void test_reads(void **state)
{
    (void)state;
    image m = make_plain("{\"b\":{\"dtype\":\"U8\",\"shape\":[2,2],\"data_offsets\":[4,8]},"
                         "\"a.\\u00e9\\ud83d\\ude00\\n\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[0,4]},"
                         "\"__metadata__\":{\"z\":\"1\",\"a\":\"\\/2\"}}", 8);
    safetensors *s;
    assert_int_equal(safetensors_parse(&s, m.bytes, m.size, "x"), OK);
    assert_int_equal(s->tensors.count, 2);
    const stored_tensor *a = tensor_table_find(&s->tensors, "a.\xc3\xa9\xf0\x9f\x98\x80\n");
    const stored_tensor *b = tensor_table_find(&s->tensors, "b");
    assert_true(a == &s->tensors.at[0] && b == &s->tensors.at[1]);
    assert_null(tensor_table_find(&s->tensors, "c"));
    assert_int_equal(a->ndim, 0);
    assert_int_equal(a->count, 1);
    assert_int_equal(b->ndim, 2);
    assert_true(b->dim[0] == 2 && b->dim[1] == 2 && b->bytes == 4 && b->type == STORED_U8);
    int64_t *whole;
    assert_int_equal(stored_read_i64(&whole, a), OK);
    assert_int_equal(whole[0], 0x03020100);
    free(whole);
    float *real;
    assert_int_equal(stored_read_f32(&real, b), OK);
    assert_true(real[0] == 4 && real[3] == 7);
    free(real);
    assert_string_equal(safetensors_metadata(s, "a"), "/2");
    assert_string_equal(s->metadata[1].key, "z");
    assert_null(safetensors_metadata(s, "b"));
    safetensors_close(s);
    free(m.bytes);
}

static void test_conversions(void **state)
{
    (void)state;
    float out[2];
    int64_t whole[2];
    stored_to_f32(out, STORED_F16, (const uint8_t[]){0x00, 0x3C, 0x00, 0xFC}, 2);
    assert_true(out[0] == 1 && out[1] == -INFINITY);
    stored_to_f32(out, STORED_BF16, (const uint8_t[]){0x80, 0x3F, 0x00, 0xC0}, 2);
    assert_true(out[0] == 1 && out[1] == -2);
    stored_to_f32(out, STORED_F64, (const double[]){0.1, -3}, 2);
    assert_true(out[0] == 0.1f && out[1] == -3);
    stored_to_f32(out, STORED_I64, (const int64_t[]){-5, (1 << 24) + 1}, 2);
    assert_true(out[0] == -5 && out[1] == 16777216);
    stored_to_f32(out, STORED_F8E4M3, (const uint8_t[]){0x38, 0x7E}, 2);
    assert_true(out[0] == 1 && out[1] == 448);
    assert_int_equal(stored_to_i64(whole, STORED_F32, (const float[]){7, -2}, 2), OK);
    assert_true(whole[0] == 7 && whole[1] == -2);
    assert_int_equal(stored_to_i64(whole, STORED_I8, (const int8_t[]){-7, 2}, 2), OK);
    assert_true(whole[0] == -7 && whole[1] == 2);
    assert_int_equal(stored_to_i64(whole, STORED_F32, (const float[]){7, 0.5f}, 2), E_FORMAT);
    assert_string_equal(err_message(), "element 1 is 0.5, expected a whole number");
    assert_int_equal(stored_to_i64(whole, STORED_F32, (const float[]){NAN, 0}, 2), E_FORMAT);
    assert_int_equal(stored_to_i64(whole, STORED_F64, (const double[]){0x1p63, 0}, 2), E_FORMAT);
    assert_int_equal(stored_to_i64(whole, STORED_U64, (const uint64_t[]){1, UINT64_MAX}, 2), E_FORMAT);
    uint16_t half[2];
    stored_from_f32(half, STORED_F16, (const float[]){1, 65520}, 2);
    assert_true(half[0] == 0x3C00 && half[1] == 0x7C00);
    stored_from_f32(half, STORED_BF16, (const float[]){1, -2}, 2);
    assert_true(half[0] == 0x3F80 && half[1] == 0xC000);
}

/* ---- what is written ---- */

static err write_sample(const char *path, bool notes_backwards)
{
    safetensors_writer *w;
    TRY(safetensors_create(&w, path));
    safetensors_note(w, notes_backwards ? "step" : "format", notes_backwards ? "7" : "msd");
    safetensors_note(w, notes_backwards ? "format" : "step", notes_backwards ? "msd" : "7");
    safetensors_declare(w, "x\"\\\n\xc3\xa9", STORED_F32, 2, (const int64_t[]){2, 1});
    safetensors_declare(w, "half", STORED_F16, 0, NULL);
    safetensors_declare(w, "none", STORED_F32, 1, (const int64_t[]){0});
    err e = safetensors_write_f32(w, (const float[]){1.5f, -2});
    if (!e)
        e = safetensors_write_f32(w, (const float[]){0.1f});
    if (e) {
        safetensors_discard(w);
        return e;
    }
    return safetensors_publish(w);
}

static void test_writes(void **state)
{
    (void)state;
    const char *path = MSD_TEST_TMP "/written.safetensors", *again = MSD_TEST_TMP "/again.safetensors";
    assert_int_equal(write_sample(path, false), OK);
    assert_int_equal(write_sample(again, true), OK);
    char *first, *second;
    size_t size, second_size;
    assert_int_equal(file_read(&first, &size, path, 1000), OK);
    assert_int_equal(file_read(&second, &second_size, again, 1000), OK);
    assert_int_equal(size, second_size);
    assert_memory_equal(first, second, size);
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"msd\",\"step\":\"7\"},"
        "\"x\\\"\\\\\\u000a\xc3\xa9\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]},"
        "\"half\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[8,10]},"
        "\"none\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[10,10]}}";
    assert_int_equal(size, 8 + (sizeof header - 1 + 7) / 8 * 8 + 10);
    assert_int_equal((uint8_t)first[0], (sizeof header - 1 + 7) / 8 * 8);
    assert_memory_equal(first + 8, header, sizeof header - 1);
    free(first);
    free(second);
    safetensors *s;
    assert_int_equal(safetensors_open(&s, path), OK);
    float *x;
    assert_int_equal(stored_read_f32(&x, tensor_table_find(&s->tensors, "x\"\\\n\xc3\xa9")), OK);
    assert_true(x[0] == 1.5f && x[1] == -2);
    free(x);
    assert_string_equal(safetensors_metadata(s, "step"), "7");
    safetensors_close(s);
}

static void test_writer_refuses(void **state)
{
    (void)state;
    const char *path = MSD_TEST_TMP "/refused.safetensors";
    safetensors_writer *w;
    assert_int_equal(safetensors_create(&w, path), OK);
    safetensors_declare(w, "a", STORED_U8, 0, NULL);
    safetensors_declare(w, "a", STORED_U8, 0, NULL);
    assert_int_equal(safetensors_write(w, "x", 1), E_FORMAT);
    assert_non_null(strstr(err_message(), "'a' would be written twice"));
    safetensors_discard(w);
    assert_int_equal(safetensors_create(&w, path), OK);
    safetensors_note(w, "k", "\xff");
    assert_int_equal(safetensors_publish(w), E_FORMAT);
    assert_non_null(strstr(err_message(), "not UTF-8"));
    assert_false(file_exists(path));
    assert_int_equal(safetensors_open(&(safetensors *){NULL}, MSD_TEST_TMP "/absent.safetensors"), E_IO);
}

/* As many tensors as SDXL's UNet has, and more. */
static void test_many(void **state)
{
    (void)state;
    const char *path = MSD_TEST_TMP "/many.safetensors";
    safetensors_writer *w;
    assert_int_equal(safetensors_create(&w, path), OK);
    char name[32];
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "t%d", i);
        safetensors_declare(w, name, STORED_I32, 1, (const int64_t[]){1});
    }
    for (int32_t i = 0; i < 5000; i++)
        assert_int_equal(safetensors_write(w, &i, sizeof i), OK);
    assert_int_equal(safetensors_publish(w), OK);
    safetensors *s;
    assert_int_equal(safetensors_open(&s, path), OK);
    assert_int_equal(s->tensors.count, 5000);
    for (int32_t i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "t%d", i);
        assert_memory_equal(tensor_table_find(&s->tensors, name)->data, &i, sizeof i);
    }
    safetensors_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),         cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_other_files_are_named), cmocka_unit_test(test_damaged_everywhere),
        cmocka_unit_test(test_reads),         cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_writes),        cmocka_unit_test(test_writer_refuses),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
