/* Loading by one walk: layouts, types, and every kind of problem named at once. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/device.h"
#include "model/bind.h"

typedef struct entry {
    const char *name;
    weight_view view;
} entry;

typedef struct fake_source {
    weight_source base; /* first */
    const entry  *entries;
} fake_source;

static const entry *entries_of(const weight_source *s)
{
    return ((const fake_source *)(const void *)s)->entries;
}

static bool fake_find(const weight_source *s, weight_view *out, const char *name)
{
    for (size_t i = 0; i < s->count; i++) {
        if (strcmp(entries_of(s)[i].name, name))
            continue;
        *out = entries_of(s)[i].view;
        return true;
    }
    return false;
}

static const char *fake_name(const weight_source *s, size_t i)
{
    return entries_of(s)[i].name;
}

static fake_source source_of(const entry *entries, size_t count)
{
    return (fake_source){{.label = "made/up.safetensors", .find = fake_find, .count = count, .name = fake_name},
                         entries};
}

typedef struct network {
    linear in;
    conv   middle;
    norm   out;
    tensor *extra;
} network;

static void network_bind(binder *b, network *n)
{
    int at = bind_enter(b, "block.%d", 3);
    bind_linear(b, &n->in, "in", 2, 3, true);
    bind_conv(b, &n->middle, "middle", 2, 3, 3);
    bind_leave(b, at);
    bind_norm(b, &n->out, "out", 2);
    bind_tensor(b, &n->extra, "extra", WEIGHT_PLAIN, DIMS(1));
    bind_ignore(b, "position_ids");
}

static float          six[6] = {1, 2, 3, 4, 5, 6}, two[2] = {7, 8}, one[1] = {9};
static float          kernel[54];
static const uint16_t halves[2] = {0x3C00, 0xC000};            /* 1, -2 */
static char           unaligned[9] = {0, 0, 0, 0x20, 0x41, 0, 0, 0x30, 0x41}; /* 10, 11 from byte 1 */

static entry good[] = {
    {"block.3.in.weight", {DT_F32, "F32", 2, {2, 3}, six}},
    {"block.3.in.bias", {DT_F16, "F16", 1, {2}, halves}},
    {"block.3.middle.weight", {DT_F32, "F32", 4, {2, 3, 3, 3}, kernel}},
    {"block.3.middle.bias", {DT_F32, "F32", 1, {2}, two}},
    {"out.weight", {DT_F32, "F32", 1, {2}, unaligned + 1}},
    {"out.bias", {DT_F32, "F32", 1, {2}, two}},
    {"extra", {DT_F32, "F32", 1, {1}, one}},
    {"position_ids", {DTYPE_COUNT, "I64", 2, {1, 77}, one}},
};

static device *dev;

static void loads_and_converts(void **state)
{
    (void)state;
    arena   memory = {0};
    network n = {0};
    binder *b;
    float   value[54];
    for (int i = 0; i < 54; i++)
        kernel[i] = (float)i;
    fake_source source = source_of(good, sizeof good / sizeof *good);
    assert_int_equal(bind_load_begin(&b, &memory, dev, DT_F32, &source.base, false), OK);
    network_bind(b, &n);
    if (bind_end(b) != OK)
        fail_msg("%s", err_message());

    assert_string_equal(n.in.w->name, "block.3.in.weight");
    assert_int_equal(n.in.w->mem->life, LIFE_WEIGHTS);
    assert_false(n.in.w->needs_grad);
    assert_int_equal(tensor_download(value, DT_F32, n.in.b), OK);
    assert_true(value[0] == 1 && value[1] == -2);
    assert_int_equal(tensor_download(value, DT_F32, n.out.w), OK);
    assert_true(value[0] == 10 && value[1] == 11);

    assert_int_equal(n.middle.w->dim[1], 3);
    assert_int_equal(n.middle.w->dim[3], 3);
    assert_int_equal(tensor_download(value, DT_F32, n.middle.w), OK);
    for (int o = 0; o < 2; o++)
        for (int k = 0; k < 9; k++)
            for (int i = 0; i < 3; i++)
                assert_true(value[(o * 9 + k) * 3 + i] == (float)((o * 3 + i) * 9 + k));
    assert_int_equal(bind_walk_begin(&b, &memory, bind_visit_release, NULL), OK);
    network_bind(b, &n);
    assert_int_equal(bind_end(b), OK);
    assert_null(n.in.w);
    arena_free(&memory);
}

static void trainable_ones_have_gradients(void **state)
{
    (void)state;
    arena       memory = {0};
    binder     *b;
    tensor     *t = NULL;
    fake_source source = source_of(&good[1], 1);
    bind_load_begin(&b, &memory, dev, DT_BF16, &source.base, true);
    bind_tensor(b, &t, "block.3.in.bias", WEIGHT_PLAIN, DIMS(2));
    assert_int_equal(bind_end(b), OK);
    assert_true(t->needs_grad);
    assert_int_equal(t->type, DT_F32);
    assert_int_equal(t->mem->life, LIFE_STATE);
    tensor_release(t);
    arena_free(&memory);
}

static void every_problem_is_named(void **state)
{
    (void)state;
    static const entry bad[] = {
        {"block.3.in.weight", {DT_F32, "F32", 2, {3, 2}, six}},         /* transposed */
        {"block.3.in.bias", {DTYPE_COUNT, "I64", 1, {2}, two}},         /* numbers of another kind */
        {"block.3.middle.weight", {DT_F32, "F32", 6, {2, 3, 3, 3, 1}, kernel}}, /* more dimensions than any weight */
        {"block.3.middle.bias", {DT_F32, "F32", 1, {2}, two}},
        {"out.weight", {DT_F32, "F32", 1, {2}, two}},
        {"extra", {DT_F32, "F32", 1, {1}, one}},                        /* out.bias is missing */
        {"lora.up", {DT_F32, "F32", 1, {1}, one}},
    };
    arena       memory = {0};
    network     n = {0};
    binder     *b;
    fake_source source = source_of(bad, sizeof bad / sizeof *bad);
    bind_load_begin(&b, &memory, dev, DT_F32, &source.base, false);
    network_bind(b, &n);
    assert_int_equal(bind_end(b), E_MODEL);
    static const char *const said[] = {"made/up.safetensors: ",
                                       "1 tensor missing: out.bias (2)",
                                       "2 tensors of wrong shape: block.3.in.weight: file (3,2), model (2,3)",
                                       "block.3.middle.weight: file (2,3,3,3,1,...), model (2,3,3,3)",
                                       "1 tensor of wrong type: block.3.in.bias: file I64",
                                       "1 tensor unknown: lora.up"};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        if (!strstr(err_message(), said[i]))
            fail_msg("'%s' is not in: %s", said[i], err_message());
    assert_null(n.middle.b); /* was loaded, is released */
    assert_null(n.extra);
    arena_free(&memory);
}

static void many_problems_are_counted(void **state)
{
    (void)state;
    arena       memory = {0};
    tensor     *slot[100] = {0};
    binder     *b;
    fake_source source = source_of(good, 0);
    bind_load_begin(&b, &memory, dev, DT_F32, &source.base, false);
    for (int i = 0; i < 100; i++) {
        int at = bind_enter(b, "layers.%d", i);
        bind_tensor(b, &slot[i], "weight", WEIGHT_PLAIN, DIMS(4));
        bind_leave(b, at);
    }
    assert_int_equal(bind_end(b), E_MODEL);
    assert_non_null(strstr(err_message(), "100 tensors missing"));
    assert_non_null(strstr(err_message(), "layers.19.weight (4), ..."));
    assert_null(strstr(err_message(), "layers.20.weight"));
    arena_free(&memory);
}

static void count_elements(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    (void)slot, (void)path, (void)kind;
    int64_t n = 1;
    for (int i = 0; i < ndim; i++)
        n *= dim[i];
    *(int64_t *)bind_user(b) += n;
}

static void a_walk_only_visits(void **state)
{
    (void)state;
    arena   memory = {0};
    network n = {0};
    binder *b;
    int64_t total = 0;
    bind_walk_begin(&b, &memory, count_elements, &total);
    assert_false(bind_has(b, "extra"));
    network_bind(b, &n);
    assert_int_equal(bind_end(b), OK);
    assert_int_equal(total, 6 + 2 + 54 + 2 + 2 + 2 + 1);
    assert_null(n.in.w);
    arena_free(&memory);
}

static void has_looks_below_the_path(void **state)
{
    (void)state;
    arena       memory = {0};
    binder     *b;
    tensor     *t = NULL;
    fake_source source = source_of(&good[1], 1);
    bind_load_begin(&b, &memory, dev, DT_F32, &source.base, false);
    int at = bind_enter(b, "block.3");
    assert_true(bind_has(b, "in.bias"));
    assert_false(bind_has(b, "in.weight"));
    bind_tensor(b, &t, "in.bias", WEIGHT_PLAIN, DIMS(2));
    bind_leave(b, at);
    assert_false(bind_has(b, "in.bias"));
    assert_int_equal(bind_end(b), OK);
    tensor_release(t);
    arena_free(&memory);
}

static int open_device(void **state)
{
    (void)state;
    return device_open_cpu(&dev, 1) != OK;
}

static int close_device(void **state)
{
    (void)state;
    size_t left = dev->memory->total;
    device_close(dev);
    return left != 0; /* a weight was leaked */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loads_and_converts),        cmocka_unit_test(trainable_ones_have_gradients),
        cmocka_unit_test(every_problem_is_named),    cmocka_unit_test(many_problems_are_counted),
        cmocka_unit_test(a_walk_only_visits),        cmocka_unit_test(has_looks_below_the_path),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
