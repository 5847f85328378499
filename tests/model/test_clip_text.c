/* Text encoders against transformers (tests/reference/make_clip.py, f64). 1e-5 is ten times what f32 sums of these
 * lengths leave; a wrong formula is far above it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "model/clip_text.h"
#include "support_golden.h"
#include "support_source.h"
#include "tests/test_device.h"

static const double tolerance = 1e-5;
/* Every value is rounded to 8 bits and most errors add up like a random walk. A formula, an order or a statistic that is
 * wrong is tens of times above it. */
static const double bf16_tolerance = 3e-2;

typedef struct encoder {
    golden         data;
    counter_source weights;
    device        *dev;
    ag            *graph;
    clip_text      model;
} encoder;

/* bare: names as transformers 5 writes them for CLIPTextModel. */
static void encoder_open_as(encoder *e, const char *file, bool projects, bool bare, dtype type)
{
    clip_text_config config;
    memset(e, 0, sizeof *e);
    e->data = golden_open(file);
    assert_int_equal(test_device_open(&e->dev, 2), OK);
    e->graph = ag_new(e->dev);
    assert_int_equal(clip_text_config_parse(&config, e->data.config, file, projects), OK);
    binder *b = counter_source_walk(&e->weights);
    clip_text_bind(b, &e->model, &e->weights.memory, &config);
    counter_source_end(&e->weights, b);
    if (bare)
        assert_true(counter_source_rename(&e->weights, "text_model.", "") > 20);
    counter_source_add(&e->weights, bare ? "embeddings.position_ids" : "text_model.embeddings.position_ids",
                       DIMS(1, 2));
    assert_int_equal(bind_load_begin(&b, &e->weights.memory, e->dev, type, &e->weights.source, false), OK);
    clip_text_bind(b, &e->model, &e->weights.memory, &config);
    if (bind_end(b) != OK)
        fail_msg("%s", err_message());
}

static void encoder_open(encoder *e, const char *file, bool projects, bool bare)
{
    encoder_open_as(e, file, projects, bare, DT_F32);
}

static void encoder_close(encoder *e)
{
    ag_free(e->graph);
    clip_text_release(&e->model);
    assert_int_equal(e->dev->memory->total, 0);
    device_close(e->dev);
    counter_source_free(&e->weights);
    golden_close(&e->data);
}

static void check_case_in(const char *file, bool projects, bool bare, dtype type)
{
    encoder e;
    double  allowed = type == DT_F32 ? tolerance : bf16_tolerance;
    clip_text_output out;
    encoder_open_as(&e, file, projects, bare, type);
    const stored_tensor *ids = golden_tensor(&e.data, "input_ids");
    unsigned wanted = CLIP_TEXT_PENULTIMATE | CLIP_TEXT_LAST | CLIP_TEXT_POOLED | (projects ? CLIP_TEXT_EMBEDS : 0);
    if (clip_text_forward(&out, e.graph, &e.model, golden_i32(&e.data, "input_ids"), ids->dim[0], ids->dim[1], wanted))
        fail_msg("%s", err_message());
    bool good = golden_agrees(&e.data, "hidden_states_penultimate", out.penultimate, false, allowed);
    good &= golden_agrees(&e.data, "last_hidden_state", out.last, false, allowed);
    good &= golden_agrees(&e.data, "pooler_output", out.pooled, false, allowed);
    if (projects)
        good &= golden_agrees(&e.data, "text_embeds", out.embeds, false, allowed);
    assert_true(good);
    encoder_close(&e);
}

static void check_case(const char *file, bool projects, bool bare)
{
    check_case_in(file, projects, bare, DT_F32);
}

static void in_bf16(void **state)
{
    (void)state;
    check_case_in("clip_text_b.safetensors", true, false, DT_BF16);
}

static void quick_gelu_pooled_at_largest_id(void **state)
{
    (void)state;
    check_case("clip_text_a.safetensors", false, false);
}

static void names_without_prefix(void **state)
{
    (void)state;
    check_case("clip_text_a.safetensors", false, true);
}

static void gelu_projected_pooled_at_first_end(void **state)
{
    (void)state;
    check_case("clip_text_b.safetensors", true, false);
}

static void one_layer(void **state)
{
    (void)state;
    check_case("clip_text_c.safetensors", true, false);
}

/* What is not asked for is not computed, and asking for less changes no bits of the rest. */
static void only_what_is_wanted(void **state)
{
    (void)state;
    encoder e;
    clip_text_output all, less;
    encoder_open(&e, "clip_text_b.safetensors", true, false);
    const int32_t *ids = golden_i32(&e.data, "input_ids");
    float value[3][3 * 13 * 40];
    assert_int_equal(clip_text_forward(&all, e.graph, &e.model, ids, 3, 13, 15), OK);
    assert_int_equal(tensor_download(value[0], DT_F32, all.penultimate), OK);
    assert_int_equal(tensor_download(value[1], DT_F32, all.embeds), OK);
    assert_int_equal(clip_text_forward(&less, e.graph, &e.model, ids, 3, 13, CLIP_TEXT_PENULTIMATE), OK);
    assert_null(less.last);
    assert_null(less.pooled);
    assert_null(less.embeds);
    assert_int_equal(tensor_download(value[2], DT_F32, less.penultimate), OK);
    assert_memory_equal(value[2], value[0], sizeof value[0]);
    assert_int_equal(clip_text_forward(&less, e.graph, &e.model, ids, 3, 13, CLIP_TEXT_EMBEDS), OK);
    assert_null(less.penultimate);
    assert_int_equal(tensor_download(value[2], DT_F32, less.embeds), OK);
    assert_memory_equal(value[2], value[1], 3 * 24 * sizeof(float));
    encoder_close(&e);
}

static void ids_that_do_not_fit(void **state)
{
    (void)state;
    encoder e;
    clip_text_output out;
    encoder_open(&e, "clip_text_b.safetensors", true, false);
    int32_t ids[21] = {0};
    assert_int_equal(clip_text_forward(&out, e.graph, &e.model, ids, 1, 21, CLIP_TEXT_LAST), E_SHAPE);
    assert_non_null(strstr(err_message(), "max_position_embeddings is 20"));
    ids[4] = 120;
    assert_int_equal(clip_text_forward(&out, e.graph, &e.model, ids, 1, 20, CLIP_TEXT_LAST), E_MODEL);
    assert_non_null(strstr(err_message(), "token id 120 at place 4"));
    ids[4] = -1;
    assert_int_equal(clip_text_forward(&out, e.graph, &e.model, ids, 1, 20, CLIP_TEXT_LAST), E_MODEL);
    encoder_close(&e);
}

static void configs(void **state)
{
    (void)state;
    static const char bad[] = "{\"hidden_size\":50,\"num_attention_heads\":3,\"hidden_act\":\"relu\",\"vocab_size\":\"9\","
                              "\"eos_token_id\":[2],\"num_hidden_layers\":0}";
    static const char *const said[] = {"te/config.json: ", "num_attention_heads: 3", "hidden_act: found \"relu\"",
                                       "vocab_size: found \"9\"", "eos_token_id", "num_hidden_layers"};
    clip_text_config config;
    json_t *json = NULL;
    assert_int_equal(json_text_parse(&json, bad, strlen(bad), "bad", JSON_KEEP_LAST), OK);
    assert_int_equal(clip_text_config_parse(&config, json, "te/config.json", false), E_MODEL);
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        if (!strstr(err_message(), said[i]))
            fail_msg("'%s' is not in: %s", said[i], err_message());
    json_decref(json);
    assert_int_equal(json_text_parse(&json, "{}", 2, "empty", JSON_KEEP_LAST), OK);
    assert_int_equal(clip_text_config_parse(&config, json, "te/config.json", true), OK);
    assert_true(config.vocabulary == 49408 && config.projection == 512);
    assert_int_equal(config.layers.activation, UNARY_QUICK_GELU);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quick_gelu_pooled_at_largest_id),
        cmocka_unit_test(names_without_prefix),
        cmocka_unit_test(gelu_projected_pooled_at_first_end),
        cmocka_unit_test(one_layer),
        cmocka_unit_test(only_what_is_wanted),
        cmocka_unit_test(ids_that_do_not_fit),
        cmocka_unit_test(configs),
        cmocka_unit_test(in_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
