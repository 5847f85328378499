#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/adapter_file.h"
#include "data/counter.h"

#define ROOT MSD_TEST_TMP "/adapter"

/* A small adapter with an odd head count: dim 96, 3 heads of 64, 5 queries, image width 40, phrase width 24, ff 384,
 * cross width 72, two layers, cross-attentions 1, 3, 11 (in this order, though 11 sorts before 3 as text). */
typedef struct sample {
    arena memory;
    stored_tensor at[64];
    size_t count;
} sample;

static void add(sample *s, const char *name, int ndim, const int64_t *dim)
{
    stored_tensor *t = &s->at[s->count++];
    int64_t *copy = ARENA_ARRAY(&s->memory, int64_t, ndim);
    memcpy(copy, dim, (size_t)ndim * sizeof *dim);
    *t = (stored_tensor){.name = arena_copy_string(&s->memory, name), .type = STORED_F32, .ndim = ndim, .dim = copy};
    assert_true(stored_size(&t->count, &t->bytes, t->type, ndim, dim));
    float *values = ARENA_ARRAY(&s->memory, float, t->count);
    counter_fill(values, name, ndim, dim);
    t->data = (const uint8_t *)values;
}

static void add_pair(sample *s, const char *prefix, int64_t out, int64_t in)
{
    char name[256];
    snprintf(name, sizeof name, "%s.weight", prefix);
    add(s, name, DIMS(out, in));
    snprintf(name, sizeof name, "%s.bias", prefix);
    add(s, name, DIMS(out));
}

static void add_norm(sample *s, const char *prefix, int64_t width)
{
    char name[256];
    snprintf(name, sizeof name, "%s.weight", prefix);
    add(s, name, DIMS(width));
    snprintf(name, sizeof name, "%s.bias", prefix);
    add(s, name, DIMS(width));
}

static void add_layer(sample *s, int n)
{
    char p[60], name[100];
    snprintf(p, sizeof p, "image_proj.layers.%d", n);
#define AT(leaf) (snprintf(name, sizeof name, "%s." leaf, p), name)
    add_norm(s, AT("0.norm1"), 96);
    add_norm(s, AT("0.norm2"), 96);
    add(s, AT("0.to_q.weight"), DIMS(192, 96));
    add(s, AT("0.to_kv.weight"), DIMS(384, 96));
    add(s, AT("0.to_out.weight"), DIMS(96, 192));
    add_norm(s, AT("1.0"), 96);
    add(s, AT("1.1.weight"), DIMS(384, 96));
    add(s, AT("1.3.weight"), DIMS(96, 384));
#undef AT
}

static void make_sample(sample *s)
{
    *s = (sample){0};
    add(s, "image_proj.grounding_latents", DIMS(1, 5, 96));
    add_pair(s, "image_proj.latent_proj.0", 176, 88);
    add_pair(s, "image_proj.latent_proj.2", 480, 176);
    add_norm(s, "image_proj.latent_norm", 96);
    add_pair(s, "image_proj.proj_in", 96, 40);
    add_norm(s, "image_proj.attention_norm", 96);
    add_pair(s, "image_proj.proj_out", 72, 96);
    add_norm(s, "image_proj.norm_out", 72);
    add_layer(s, 0);
    add_layer(s, 1);
    static const struct {
        int index;
        int64_t width;
    } pairs[] = {{1, 64}, {3, 64}, {11, 128}};
    for (int i = 0; i < 3; i++) {
        char name[256];
        snprintf(name, sizeof name, "ms_adapter.%d.to_k_ip.weight", pairs[i].index);
        add(s, name, DIMS(pairs[i].width, 72));
        snprintf(name, sizeof name, "ms_adapter.%d.to_v_ip.weight", pairs[i].index);
        add(s, name, DIMS(pairs[i].width, 72));
    }
    add(s, "dummy_image_tokens", DIMS(1, 4, 72));
}

static void write_sample(const char *path, stored_type type)
{
    sample s;
    make_sample(&s);
    assert_int_equal(adapter_file_write(path, s.at, s.count, type, NULL, 0), OK);
    arena_free(&s.memory);
}

static void expect_fails(err e, err code, const char *words)
{
    if (e != code || !strstr(err_message(), words))
        fail_msg("got %s '%s', expected '%s'", err_name(e), e ? err_message() : "", words);
}

static void expect_same_files(const char *a, const char *b)
{
    char *first, *second;
    size_t size, second_size;
    assert_int_equal(file_read(&first, &size, a, 100 << 20), OK);
    assert_int_equal(file_read(&second, &second_size, b, 100 << 20), OK);
    assert_int_equal(size, second_size);
    assert_memory_equal(first, second, size);
    free(first);
    free(second);
}

static int fresh(void **state)
{
    (void)state;
    folder_remove(ROOT);
    assert_int_equal(folder_make(ROOT), OK);
    return 0;
}

static void test_sizes_and_order(void **state)
{
    (void)state;
    static const char *const forms[] = {ROOT "/a.safetensors", ROOT "/a.bin"};
    sample s;
    make_sample(&s);
    for (int form = 0; form < 2; form++) {
        /* Written backwards; read in the reference's order. */
        stored_tensor backwards[64];
        for (size_t i = 0; i < s.count; i++)
            backwards[i] = s.at[form ? i : s.count - 1 - i];
        assert_int_equal(adapter_file_write(forms[form], backwards, s.count, STORED_TYPE_COUNT, NULL, 0), OK);
        adapter_file *a;
        if (adapter_file_open(&a, forms[form]))
            fail_msg("%s", err_message());
        const adapter_file_sizes expected = {.dim = 96, .depth = 2, .heads = 3, .queries = 5, .image_width = 40,
                                             .phrase_width = 24, .ff_width = 384, .cross_width = 72, .pairs = 3,
                                             .dummy_tokens = 4};
        assert_memory_equal(&a->sizes, &expected, sizeof expected);
        assert_int_equal(a->tensors.count, s.count);
        for (size_t i = 0; i < s.count; i++) {
            assert_string_equal(a->tensors.at[i].name, s.at[i].name);
            assert_int_equal(a->tensors.at[i].bytes, s.at[i].bytes);
            assert_memory_equal(a->tensors.at[i].data, s.at[i].data, s.at[i].bytes);
            assert_string_equal(a->weights->source.name(&a->weights->source, i), s.at[i].name);
        }
        adapter_file_close(a);
    }
    arena_free(&s.memory);
}

/* .safetensors -> .bin -> .safetensors -> .bin, in every type. */
static void test_round_trip(void **state)
{
    (void)state;
    static const stored_type types[] = {STORED_F32, STORED_F16, STORED_BF16};
    for (int i = 0; i < 3; i++) {
        write_sample(ROOT "/0.safetensors", types[i]);
        assert_int_equal(adapter_export(ROOT "/1.bin", ROOT "/0.safetensors", STORED_TYPE_COUNT), OK);
        assert_int_equal(adapter_export(ROOT "/2.safetensors", ROOT "/1.bin", STORED_TYPE_COUNT), OK);
        assert_int_equal(adapter_export(ROOT "/3.safetensors", ROOT "/0.safetensors", types[i]), OK);
        assert_int_equal(adapter_export(ROOT "/4.bin", ROOT "/2.safetensors", types[i]), OK);
        expect_same_files(ROOT "/2.safetensors", ROOT "/3.safetensors");
        expect_same_files(ROOT "/1.bin", ROOT "/4.bin");
        adapter_file *first, *last;
        assert_int_equal(adapter_file_open(&first, ROOT "/0.safetensors"), OK);
        assert_int_equal(adapter_file_open(&last, ROOT "/4.bin"), OK);
        for (size_t k = 0; k < first->tensors.count; k++) {
            assert_int_equal(first->tensors.at[k].type, types[i]);
            assert_int_equal(last->tensors.at[k].type, types[i]);
            assert_memory_equal(first->tensors.at[k].data, last->tensors.at[k].data, first->tensors.at[k].bytes);
        }
        adapter_file_close(first);
        adapter_file_close(last);
    }
}

/* Widening and narrowing again gives the same bits; f16 to bf16 goes by f32. */
static void test_types(void **state)
{
    (void)state;
    write_sample(ROOT "/h.safetensors", STORED_F16);
    assert_int_equal(adapter_export(ROOT "/f.bin", ROOT "/h.safetensors", STORED_F32), OK);
    assert_int_equal(adapter_export(ROOT "/h.bin", ROOT "/f.bin", STORED_F16), OK);
    assert_int_equal(adapter_export(ROOT "/h2.bin", ROOT "/h.safetensors", STORED_TYPE_COUNT), OK);
    expect_same_files(ROOT "/h.bin", ROOT "/h2.bin");
    sample s;
    make_sample(&s);
    float *values = (float *)(uintptr_t)s.at[2].data;
    values[3] = -70000;
    expect_fails(adapter_file_write(ROOT "/x.safetensors", s.at, s.count, STORED_F16, NULL, 0), E_NUMERIC,
                 "image_proj.latent_proj.0.bias: element 3 is -70000, which does not fit f16");
    assert_false(file_exists(ROOT "/x.safetensors"));
    assert_int_equal(adapter_file_write(ROOT "/x.safetensors", s.at, s.count, STORED_BF16, NULL, 0), OK);
    expect_fails(adapter_file_write(ROOT "/x.pt", s.at, s.count, STORED_BF16, NULL, 0), E_USAGE, "expected .safetensors or .bin");
    arena_free(&s.memory);
}

static void test_metadata(void **state)
{
    (void)state;
    arena memory = {0};
    const text_pair *pairs;
    sample s;
    make_sample(&s);
    adapter_file_sizes sizes = {.dim = 1, .depth = 2};
    size_t count = adapter_file_metadata(&pairs, &memory, &sizes, "abc", "120000");
    for (size_t i = 1; i < count; i++)
        assert_true(strcmp(pairs[i - 1].key, pairs[i].key) < 0);
    assert_int_equal(adapter_file_write(ROOT "/m.safetensors", s.at, s.count, STORED_F32, pairs, count), OK);
    assert_int_equal(adapter_export(ROOT "/n.safetensors", ROOT "/m.safetensors", STORED_BF16), OK);
    adapter_file *a;
    assert_int_equal(adapter_file_open(&a, ROOT "/n.safetensors"), OK);
    assert_string_equal(tensor_file_metadata(&a->file, "base"), "abc");
    assert_string_equal(tensor_file_metadata(&a->file, "step"), "120000");
    assert_string_equal(tensor_file_metadata(&a->file, "heads"), "3"); /* from the tensors, not from the source */
    assert_string_equal(tensor_file_metadata(&a->file, "format"), "ms_adapter");
    assert_int_equal(a->file.metadata_count, count);
    adapter_file_close(a);
    arena_free(&s.memory);
    arena_free(&memory);
}

static void test_sources_of_export(void **state)
{
    (void)state;
    assert_int_equal(folder_make(ROOT "/run/step-000002"), OK);
    assert_int_equal(folder_make(ROOT "/run/step-000010"), OK);
    assert_int_equal(folder_make(ROOT "/run/step-x"), OK);
    write_sample(ROOT "/run/step-000002/adapter.safetensors", STORED_F32);
    write_sample(ROOT "/run/step-000010/adapter.safetensors", STORED_F16);
    write_sample(ROOT "/run/adapter.safetensors", STORED_BF16);
    char *path;
    assert_int_equal(adapter_find(&path, ROOT "/run"), OK);
    assert_string_equal(path, ROOT "/run/step-000010/adapter.safetensors");
    free(path);
    assert_int_equal(adapter_find(&path, ROOT "/run/step-000002"), OK);
    assert_string_equal(path, ROOT "/run/step-000002/adapter.safetensors");
    free(path);
    expect_fails(adapter_export(ROOT "/y.bin", ROOT, STORED_TYPE_COUNT), E_CHECKPOINT, "found no adapter.safetensors");
    expect_fails(adapter_export(ROOT "/y.bin", ROOT "/absent.bin", STORED_TYPE_COUNT), E_MODEL, "absent.bin");
    /* a .bin under the other ending is still a .bin */
    assert_int_equal(adapter_export(ROOT "/z.bin", ROOT "/run", STORED_TYPE_COUNT), OK);
    assert_int_equal(rename(ROOT "/z.bin", ROOT "/z.safetensors"), 0);
    adapter_file *a;
    assert_int_equal(adapter_file_open(&a, ROOT "/z.safetensors"), OK);
    assert_int_equal(a->tensors.at[0].type, STORED_F16);
    adapter_file_close(a);
}

/* Everything that does not fit, in one message. */
static void test_misfits(void **state)
{
    (void)state;
    static const int64_t turned[] = {96, 192};
    sample s;
    adapter_file *a;
    make_sample(&s);
    for (size_t i = 0; i < s.count; i++) {
        if (strcmp(s.at[i].name, "image_proj.layers.1.0.to_q.weight") == 0)
            s.at[i].dim = turned;
        if (strcmp(s.at[i].name, "ms_adapter.3.to_v_ip.weight") == 0)
            s.at[i].name = "ms_adapter.03.to_v_ip.weight";
        if (strcmp(s.at[i].name, "image_proj.norm_out.bias") == 0)
            s.at[i].name = "image_proj.norm_out.extra";
    }
    assert_int_equal(adapter_file_write(ROOT "/b.bin", s.at, s.count, STORED_F32, NULL, 0), OK);
    err e = adapter_file_open(&a, ROOT "/b.bin");
    expect_fails(e, E_MODEL, "b.bin: image_proj.norm_out.bias is missing; ");
    expect_fails(e, E_MODEL, "image_proj.layers.1.0.to_q.weight: found (96,192), expected (192,96)");
    expect_fails(e, E_MODEL, "ms_adapter.3.to_v_ip.weight is missing");
    expect_fails(e, E_MODEL, "image_proj.norm_out.extra is not known");
    expect_fails(e, E_MODEL, "ms_adapter.03.to_v_ip.weight is not known");
    assert_int_equal(adapter_file_write(ROOT "/b.bin", s.at + 1, 3, STORED_F32, NULL, 0), OK);
    expect_fails(adapter_file_open(&a, ROOT "/b.bin"), E_MODEL, "found tensors of no model known here, expected an MS-Diffusion");
    arena_free(&s.memory);
}

/* Leaves check_adapter.* for tests/reference/check_adapter_bin.py, which asks PyTorch. */
static void test_leaves_files_for_python(void **state)
{
    (void)state;
    write_sample(MSD_TEST_TMP "/check_adapter.bin", STORED_BF16);
    assert_int_equal(adapter_export(MSD_TEST_TMP "/check_adapter.safetensors", MSD_TEST_TMP "/check_adapter.bin",
                                    STORED_TYPE_COUNT), OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_sizes_and_order, fresh), cmocka_unit_test_setup(test_round_trip, fresh),
        cmocka_unit_test_setup(test_types, fresh),           cmocka_unit_test_setup(test_metadata, fresh),
        cmocka_unit_test_setup(test_sources_of_export, fresh), cmocka_unit_test_setup(test_misfits, fresh),
        cmocka_unit_test(test_leaves_files_for_python),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
