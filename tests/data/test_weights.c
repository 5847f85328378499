#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/hf_folder.h"
#include "data/weights.h"

#define ROOT MSD_TEST_TMP "/weights"

static void put_file(const char *path, const char *text)
{
    file_writer *w;
    assert_int_equal(file_create(&w, path), OK);
    assert_int_equal(file_write(w, text, strlen(text)), OK);
    assert_int_equal(file_publish(w), OK);
}

/* One scalar per name. */
static void put_safetensors(const char *path, float value, const char *first, const char *second)
{
    safetensors_writer *w;
    assert_int_equal(safetensors_create(&w, path), OK);
    safetensors_declare(w, first, STORED_F32, DIMS(1));
    if (second)
        safetensors_declare(w, second, STORED_F64, DIMS(1, 1, 1, 1, 1, 1));
    assert_int_equal(safetensors_write(w, &value, sizeof value), OK);
    if (second)
        assert_int_equal(safetensors_write(w, &(double){2}, sizeof(double)), OK);
    assert_int_equal(safetensors_publish(w), OK);
}

static void put_bin(const char *path, float value)
{
    torch_bin_writer *w;
    assert_int_equal(torch_bin_create(&w, path), OK);
    torch_bin_declare(w, NULL, "a", STORED_F32, DIMS(1));
    assert_int_equal(torch_bin_write_f32(w, &value), OK);
    assert_int_equal(torch_bin_publish(w), OK);
}

static void fresh(const char *folder)
{
    folder_remove(ROOT);
    assert_int_equal(folder_make(folder), OK);
}

static void expect_found(const char *folder, const char *component, const char *label, float value)
{
    weights *w;
    if (weights_open_component(&w, folder, component) != OK)
        fail_msg("%s", err_message());
    weight_view v;
    assert_true(w->source.find(&w->source, &v, "a"));
    float found;
    memcpy(&found, v.data, sizeof found);
    assert_true(found == value);
    assert_string_equal(w->source.label, label);
    weights_close(w);
}

static void expect_fails(err e, err code, const char *words)
{
    if (e != code || !strstr(err_message(), words))
        fail_msg("got %s '%s', expected '%s'", err_name(e), e ? err_message() : "", words);
}

/* Each file that comes earlier in the order hides the later ones. */
static void test_order(void **state)
{
    (void)state;
    fresh(ROOT "/unet");
    put_bin(ROOT "/unet/diffusion_pytorch_model.fp16.bin", 1);
    expect_found(ROOT, "unet", "unet/diffusion_pytorch_model.fp16.bin", 1);
    put_bin(ROOT "/unet/diffusion_pytorch_model.bin", 2);
    expect_found(ROOT, "unet", "unet/diffusion_pytorch_model.bin", 2);
    put_safetensors(ROOT "/unet/diffusion_pytorch_model.fp16.safetensors", 3, "a", NULL);
    expect_found(ROOT, "unet", "unet/diffusion_pytorch_model.fp16.safetensors", 3);
    put_safetensors(ROOT "/unet/shard.safetensors", 4, "a", NULL);
    put_file(ROOT "/unet/diffusion_pytorch_model.safetensors.index.json", "{\"weight_map\":{\"a\":\"shard.safetensors\"}}");
    expect_found(ROOT, "unet", "unet/diffusion_pytorch_model.safetensors.index.json", 4);
    put_safetensors(ROOT "/unet/diffusion_pytorch_model.safetensors", 5, "a", NULL);
    expect_found(ROOT, "unet", "unet/diffusion_pytorch_model.safetensors", 5);
    expect_found(ROOT "/unet", NULL, ROOT "/unet/diffusion_pytorch_model.safetensors", 5);
    assert_int_equal(folder_make(ROOT "/text_encoder"), OK);
    put_safetensors(ROOT "/text_encoder/model.fp16.safetensors", 6, "a", NULL);
    expect_found(ROOT, "text_encoder", "text_encoder/model.fp16.safetensors", 6);
}

static void test_nothing_there(void **state)
{
    (void)state;
    weights *w;
    fresh(ROOT "/unet");
    expect_fails(weights_open_component(&w, ROOT, "unet"), E_MODEL,
                 "unet: no weights found; looked for diffusion_pytorch_model.safetensors, model.safetensors, ");
    expect_fails(weights_open_component(&w, ROOT, "vae"), E_MODEL, "vae: there is no such folder");
    expect_fails(weights_open(&w, ROOT "/absent.safetensors"), E_MODEL, "absent.safetensors");
    put_file(ROOT "/unet/model.safetensors", "version https://git-lfs.github.com/spec/v1\n");
    expect_fails(weights_open_component(&w, ROOT, "unet"), E_MODEL, "a git-LFS pointer");
    /* by content, never by name */
    put_bin(ROOT "/unet/model.safetensors", 9);
    expect_found(ROOT, "unet", "unet/model.safetensors", 9);
}

static void test_views(void **state)
{
    (void)state;
    weights *w;
    weight_view v;
    fresh(ROOT);
    put_safetensors(ROOT "/x.safetensors", 1, "a", "b.c");
    assert_int_equal(weights_open(&w, ROOT "/x.safetensors"), OK);
    assert_int_equal(w->source.count, 2);
    assert_string_equal(w->source.name(&w->source, 1), "b.c");
    assert_true(w->source.find(&w->source, &v, "b.c"));
    assert_true(v.type == DTYPE_COUNT && v.ndim == 6 && v.dim[4] == 1);
    assert_string_equal(v.type_name, "F64");
    assert_true(w->source.find(&w->source, &v, "a"));
    assert_true(v.type == DT_F32 && v.ndim == 1 && v.dim[0] == 1);
    assert_false(w->source.find(&w->source, &v, "b"));
    weights_close(w);
}

static void index_case(const char *index, const char *words)
{
    weights *w;
    put_file(ROOT "/i.safetensors.index.json", index);
    err e = weights_open(&w, ROOT "/i.safetensors.index.json");
    if (words) {
        expect_fails(e, E_MODEL, words);
        return;
    }
    if (e)
        fail_msg("%s", err_message());
    assert_int_equal(w->source.count, 3);
    weights_close(w);
}

static void test_shards(void **state)
{
    (void)state;
    fresh(ROOT);
    put_safetensors(ROOT "/1.safetensors", 1, "a", "b");
    put_safetensors(ROOT "/2.safetensors", 2, "c", NULL);
    put_safetensors(ROOT "/3.safetensors", 2, "a", NULL);
    index_case("{\"metadata\":{\"total_size\":8},\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\",\"c\":\"2.safetensors\"}}", NULL);
    index_case("{\"weight_map\":{\"a\":\"1.safetensors\",\"c\":\"4.safetensors\",\"d\":\"5.safetensors\"}}",
               "2 of 3 shards are missing: 4.safetensors, 5.safetensors");
    index_case("{\"weight_map\":{\"a\":\"1.safetensors\",\"x\":\"2.safetensors\",\"y\":\"2.safetensors\"}}",
               "2 tensors are not in the shards it names: x, y");
    index_case("{\"weight_map\":{\"a\":\"1.safetensors\",\"c\":\"1.safetensors\"}}", "not in the shards it names: c");
    index_case("{\"weight_map\":{\"b\":\"1.safetensors\",\"a\":\"3.safetensors\"}}", "tensor 'a' is in two shards");
    index_case("{\"weight_map\":{\"a\":\"1.safetensors\",\"a\":\"3.safetensors\"}}", "duplicate");
    index_case("{\"weight_map\":{\"a\":\"../1.safetensors\"}}", "weight_map: a: found \"../1.safetensors\"");
    index_case("{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "expected the plain name");
    index_case("{\"weight_map\":{\"a\":\"..\"}}", "expected the plain name");
    index_case("{\"weight_map\":{\"a\":\"x\\\\y\"}}", "expected the plain name");
    index_case("{\"weight_map\":{\"a\":\"C:x\"}}", "expected the plain name");
    index_case("{\"weight_map\":{\"a\":\"\"}}", "expected the plain name");
    index_case("{\"weight_map\":{\"a\":1}}", "expected the plain name");
    index_case("{\"weight_map\":{}}", "names 0 files");
    index_case("{}", "weight_map: missing");
    index_case("{\"weight_map\":", "i.safetensors.index.json");
    /* A folder under a shard's name is no shard; a symlink to a regular file, as in a hub's snapshot, is. */
    assert_int_equal(folder_make(ROOT "/6.safetensors"), OK);
    index_case("{\"weight_map\":{\"a\":\"6.safetensors\"}}", "1 of 1 shards are missing: 6.safetensors");
    assert_int_equal(symlink("1.safetensors", ROOT "/7.safetensors"), 0);
    index_case("{\"weight_map\":{\"a\":\"7.safetensors\",\"b\":\"7.safetensors\",\"c\":\"2.safetensors\"}}", NULL);
}

static void test_hf_folder(void **state)
{
    (void)state;
    json_t *config;
    fresh(ROOT "/unet");
    put_file(ROOT "/unet/config.json", "{\"a\":1,\"a\":2}");
    assert_int_equal(hf_config(&config, ROOT, "unet"), OK);
    assert_int_equal(json_integer_value(json_object_get(config, "a")), 2); /* a duplicate: the last counts */
    json_decref(config);
    assert_int_equal(hf_config(&config, ROOT "/unet", NULL), OK);
    json_decref(config);
    expect_fails(hf_config(&config, ROOT, "vae"), E_MODEL, "the subfolder vae/ is missing");
    expect_fails(hf_config(&config, ROOT "/unet", "vae"), E_MODEL, "found one model alone");
    expect_fails(hf_config(&config, ROOT "/nowhere", "vae"), E_MODEL, "there is no such folder");
    expect_fails(hf_json(&config, ROOT, "unet", "x.json", false), E_MODEL, "unet/x.json: missing");
    assert_int_equal(hf_json(&config, ROOT, "unet", "x.json", true), OK);
    assert_null(config);
    put_file(ROOT "/model_index.json", "[]");
    expect_fails(hf_config(&config, ROOT, NULL), E_MODEL, "found a whole pipeline");
    expect_fails(hf_json(&config, ROOT, NULL, "model_index.json", true), E_MODEL, "found no JSON object");
    expect_fails(hf_check_components(ROOT, (const char *const[]){"unet", "vae", "text_encoder", NULL}), E_MODEL,
                 "missing vae/, text_encoder/");
    assert_int_equal(hf_check_components(ROOT, (const char *const[]){"unet", NULL}), OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),  cmocka_unit_test(test_nothing_there), cmocka_unit_test(test_views),
        cmocka_unit_test(test_shards), cmocka_unit_test(test_hf_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
