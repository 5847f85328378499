/* Files in goldens/torch_bin are torch's own (tests/reference/make_torch_bin.py); hostile ones are made here. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/pickle.h"
#include "data/torch_bin.h"

static torch_bin *open_golden(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/torch_bin/%s", MSD_GOLDENS, name);
    torch_bin *t;
    if (torch_bin_open(&t, path) != OK)
        fail_msg("%s", err_message());
    return t;
}

static void check_tensor(const torch_bin *t, const char *name, stored_type type, int ndim, const int64_t *dim, int count,
                         const double *values)
{
    const stored_tensor *s = tensor_table_find(&t->tensors, name);
    if (!s)
        fail_msg("%s is missing", name);
    assert_int_equal(s->type, type);
    assert_int_equal(s->ndim, ndim);
    assert_memory_equal(s->dim, dim, (size_t)ndim * sizeof *dim);
    assert_int_equal(s->count, count);
    float *x;
    assert_int_equal(stored_read_f32(&x, s), OK);
    for (int i = 0; i < count; i++) {
        if ((double)x[i] != values[i])
            fail_msg("%s[%d] is %g, expected %g", name, i, (double)x[i], values[i]);
    }
    free(x);
}

#define DOUBLES(...) (int)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)), (const double[]){__VA_ARGS__}

/* ---- what torch writes ---- */

static void test_nested(void **state)
{
    (void)state;
    torch_bin *t = open_golden("nested.bin");
    assert_int_equal(t->tensors.count, 7);
    check_tensor(t, "image_proj.norm.weight", STORED_F32, DIMS(3), DOUBLES(0, 1, 2));
    check_tensor(t, "image_proj.norm.bias", STORED_F32, DIMS(3), DOUBLES(10, 11, 12));
    check_tensor(t, "image_proj.proj_in.weight", STORED_F32, DIMS(2, 3), DOUBLES(20, 21, 22, 23, 24, 25));
    check_tensor(t, "ms_adapter.1.to_k_ip.weight", STORED_F16, DIMS(2, 3), DOUBLES(0, 1, 2, 3, 4, 5));
    check_tensor(t, "ms_adapter.1.to_v_ip.weight", STORED_BF16, DIMS(2, 3), DOUBLES(6, 7, 8, 9, 10, 11));
    check_tensor(t, "dummy_image_tokens", STORED_F32, DIMS(1, 4, 2), DOUBLES(0, 1, 2, 3, 4, 5, 6, 7));
    torch_bin_close(t);
}

static void test_views(void **state)
{
    (void)state;
    torch_bin *t = open_golden("views.bin");
    assert_int_equal(t->tensors.count, 8);
    check_tensor(t, "whole", STORED_F32, DIMS(3, 4), DOUBLES(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11));
    check_tensor(t, "transposed", STORED_F32, DIMS(4, 3), DOUBLES(0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11));
    check_tensor(t, "middle", STORED_F32, DIMS(2, 2), DOUBLES(5, 6, 9, 10));
    check_tensor(t, "every_second", STORED_F32, DIMS(12), DOUBLES(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22));
    check_tensor(t, "tail", STORED_F32, DIMS(4), DOUBLES(20, 21, 22, 23));
    check_tensor(t, "scalar", STORED_I64, 0, (const int64_t[]){0}, DOUBLES(7));
    check_tensor(t, "empty", STORED_F32, DIMS(0, 5), 0, NULL);
    check_tensor(t, "deep.3.0", STORED_F32, DIMS(1), DOUBLES(1));
    torch_bin_close(t);
}

static void test_types(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        stored_type type;
    } types[] = {{"float64", STORED_F64}, {"float32", STORED_F32}, {"float16", STORED_F16}, {"bfloat16", STORED_BF16},
                 {"int64", STORED_I64}, {"int32", STORED_I32}, {"int16", STORED_I16}, {"int8", STORED_I8},
                 {"uint8", STORED_U8}, {"bool", STORED_BOOL}};
    torch_bin *t = open_golden("types.bin");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        check_tensor(t, types[i].name, types[i].type, DIMS(2), DOUBLES(0, 1));
    torch_bin_close(t);
}

static void expect_open_fails(const char *path, const char *words)
{
    torch_bin *t;
    assert_int_equal(torch_bin_open(&t, path), E_FORMAT);
    if (!strstr(err_message(), words) || strncmp(err_message(), path, strlen(path)) != 0)
        fail_msg("got '%s', expected '%s'", err_message(), words);
}

static void test_refused_forms(void **state)
{
    (void)state;
    expect_open_fails(MSD_GOLDENS "/torch_bin/legacy.bin", "legacy form of torch.save");
    expect_open_fails(MSD_GOLDENS "/torch_bin/module.bin", "pickle asks for torch.nn.modules.linear.Linear");
    expect_open_fails(MSD_GOLDENS "/torch_bin/protocol4.bin", "pickle protocol 4");
    expect_open_fails(MSD_GOLDENS "/torch_bin/expanded.bin", "a: has a stride of 0");
    expect_open_fails(MSD_GOLDENS "/torch_bin/tensor.bin", "holds no dict of tensors");
}

/* ---- hostile pickles, in an archive with the records data/0 (16 bytes) ---- */

static err parse_pickle(const char *pickle, size_t size)
{
    const char *path = MSD_TEST_TMP "/hostile.bin";
    zip_writer *w;
    static const uint8_t record[16] = {1};
    assert_int_equal(zip_create(&w, path, "archive"), OK);
    assert_int_equal(zip_begin_member(w, "data.pkl"), OK);
    assert_int_equal(zip_write(w, pickle, size), OK);
    assert_int_equal(zip_end_member(w), OK);
    assert_int_equal(zip_begin_member(w, "data/0"), OK);
    assert_int_equal(zip_write(w, record, sizeof record), OK);
    assert_int_equal(zip_end_member(w), OK);
    assert_int_equal(zip_publish(w), OK);
    torch_bin *t;
    err e = torch_bin_open(&t, path);
    if (!e)
        torch_bin_close(t);
    return e;
}

#define P(text) text, sizeof text - 1
#define STORAGE(type, key, count) "((X\7\0\0\0storagectorch\n" type "\nU\1" key "U\3cpu" count "tQ"
#define TENSOR(storage, offset, size, stride) \
    "\x80\2}U\1actorch._utils\n_rebuild_tensor_v2\n" storage offset size stride "\x89}tRs."

static const struct {
    const char *what, *pickle;
    size_t size;
    const char *words; /* NULL: legal */
} pickles[] = {
    {"legal", P(TENSOR(STORAGE("FloatStorage", "0", "K\4"), "K\0", "K\2K\2\x86", "K\2K\1\x86")), NULL},
    {"legal: on cuda:7", P("\x80\2}U\1actorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nU\1"
                           "0U\6cuda:7K\4tQK\0K\4\x85K\1\x85\x89}tRs."), NULL},
    {"empty", P(""), "does not begin with PROTO"},
    {"no PROTO", P("}."), "does not begin with PROTO"},
    {"protocol 0", P("\x80\0}."), "pickle protocol 0"},
    {"protocol 5", P("\x80\5}."), "pickle protocol 5"},
    {"STOP missing", P("\x80\2}"), "STOP is missing"},
    {"data behind STOP", P("\x80\2}.x"), "bytes behind STOP"},
    {"nothing to STOP with", P("\x80\2."), "STOP with other than one value"},
    {"two values", P("\x80\2}}."), "STOP with other than one value"},
    {"mark left open", P("\x80\2}(."), "STOP with other than one value"},
    {"forbidden global", P("\x80\2cos\nsystem\nU\4true\x85R."), "pickle asks for os.system"},
    {"forbidden global of torch", P("\x80\2ctorch.hub\nload\n."), "pickle asks for torch.hub.load"},
    {"global with control characters", P("\x80\2c\x1b[31m\nx\n."), "pickle asks for \\x1B[31m.x"},
    {"global cut off", P("\x80\2cos"), "a name is too long or cut off"},
    {"opcode STACK_GLOBAL", P("\x80\2U\2osU\6system\x93."), "opcode 0x93 (STACK_GLOBAL)"},
    {"opcode INST", P("\x80\2(U\2idios\nsystem\n."), "opcode 0x69 (INST)"},
    {"opcode NEWOBJ", P("\x80\2ccollections\nOrderedDict\n)\x81."), "opcode 0x81 (NEWOBJ)"},
    {"opcode unknown", P("\x80\2\xff."), "opcode 0xff (unknown)"},
    {"stack underflow in TUPLE2", P("\x80\2K\1\x86."), "too few values for a tuple"},
    {"stack underflow in SETITEM", P("\x80\2}s."), "too few values"},
    {"SETITEM below a mark", P("\x80\2}(K\1K\2s."), "no dict"},
    {"SETITEM on a list", P("\x80\2]K\1K\2s."), "no dict"},
    {"SETITEMS without mark", P("\x80\2}u."), "no mark"},
    {"SETITEMS of three", P("\x80\2}(K\1K\2K\3u."), "no dict"},
    {"APPEND to a dict", P("\x80\2}K\1a."), "no list"},
    {"APPENDS on nothing", P("\x80\2(e."), "no list"},
    {"a key that is a dict", P("\x80\2}}K\1s."), "neither a string nor a whole number"},
    {"REDUCE of nothing", P("\x80\2R."), "REDUCE without a function"},
    {"REDUCE of a string", P("\x80\2U\1x)R."), "REDUCE without a function"},
    {"REDUCE of a storage class", P("\x80\2ctorch\nFloatStorage\n)R."), "a storage class is called"},
    {"OrderedDict with arguments", P("\x80\2ccollections\nOrderedDict\n]\x85R."), "OrderedDict is given arguments"},
    {"BUILD on a list", P("\x80\2]}b."), "BUILD on what is no dict"},
    {"BUILD on nothing", P("\x80\2}b."), "BUILD on what is no dict"},
    {"memo index missing", P("\x80\2h\0."), "never set"},
    {"memo index 2^32-1", P("\x80\2}r\xff\xff\xff\xff."), "memo index is larger than the pickle"},
    {"memo of nothing", P("\x80\2q\0}."), "nothing to remember"},
    {"REDUCE below a mark", P("\x80\2ccollections\nOrderedDict\n)(Rt."), "REDUCE without a function"},
    {"LONG1 of 9 bytes", P("\x80\2\x8a\t123456789."), "more than 64 bits"},
    {"LONG1 of 255 bytes", P("\x80\2\x8a\xff."), "more than 64 bits"},
    {"string longer than the rest", P("\x80\2X\xff\xff\xff\x7fx."), "longer than the rest"},
    {"string of 2^32-1", P("\x80\2X\xff\xff\xff\xff"), "longer than the rest"},
    {"string with NUL", P("\x80\2U\2a\0."), "not UTF-8 or contains NUL"},
    {"string not UTF-8", P("\x80\2U\1\xff."), "not UTF-8 or contains NUL"},
    {"number cut off", P("\x80\2J\1\1"), "longer than the rest"},
    {"dict in itself", P("\x80\2}q\0U\1xh\0s."), "contain each other"},
    {"persistent id of a string", P("\x80\2U\1xQ."), "not a tuple of five"},
    {"persistent id of another kind", P("\x80\2(U\1xctorch\nFloatStorage\nU\1" "0U\3cpuK\1tQ."), "not ('storage'"},
    {"tensor without storage", P("\x80\2ctorch._utils\n_rebuild_tensor_v2\n(K\0K\0))\x89}tR."), "_rebuild_tensor_v2 is not given"},
    {"tensor of too few arguments", P("\x80\2ctorch._utils\n_rebuild_tensor_v2\n)R."), "_rebuild_tensor_v2 is not given"},
    {"parameter of a dict", P("\x80\2ctorch._utils\n_rebuild_parameter\n}\x88}\x87R."), "_rebuild_parameter is not given"},
    {"more strides than dimensions", P(TENSOR(STORAGE("FloatStorage", "0", "K\4"), "K\0", "K\4\x85", "K\1K\1\x86")), "_rebuild_tensor_v2 is not given"},
    {"dimension not a number", P(TENSOR(STORAGE("FloatStorage", "0", "K\4"), "K\0", "N\x85", "K\1\x85")), "_rebuild_tensor_v2 is not given"},
    {"negative dimension", P(TENSOR(STORAGE("FloatStorage", "0", "K\4"), "K\0", "J\xff\xff\xff\xff\x85", "K\1\x85")), "negative dimension"},
    {"negative count", P(TENSOR(STORAGE("FloatStorage", "0", "J\xff\xff\xff\xff"), "K\0", ")", ")")), "not ('storage'"},
    {"count above the record", P(TENSOR(STORAGE("FloatStorage", "0", "K\5"), "K\0", "K\4\x85", "K\1\x85")), "has 16 bytes, its type and count need 20"},
    {"count below the record", P(TENSOR(STORAGE("HalfStorage", "0", "K\4"), "K\0", "K\4\x85", "K\1\x85")), "has 16 bytes, its type and count need 8"},
    {"count x size wraps", P(TENSOR(STORAGE("FloatStorage", "0", "\x8a\10\1\0\0\0\0\0\0\x40"), "K\0", "K\4\x85", "K\1\x85")), "overflows 64 bits"},
    {"record missing", P(TENSOR(STORAGE("FloatStorage", "1", "K\4"), "K\0", "K\4\x85", "K\1\x85")), "'data/1' is not in the archive"},
    {"key not a number", P(TENSOR(STORAGE("FloatStorage", "/", "K\4"), "K\0", "K\4\x85", "K\1\x85")), "storage key '/'"},
    {"offset beyond", P(TENSOR(STORAGE("FloatStorage", "0", "K\4"), "K\1", "K\4\x85", "K\1\x85")), "reaches element 4 of a storage of 4"},
    {"empty, offset beyond", P(TENSOR(STORAGE("FloatStorage", "0", "K\4"), "K\5", "K\0\x85", "K\1\x85")), "begins outside"},
    {"negative offset", P(TENSOR(STORAGE("FloatStorage", "0", "K\4"), "J\xff\xff\xff\xff", "K\1\x85", "K\1\x85")), "begins outside"},
    {"stride beyond", P(TENSOR(STORAGE("FloatStorage", "0", "K\4"), "K\0", "K\2\x85", "K\4\x85")), "reaches element 4"},
    {"negative stride", P(TENSOR(STORAGE("FloatStorage", "0", "K\4"), "K\3", "K\2\x85", "J\xff\xff\xff\xff\x85")), "stride of -1"},
    {"stride of 2^62", P(TENSOR(STORAGE("FloatStorage", "0", "K\4"), "K\0", "K\4\x85", "\x8a\10\0\0\0\0\0\0\0\x40\x85")), "beyond 64 bits"},
    {"windows that overlap", P(TENSOR(STORAGE("FloatStorage", "0", "K\4"), "K\0", "K\3K\2\x86", "K\1K\1\x86")), "more elements than its storage"},
    {"elements overflow", P(TENSOR(STORAGE("FloatStorage", "0", "K\4"), "K\0", "\x8a\10\0\0\0\0\0\0\0\x40K\4\x86", "K\1K\1\x86")), "overflows 64 bits"},
    {"one name twice", P("\x80\2}(U\1actorch._utils\n_rebuild_tensor_v2\n" STORAGE("FloatStorage", "0", "K\4") "K\0K\4\x85K\1\x85\x89}tRq\0U\1ah\0u."), "a: appears twice"},
};

static void test_hostile_pickles(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        print_message("  %s\n", pickles[i].what);
        err e = parse_pickle(pickles[i].pickle, pickles[i].size);
        if (e != (pickles[i].words ? E_FORMAT : OK) || (e && !strstr(err_message(), pickles[i].words)))
            fail_msg("got %s '%s', expected '%s'", err_name(e), e ? err_message() : "", pickles[i].words);
    }
}

/* Dicts that share dicts: 2^13 paths out of 200 bytes. And a million nested tuples. Both end at once. */
static void test_small_files_with_endless_walks(void **state)
{
    (void)state;
    char pickle[400] = "\x80\2}U\1x(}q\0"; /* {"x": (level 0, level 1, ...)}, level = {"a": the last, "b": the last} */
    size_t n = 10;
    for (char level = 1; level <= 13; level++) {
        const char item[] = {'}', 'U', 1, 'a', 'h', (char)(level - 1), 's', 'U', 1, 'b', 'h', (char)(level - 1), 's', 'q', level};
        memcpy(pickle + n, item, sizeof item);
        n += sizeof item;
    }
    memcpy(pickle + n, "ts.", 3);
    assert_int_equal(parse_pickle(pickle, n + 3), E_FORMAT);
    assert_non_null(strstr(err_message(), "contain each other"));

    size_t tuples = 1000000;
    char *deep = heap_get(tuples + 10);
    memcpy(deep, "\x80\2}U\1x)", 7);
    memset(deep + 7, 0x85, tuples);
    memcpy(deep + 7 + tuples, "s.", 2);
    assert_int_equal(parse_pickle(deep, tuples + 9), E_FORMAT);
    assert_non_null(strstr(err_message(), "nest deeper than"));
    free(deep);
}

/* ---- hostile archives ---- */

static uint8_t *read_golden(const char *name, size_t *size)
{
    char path[512], *text;
    snprintf(path, sizeof path, "%s/torch_bin/%s", MSD_GOLDENS, name);
    assert_int_equal(file_read(&text, size, path, 100000), OK);
    uint8_t *exact = memcpy(heap_get(*size), text, *size); /* without the NUL behind, for the sanitizer */
    free(text);
    return exact;
}

static void expect_damaged(const uint8_t *bytes, size_t size, const char *words)
{
    torch_bin *t;
    err e = torch_bin_parse(&t, bytes, size, "x.bin");
    if (e != E_FORMAT || !strstr(err_message(), words))
        fail_msg("got %s '%s', expected '%s'", err_name(e), e ? err_message() : "", words);
}

/* The first place of a magic number. */
static uint8_t *find(uint8_t *bytes, size_t size, const char *magic)
{
    uint8_t *at = memmem(bytes, size, magic, 4);
    assert_non_null(at);
    return at;
}

#define CENTRAL "PK\1\2"

typedef struct change {
    const char *what, *magic;
    int at, bytes;
    uint64_t value;
    const char *words;
} change;

static const change changes[] = {
    {"end record missing", "PK\5\6", 0, 1, 'X', "no end record"},
    {"comment", "PK\5\6", 20, 2, 1, "no end record"},
    {"several volumes", "PK\5\6", 4, 2, 1, "several volumes"},
    {"counts disagree", "PK\5\6", 8, 4, 0x00080008, "two end records disagree"},
    {"zip64 counts wrong", "PK\6\6", 32, 8, 1u << 20, "two end records disagree"},
    {"zip64 record elsewhere", "PK\6\7", 8, 8, 0, "not where its locator says"},
    {"directory elsewhere", "PK\6\6", 48, 8, 4, "two end records disagree"},
    {"encrypted", CENTRAL, 8, 2, 0x0809, "is encrypted"},
    {"compressed", CENTRAL, 10, 2, 8, "is compressed (method 8)"},
    {"strange flags", CENTRAL, 8, 2, 0x0818, "has flags"},
    {"checksum", CENTRAL, 16, 4, 1, "checksum differs"},
    {"packed size", CENTRAL, 20, 4, 1, "sizes are wrong"},
    {"size above the file", CENTRAL, 20, 8, 0x7fffffff7fffffff, "sizes are wrong"},
    {"sizes beyond the next member", CENTRAL, 20, 8, 0x0000040000000400, "overlap"},
    {"zip64 size without its field", CENTRAL, 20, 8, 0xffffffffffffffff, "zip64 field is missing"},
    {"offset outside", CENTRAL, 42, 4, 0x7fffffff, "outside the file"},
    {"offset of another member", CENTRAL, 42, 4, 1, "does not agree with the directory"},
    {"name too long", CENTRAL, 28, 2, 60000, "cut off"},
    {"name with ..", CENTRAL, 46, 3, '.' | '.' << 8 | '/' << 16, "not a plain path"},
    {"name absolute", CENTRAL, 46, 1, '/', "not a plain path"},
    {"name with backslash", CENTRAL, 46, 1, '\\', "backslashes"},
    {"name differs", CENTRAL, 46, 1, 'X', "does not agree with the directory"},
    {"local magic", "PK\3\4", 2, 1, 9, ""},
    {"local method", "PK\3\4", 8, 2, 8, "method do not agree"},
    {"local extra too long", "PK\3\4", 28, 2, 60000, "does not agree with the directory"},
};

static void test_hostile_archives(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = read_golden("nested.bin", &size);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        print_message("  %s\n", changes[i].what);
        uint8_t *copy = memcpy(heap_get(size), bytes, size);
        uint8_t *at = find(copy, size, changes[i].magic) + changes[i].at;
        for (int b = 0; b < changes[i].bytes; b++)
            at[b] = (uint8_t)(changes[i].value >> (8 * b));
        expect_damaged(copy, size, changes[i].words);
        free(copy);
    }
    /* one member under another folder, in both headers */
    uint8_t *copy = memcpy(heap_get(size), bytes, size);
    find(copy, size, CENTRAL)[46] = find(copy, size, "PK\3\4")[30] = 'X';
    expect_damaged(copy, size, "do not lie under one folder");
    free(copy);
    /* the first member as long as all the archive: its header comes on top */
    copy = memcpy(heap_get(size), bytes, size);
    uint8_t *length = find(copy, size, CENTRAL) + 20, *offset = find(copy, size, "PK\5\6") + 16;
    memcpy(length, offset, 4);
    memcpy(length + 4, offset, 4);
    expect_damaged(copy, size, "a member's data lies outside the file");
    free(copy);
    uint8_t *trailing = heap_get(size + 1);
    memcpy(trailing, bytes, size);
    trailing[size] = 0;
    expect_damaged(trailing, size + 1, "no end record");
    free(trailing);
    free(bytes);
}

static void test_duplicate_members(void **state)
{
    (void)state;
    zip_writer *w;
    assert_int_equal(zip_create(&w, MSD_TEST_TMP "/duplicate.bin", "archive"), OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(zip_begin_member(w, "data.pkl"), OK);
        assert_int_equal(zip_write(w, "\x80\2}.", 4), OK);
        assert_int_equal(zip_end_member(w), OK);
    }
    assert_int_equal(zip_publish(w), OK);
    expect_open_fails(MSD_TEST_TMP "/duplicate.bin", "'data.pkl' appears twice");
}

/* Every truncation is refused; every change of one byte gives an error or the same tensors: all is under a checksum
 * or of no meaning. */
static void test_damaged_everywhere(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = read_golden("nested.bin", &size);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = memcpy(heap_get(cut), bytes, cut);
        expect_damaged(copy, cut, "");
        free(copy);
    }
    torch_bin *good, *t;
    assert_int_equal(torch_bin_parse(&good, bytes, size, "x"), OK);
    for (size_t at = 0; at < size; at++) {
        uint8_t *copy = memcpy(heap_get(size), bytes, size);
        copy[at] ^= (uint8_t)(1 + at % 255);
        if (torch_bin_parse(&t, copy, size, "x") == OK) {
            assert_int_equal(t->tensors.count, good->tensors.count);
            for (size_t i = 0; i < t->tensors.count; i++)
                assert_memory_equal(t->tensors.at[i].data, good->tensors.at[i].data, good->tensors.at[i].bytes);
            torch_bin_close(t);
        }
        free(copy);
    }
    torch_bin_close(good);
    free(bytes);
}

/* The pickle machine itself, without checksums around it: any byte at any place, and every truncation. */
static void test_pickle_damaged_everywhere(void **state)
{
    (void)state;
    static const char *const names[] = {"nested.bin", "views.bin"};
    for (int n = 0; n < 2; n++) {
        torch_bin *t = open_golden(names[n]);
        const zip_member *pickle = zip_find(&t->archive, "data.pkl");
        pickle_value *top;
        for (size_t at = 0; at < pickle->size; at++) {
            arena memory = {0};
            uint8_t *cut = memcpy(heap_get(at), pickle->data, at);
            assert_int_equal(pickle_load(&top, &memory, cut, at), E_FORMAT);
            arena_free(&memory);
            free(cut);
            for (int value = 0; value < 256; value += n ? 7 : 3) {
                uint8_t *copy = memcpy(heap_get(pickle->size), pickle->data, pickle->size);
                copy[at] = (uint8_t)value;
                (void)pickle_load(&top, &memory, copy, pickle->size);
                arena_free(&memory);
                free(copy);
            }
        }
        torch_bin_close(t);
    }
}

/* ---- what is written ---- */

static void write_sample(const char *path)
{
    torch_bin_writer *w;
    float values[6] = {0, 0.1f, -2, 3, 65520, 1e-8f};
    assert_int_equal(torch_bin_create(&w, path), OK);
    torch_bin_declare(w, "image_proj", "norm.weight", STORED_F32, DIMS(2, 3));
    torch_bin_declare(w, "image_proj", "empty", STORED_F32, DIMS(0, 3));
    torch_bin_declare(w, NULL, "dummy_image_tokens", STORED_F16, DIMS(1, 6, 1));
    torch_bin_declare(w, "ms_adapter", "1.to_k_ip.weight", STORED_BF16, DIMS(6));
    torch_bin_declare(w, "ms_adapter", "step", STORED_I64, 0, NULL);
    assert_int_equal(torch_bin_write_f32(w, values), OK);
    assert_int_equal(torch_bin_write(w, values), OK);
    assert_int_equal(torch_bin_write_f32(w, values), OK);
    assert_int_equal(torch_bin_write_f32(w, values), OK);
    assert_int_equal(torch_bin_write(w, &(int64_t){77}), OK);
    assert_int_equal(torch_bin_publish(w), OK);
}

static void test_writes(void **state)
{
    (void)state;
    const char *path = MSD_TEST_TMP "/written.bin", *again = MSD_TEST_TMP "/again.bin";
    write_sample(path);
    write_sample(again);
    char *first, *second;
    size_t size, second_size;
    assert_int_equal(file_read(&first, &size, path, 100000), OK);
    assert_int_equal(file_read(&second, &second_size, again, 100000), OK);
    assert_int_equal(size, second_size);
    assert_memory_equal(first, second, size);
    free(first);
    free(second);
    torch_bin *t;
    assert_int_equal(torch_bin_open(&t, path), OK);
    assert_int_equal(t->tensors.count, 5);
    check_tensor(t, "image_proj.norm.weight", STORED_F32, DIMS(2, 3), DOUBLES(0, (double)0.1f, -2, 3, 65520, (double)1e-8f));
    check_tensor(t, "image_proj.empty", STORED_F32, DIMS(0, 3), 0, NULL);
    check_tensor(t, "dummy_image_tokens", STORED_F16, DIMS(1, 6, 1), DOUBLES(0, 0.0999755859375, -2, 3, (double)INFINITY, 0));
    check_tensor(t, "ms_adapter.step", STORED_I64, 0, (const int64_t[]){0}, DOUBLES(77));
    for (size_t i = 0; i < t->archive.count; i++)
        assert_int_equal((t->archive.at[i].data - t->map.bytes) % 64, 0);
    torch_bin_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nested),          cmocka_unit_test(test_views),
        cmocka_unit_test(test_types),           cmocka_unit_test(test_refused_forms),
        cmocka_unit_test(test_hostile_pickles), cmocka_unit_test(test_small_files_with_endless_walks),
        cmocka_unit_test(test_hostile_archives), cmocka_unit_test(test_duplicate_members), cmocka_unit_test(test_damaged_everywhere),
        cmocka_unit_test(test_pickle_damaged_everywhere), cmocka_unit_test(test_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
