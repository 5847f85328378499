/* Picture encoders against transformers (tests/reference/make_clip.py, f64). 1e-5 is ten times what f32 sums of these
 * lengths leave; a wrong formula is far above it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "model/clip_vision.h"
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
    dtype          type;
    clip_vision    model;
} encoder;

static void load(encoder *e, const clip_vision_config *config, bool with_head)
{
    binder *b = NULL;
    assert_int_equal(bind_load_begin(&b, &e->weights.memory, e->dev, e->type, &e->weights.source, false), OK);
    clip_vision_bind(b, &e->model, &e->weights.memory, config, with_head);
    if (bind_end(b) != OK)
        fail_msg("%s", err_message());
}

/* whole: a file of CLIP's both halves, with the nested config that goes with it */
static void encoder_open_as(encoder *e, const char *file, bool whole, bool with_head, dtype type)
{
    clip_vision_config config;
    *e = (encoder){.type = type};
    e->data = golden_open(file);
    assert_int_equal(test_device_open(&e->dev, 2), OK);
    e->graph = ag_new(e->dev);
    json_t *nested = json_pack("{s:O,s:i}", "vision_config", e->data.config, "projection_dim", 99);
    if (clip_vision_config_parse(&config, whole ? nested : e->data.config, file))
        fail_msg("%s", err_message());
    json_decref(nested);
    binder *b = counter_source_walk(&e->weights);
    clip_vision_bind(b, &e->model, &e->weights.memory, &config, true);
    counter_source_end(&e->weights, b);
    if (whole) {
        counter_source_add(&e->weights, "vision_model.embeddings.position_ids", DIMS(1, 17));
        counter_source_add(&e->weights, "text_model.embeddings.token_embedding.weight", DIMS(3, 2));
        counter_source_add(&e->weights, "text_projection.weight", DIMS(3, 2));
        counter_source_add(&e->weights, "logit_scale", 0, NULL);
    }
    load(e, &config, with_head);
}

static void encoder_open(encoder *e, const char *file, bool whole, bool with_head)
{
    encoder_open_as(e, file, whole, with_head, DT_F32);
}

static void encoder_close(encoder *e)
{
    ag_free(e->graph);
    clip_vision_release(&e->model);
    assert_int_equal(e->dev->memory->total, 0);
    device_close(e->dev);
    counter_source_free(&e->weights);
    golden_close(&e->data);
}

static tensor *pixels(encoder *e)
{
    const stored_tensor *t = golden_tensor(&e->data, "pixel_values");
    return ag_input(e->graph, "pixel_values", DT_F32, DIMS(t->dim[0], t->dim[2], t->dim[3], t->dim[1]),
                    golden_nhwc(&e->data, "pixel_values"), DT_F32);
}

static void check_case_in(const char *file, bool whole, bool with_head, dtype type)
{
    encoder e;
    double  allowed = type == DT_F32 ? tolerance : bf16_tolerance;
    clip_vision_output out;
    encoder_open_as(&e, file, whole, with_head, type);
    if (clip_vision_forward(&out, e.graph, &e.model, pixels(&e), with_head))
        fail_msg("%s", err_message());
    bool good = golden_agrees(&e.data, "hidden_states_penultimate", out.penultimate, false, allowed);
    if (with_head)
        good &= golden_agrees(&e.data, "image_embeds", out.embeds, false, allowed);
    else
        assert_null(out.embeds);
    assert_true(good);
    encoder_close(&e);
}

static void check_case(const char *file, bool whole, bool with_head)
{
    check_case_in(file, whole, with_head, DT_F32);
}

static void in_bf16(void **state)
{
    (void)state;
    check_case_in("clip_vision_a.safetensors", false, true, DT_BF16);
}

static void gelu_odd_heads(void **state)
{
    (void)state;
    check_case("clip_vision_a.safetensors", false, true);
}

static void quick_gelu_heads_of_104(void **state)
{
    (void)state;
    check_case("clip_vision_b.safetensors", false, true);
}

static void whole_clip_model_without_head(void **state)
{
    (void)state;
    check_case("clip_vision_a.safetensors", true, false);
}

static void other_sizes_are_refused(void **state)
{
    (void)state;
    encoder e;
    clip_vision_output out;
    encoder_open(&e, "clip_vision_a.safetensors", false, true);
    static const float nothing[28 * 35 * 3];
    tensor *x = ag_input(e.graph, "pixel_values", DT_F32, DIMS(1, 28, 35, 3), nothing, DT_F32);
    assert_int_equal(clip_vision_forward(&out, e.graph, &e.model, x, false), E_SHAPE);
    assert_non_null(strstr(err_message(), "(1,28,35,3), its image_size is 28"));
    encoder_close(&e);
}

static void widths_are_explained(void **state)
{
    (void)state;
    clip_vision_config config = {.layers.hidden = 1664};
    assert_int_equal(clip_vision_check_width(&config, 1664, "enc"), OK);
    config.layers.hidden = 1280;
    assert_int_equal(clip_vision_check_width(&config, 1664, "enc"), E_MODEL);
    assert_non_null(strstr(err_message(), "enc: hidden_size: found 1280 (OpenCLIP ViT-H/14)"));
    assert_non_null(strstr(err_message(), "1664 (OpenCLIP ViT-bigG/14)"));
}

static void configs(void **state)
{
    (void)state;
    clip_vision_config config;
    json_t *text = json_pack("{s:i,s:i,s:s}", "vocab_size", 9, "patch_size", 300, "hidden_act", "tanh");
    assert_int_equal(clip_vision_config_parse(&config, text, "enc/config.json"), E_MODEL);
    assert_non_null(strstr(err_message(), "this is a text encoder"));
    assert_non_null(strstr(err_message(), "patch_size: found 300"));
    assert_non_null(strstr(err_message(), "hidden_act: found \"tanh\""));
    json_decref(text);
    json_t *nested = json_pack("{s:{s:i},s:i}", "vision_config", "hidden_size", 1536, "projection_dim", 1280);
    assert_int_equal(clip_vision_config_parse(&config, nested, "enc/config.json"), OK);
    assert_true(config.layers.hidden == 1536 && config.layers.layers == 12 && config.projection == 1280);
    json_decref(nested);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gelu_odd_heads),
        cmocka_unit_test(quick_gelu_heads_of_104),
        cmocka_unit_test(whole_clip_model_without_head),
        cmocka_unit_test(other_sizes_are_refused),
        cmocka_unit_test(widths_are_explained),
        cmocka_unit_test(configs),
        cmocka_unit_test(in_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
