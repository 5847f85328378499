/* SDXL's config: sizes counted by the walk that loads them; and every key outside what is computed is named. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "model/unet.h"

static json_t *sdxl(void)
{
    json_t *config = NULL;
    if (json_file_parse(&config, MSD_GOLDENS "/unet_sdxl.json", 1 << 20, JSON_KEEP_LAST) != OK)
        fail_msg("%s", err_message());
    return config;
}

static json_t *sdxl_with(const char *changes)
{
    json_t *config = sdxl(), *change = json_loads(changes, 0, NULL);
    assert_non_null(change);
    json_object_update(config, change);
    json_decref(change);
    return config;
}

static void count_elements(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    (void)slot, (void)path, (void)kind;
    int64_t n = 1;
    for (int i = 0; i < ndim; i++)
        n *= dim[i];
    *(int64_t *)bind_user(b) += n;
}

static int64_t count_unet(const char *changes)
{
    arena       memory = {0};
    unet        u = {0};
    unet_config c;
    binder     *b;
    int64_t     total = 0;
    json_t     *config = sdxl_with(changes);
    if (unet_config_parse(&c, config, "config.json") != OK)
        fail_msg("%s", err_message());
    bind_walk_begin(&b, &memory, count_elements, &total);
    unet_bind(b, &u, &memory, &c);
    assert_int_equal(bind_end(b), OK);
    json_decref(config);
    arena_free(&memory);
    return total;
}

static void parameters_are_counted(void **state)
{
    (void)state;
    assert_int_equal(count_unet("{}"), 2567463684);
    assert_int_equal(count_unet("{\"block_out_channels\": [160, 320, 640], \"attention_head_dim\": [5, 5, 10]}"),
                     728365444);
}

static void the_adapter_is_counted(void **state)
{
    (void)state;
    arena           memory = {0};
    unet_config     c;
    ms_adapter      a = {0};
    binder         *b;
    int64_t         total = 0;
    const int64_t  *channels;
    json_t         *config = sdxl();
    resampler_sizes sizes = {.dim = 1280,
                             .depth = 4,
                             .heads = 20,
                             .queries = 16,
                             .image_width = 1664,
                             .phrase_width = 768,
                             .hidden_width = 5120,
                             .out_width = 2048};
    assert_int_equal(unet_config_parse(&c, config, "config.json"), OK);
    int64_t pairs = adapter_channels(&channels, &memory, &c);
    assert_int_equal(pairs, 70);
    assert_int_equal(channels[0], 640);   /* down_blocks.1 */
    assert_int_equal(channels[69], 1280); /* mid_block comes last */
    bind_walk_begin(&b, &memory, count_elements, &total);
    adapter_bind(b, &a, &memory, &sizes, channels, pairs);
    assert_int_equal(bind_end(b), OK);
    assert_int_equal(total, 459739008);
    json_decref(config);
    arena_free(&memory);
}

static void sdxl_is_read(void **state)
{
    (void)state;
    unet_config c;
    json_t     *config = sdxl();
    assert_int_equal(unet_config_parse(&c, config, "config.json"), OK);
    assert_int_equal(c.levels, 3);
    assert_int_equal(c.pooled_width, 1280);
    assert_int_equal(c.time_channels, 1280);
    assert_int_equal(c.sample_height, 128);
    assert_false(c.down[0].attention);
    assert_true(c.up[0].attention);
    assert_false(c.up[2].attention);
    assert_int_equal(c.up[0].layers, 3);
    assert_int_equal(c.up[0].depth[2], 10);
    assert_int_equal(c.mid_depth, 10);
    assert_int_equal(c.down[1].heads, 10);
    json_decref(config);
}

static void lists_and_nested_lists_are_read(void **state)
{
    (void)state;
    unet_config c;
    json_t *config =
        sdxl_with("{\"layers_per_block\": [1, 2, 3], \"transformer_layers_per_block\": [1, [2, 1], [1, 2, 3]],"
                  " \"reverse_transformer_layers_per_block\": [[4, 3, 2, 1], 5, [1, 1]],"
                  " \"sample_size\": [32, 48], \"attention_head_dim\": 8, \"cross_attention_dim\": [64, 64, 64]}");
    if (unet_config_parse(&c, config, "config.json") != OK)
        fail_msg("%s", err_message());
    assert_int_equal(c.down[2].layers, 3);
    assert_int_equal(c.up[0].layers, 4);
    assert_int_equal(c.down[1].depth[0], 2);
    assert_int_equal(c.down[1].depth[1], 1);
    assert_int_equal(c.up[0].depth[0], 4);
    assert_int_equal(c.up[0].depth[3], 1);
    assert_int_equal(c.up[1].depth[2], 5);
    assert_int_equal(c.mid_depth, 1);
    assert_int_equal(c.sample_width, 48);
    assert_int_equal(c.down[0].heads, 8);
    assert_int_equal(c.text_width, 64);
    json_decref(config);
}

static void expect_refusal(const char *changes, const char *const *said, int count)
{
    unet_config c;
    json_t     *config = sdxl_with(changes);
    assert_int_equal(unet_config_parse(&c, config, "unet/config.json"), E_MODEL);
    for (int i = 0; i < count; i++)
        if (!strstr(err_message(), said[i]))
            fail_msg("'%s' is not in: %s", said[i], err_message());
    json_decref(config);
}
#define REFUSES(changes, ...)                                     \
    do {                                                          \
        static const char *const said_[] = {__VA_ARGS__};         \
        expect_refusal(changes, said_, sizeof said_ / sizeof *said_); \
    } while (0)

static void other_models_are_named(void **state)
{
    (void)state;
    REFUSES("{\"in_channels\": 9}", "unet/config.json: in_channels: found 9", "inpainting");
    REFUSES("{\"addition_embed_type\": null, \"cross_attention_dim\": 768}", "addition_embed_type",
            "Stable Diffusion 1.x");
    REFUSES("{\"addition_embed_type\": null, \"cross_attention_dim\": 1024}", "Stable Diffusion 2.x");
    REFUSES("{\"cross_attention_dim\": 1280, \"projection_class_embeddings_input_dim\": 2560}", "refiner");
}

static void every_unsupported_key_is_named(void **state)
{
    (void)state;
    REFUSES(
        "{\"act_fn\": \"gelu\", \"time_embedding_type\": \"fourier\", \"only_cross_attention\": true, \"freq_shift\": "
        "1,"
        " \"down_block_types\": [\"DownBlock2D\", \"AttnDownBlock2D\", \"CrossAttnDownBlock2D\"], \"dropout\": 0.1}",
        "act_fn: found \"gelu\", supported: \"silu\"", "time_embedding_type: found \"fourier\"", "only_cross_attention",
        "freq_shift: found 1", "down_block_types: found \"AttnDownBlock2D\"", "dropout: found 0.1");
    REFUSES("{\"block_out_channels\": [320, 650, 1280], \"attention_head_dim\": [5, 7, 20]}",
            "norm_num_groups: 32 does not divide the 650", "attention_head_dim: 7");
    REFUSES("{\"num_attention_heads\": 8}", "num_attention_heads: found 8");
    REFUSES("{\"layers_per_block\": [2, 2]}", "layers_per_block: found [2,2], expected 3 whole numbers");
    REFUSES("{\"layers_per_block\": 1000000}", "layers_per_block");
    REFUSES("{\"transformer_layers_per_block\": [1, [2, 2], 1]}", "reverse_transformer_layers_per_block");
    REFUSES("{\"transformer_layers_per_block\": [1, 0, 1]}", "transformer_layers_per_block");
    REFUSES("{\"transformer_layers_per_block\": [1, 1]}", "transformer_layers_per_block");
    REFUSES("{\"up_block_types\": [\"UpBlock2D\"]}", "up_block_types: found 1 blocks");
    REFUSES("{\"addition_time_embed_dim\": null}", "addition_time_embed_dim: missing");
    REFUSES("{\"projection_class_embeddings_input_dim\": 1536}", "projection_class_embeddings_input_dim");
    REFUSES("{\"mid_block_type\": null}", "mid_block_type: found null");
    REFUSES("{\"conv_in_kernel\": 4}", "conv_in_kernel");
    REFUSES("{\"cross_attention_dim\": [64, 32, 64]}", "cross_attention_dim: blocks differ");
    REFUSES("{\"norm_num_groups\": \"32\"}", "norm_num_groups: found \"32\"");
    REFUSES("{\"block_out_channels\": 320, \"sample_size\": -1}", "sample_size");
    REFUSES("{\"flux_capacitor\": true}", "flux_capacitor: unknown key");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_are_counted),  cmocka_unit_test(the_adapter_is_counted),
        cmocka_unit_test(sdxl_is_read),            cmocka_unit_test(lists_and_nested_lists_are_read),
        cmocka_unit_test(other_models_are_named),  cmocka_unit_test(every_unsupported_key_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
