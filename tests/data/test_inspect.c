#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "data/inspect.h"

#define ROOT MSD_TEST_TMP "/inspect"

static int fresh(void **state)
{
    (void)state;
    folder_remove(ROOT);
    assert_int_equal(folder_make(ROOT "/unet"), OK);
    return 0;
}

static void put_text(const char *path, const char *text)
{
    file_writer *w;
    assert_int_equal(file_create(&w, path), OK);
    assert_int_equal(file_write(w, text, strlen(text)), OK);
    assert_int_equal(file_publish(w), OK);
}

/* ---- kinds, by names and shapes ---- */

typedef struct kind_case {
    const char *kind;
    struct {
        const char *name;
        int64_t dim[2];
    } at[4]; /* ended by a NULL name */
} kind_case;

static const kind_case kinds[] = {
    {"ms_adapter", {{"image_proj.grounding_latents", {1, 1}}, {"ms_adapter.1.to_k_ip.weight", {1, 1}}}},
    {"ip_adapter", {{"image_proj.latents", {1, 1}}, {"ip_adapter.1.to_k_ip.weight", {1, 1}}}},
    {"optimizer", {{"m.image_proj.proj_in.weight", {1, 1}}, {"v.image_proj.proj_in.weight", {1, 1}}}},
    {"lora", {{"unet.down_blocks.0.lora_A.weight", {1, 1}}}},
    {"lora", {{"lora_unet_down.lora_down.weight", {1, 1}}}},
    {"single_file_sdxl", {{"model.diffusion_model.out.2.weight", {1, 1}}, {"conditioner.embedders.1.model.ln_final.bias", {1, 1}}}},
    {"single_file_sdxl_refiner", {{"model.diffusion_model.out.2.weight", {1, 1}}, {"conditioner.embedders.0.model.x", {1, 1}}}},
    {"single_file_sd1", {{"model.diffusion_model.out.2.weight", {1, 1}}, {"cond_stage_model.transformer.x", {1, 1}}}},
    {"single_file_sd2", {{"model.diffusion_model.out.2.weight", {1, 1}}, {"cond_stage_model.model.x", {1, 1}}}},
    {"unet_sdxl", {{"conv_in.weight", {320, 4}}, {"down_blocks.0.x", {1, 1}}, {"add_embedding.linear_1.weight", {1280, 2816}}}},
    {"unet_sdxl_inpainting", {{"conv_in.weight", {320, 9}}, {"down_blocks.0.x", {1, 1}}, {"add_embedding.linear_1.weight", {1280, 2816}}}},
    {"unet_sdxl_refiner", {{"conv_in.weight", {384, 4}}, {"down_blocks.0.x", {1, 1}}, {"add_embedding.linear_1.weight", {1536, 2560}}}},
    {"unet_sd1", {{"conv_in.weight", {320, 4}}, {"down_blocks.0.attn2.to_k.weight", {320, 768}}}},
    {"unet_sd2", {{"conv_in.weight", {320, 4}}, {"down_blocks.0.attn2.to_k.weight", {320, 1024}}}},
    {"controlnet", {{"conv_in.weight", {320, 4}}, {"down_blocks.0.x", {1, 1}}, {"controlnet_cond_embedding.conv_in.weight", {16, 3}}}},
    {"vae", {{"decoder.conv_in.weight", {512, 4}}}},
    {"text_clip_l", {{"text_model.embeddings.token_embedding.weight", {2, 768}}}},
    {"text_clip_l", {{"embeddings.token_embedding.weight", {2, 768}}}},
    {"text_bigg", {{"text_model.embeddings.token_embedding.weight", {2, 1280}}, {"text_projection.weight", {1280, 1280}}}},
    {"text_clip", {{"text_model.embeddings.token_embedding.weight", {2, 32}}}},
    {"vision_bigg", {{"vision_model.embeddings.patch_embedding.weight", {1664, 3}}}},
    {"vision_vit_h", {{"vision_model.embeddings.patch_embedding.weight", {1280, 3}}}},
    {"vision_vit_l", {{"vision_model.embeddings.patch_embedding.weight", {1024, 3}}}},
    {"vision_clip", {{"vision_model.embeddings.patch_embedding.weight", {40, 3}}}},
    {"tensors", {{"x", {1, 1}}}},
};

static void test_kinds(void **state)
{
    (void)state;
    bool seen[MODEL_KIND_COUNT] = {false};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        tensor_table t = {0};
        for (int k = 0; kinds[i].at[k].name; k++)
            *tensor_table_add(&t) = (stored_tensor){.name = kinds[i].at[k].name, .ndim = 2, .dim = kinds[i].at[k].dim};
        assert_null(tensor_table_seal(&t));
        assert_string_equal(model_kind_name(model_kind_of(&t)), kinds[i].kind);
        seen[model_kind_of(&t)] = true;
        tensor_table_free(&t);
    }
    for (int k = 0; k < MODEL_KIND_COUNT; k++)
        assert_true(seen[k]);
}

/* ---- files and folders ---- */

static void put_weights(const char *path, const char *name)
{
    safetensors_writer *w;
    assert_int_equal(safetensors_create(&w, path), OK);
    safetensors_note(w, "k", "v");
    safetensors_declare(w, name, STORED_F32, DIMS(2, 3));
    safetensors_declare(w, "b\x1b", STORED_F16, DIMS(4));
    assert_int_equal(safetensors_write(w, (const char[32]){0}, 32), OK);
    assert_int_equal(safetensors_publish(w), OK);
}

static char *printed(const inspection *i, bool json)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    assert_non_null(to);
    if (json)
        inspect_print_json(to, i);
    else
        inspect_print(to, i);
    fclose(to);
    return text;
}

static void expect_words(const inspection *i, const char *words)
{
    char *text = printed(i, false);
    if (!strstr(text, words))
        fail_msg("'%s' is not in:\n%s", words, text);
    free(text);
}

static void test_file(void **state)
{
    (void)state;
    inspection *i;
    put_weights(ROOT "/x.safetensors", "decoder.conv_in.weight");
    assert_int_equal(inspect(&i, ROOT "/x.safetensors"), OK);
    assert_int_equal(i->parts, 1);
    assert_int_equal(i->part[0].parameters, 10);
    assert_int_equal(i->part[0].bytes, 32);
    expect_words(i, "x.safetensors: a VAE (safetensors)\n  10 parameters in 2 tensors, 32 bytes, 1 F32, 1 F16\n  k: v\n");
    expect_words(i, "  F32      (2,3)                  decoder.conv_in.weight = 0, 0, 0, 0, 0, 0\n");
    expect_words(i, "b\\x1B = 0, 0, 0, 0\n"); /* no escape sequence reaches the terminal */
    char *text = printed(i, true);
    json_t *whole = json_loads(text, 0, NULL);
    const json_t *part = json_array_get(json_object_get(whole, "parts"), 0);
    assert_string_equal(json_string_value(json_object_get(part, "kind")), "vae");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(part, "dtypes"), "F16")), 1);
    assert_string_equal(json_string_value(json_object_get(json_object_get(part, "metadata"), "k")), "v");
    const json_t *first = json_array_get(json_object_get(part, "tensors"), 0);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(first, "shape"), 1)), 3);
    json_decref(whole);
    free(text);
    inspect_free(i);
    assert_int_equal(inspect(&i, ROOT "/absent"), E_MODEL);
}

static void test_torch_file(void **state)
{
    (void)state;
    inspection *i;
    assert_int_equal(inspect(&i, MSD_GOLDENS "/torch_bin/nested.bin"), OK);
    expect_words(i, "nested.bin: an MS-Diffusion adapter (torch .bin)\n  34 parameters in 7 tensors, 112 bytes, 5 F32, 1 F16, 1 BF16");
    expect_words(i, "  not whole: image_proj.grounding_latents is missing; ");
    inspect_free(i);
}

static void test_folder(void **state)
{
    (void)state;
    inspection *i;
    assert_int_equal(inspect(&i, ROOT), E_MODEL);
    assert_non_null(strstr(err_message(), "no weights found"));
    put_weights(ROOT "/unet/diffusion_pytorch_model.fp16.safetensors", "x");
    put_text(ROOT "/unet/config.json", "{\"_class_name\":\"UNet2DConditionModel\"}");
    assert_int_equal(folder_make(ROOT "/vae"), OK);
    put_text(ROOT "/vae/diffusion_pytorch_model.safetensors", "version https://git-lfs.github.com/spec/v1");
    assert_int_equal(folder_make(ROOT "/image_encoder"), OK);
    put_weights(ROOT "/image_encoder/model.safetensors", "x");
    put_text(ROOT "/image_encoder/config.json", "{\"architectures\":[\"CLIPVisionModelWithProjection\"]}");
    put_weights(ROOT "/optimizer.safetensors", "m.image_proj.x");
    assert_int_equal(inspect(&i, ROOT), OK);
    assert_int_equal(i->parts, 4);
    expect_words(i, "image_encoder/model.safetensors: tensors of no model known here (safetensors, CLIPVisionModelWithProjection)\n");
    expect_words(i, "unet/diffusion_pytorch_model.fp16.safetensors: tensors of no model known here (safetensors, UNet2DConditionModel)\n");
    expect_words(i, "vae: cannot be read: ");
    expect_words(i, "optimizer.safetensors: ");
    char *text = printed(i, true);
    json_t *whole = json_loads(text, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(whole, "parts")), 4);
    assert_non_null(json_object_get(json_array_get(json_object_get(whole, "parts"), 3), "problem"));
    json_decref(whole);
    free(text);
    inspect_free(i);
    assert_int_equal(inspect(&i, ROOT "/unet"), OK);
    assert_int_equal(i->parts, 1);
    assert_string_equal(i->part[0].class_name, "UNet2DConditionModel");
    inspect_free(i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_kinds, fresh),
        cmocka_unit_test_setup(test_file, fresh),
        cmocka_unit_test_setup(test_torch_file, fresh),
        cmocka_unit_test_setup(test_folder, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
