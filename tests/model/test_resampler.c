/* The resampler against the reference implementation's (tests/reference/make_resampler.py). 1e-5 is the project's bound
 * for networks in f32. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "model/adapter.h"
#include "support_golden.h"
#include "support_source.h"
#include "tests/test_device.h"

static const double tolerance = 1e-5;
/* Every value is rounded to 8 bits and most errors add up like a random walk. A formula, an order or a statistic that is
 * wrong is tens of times above it. */
static const double bf16_tolerance = 3e-2;

static int64_t number(const golden *data, const char *key)
{
    const json_t *value = json_object_get(data->config, key);
    CHECK(json_is_integer(value), "golden without %s", key);
    return json_integer_value(value);
}

static resampler_sizes sizes_of(const golden *d)
{
    return (resampler_sizes){.dim = number(d, "dim"),
                             .depth = number(d, "depth"),
                             .heads = number(d, "heads"),
                             .queries = number(d, "num_queries"),
                             .image_width = number(d, "embedding_dim"),
                             .phrase_width = number(d, "phrase_embeddings_dim"),
                             .hidden_width = number(d, "dim") * number(d, "ff_mult"),
                             .out_width = number(d, "output_dim")};
}

static tensor *input(ag *g, golden *d, const char *name)
{
    const stored_tensor *t = golden_tensor(d, name);
    if (t->type == STORED_I32)
        return ag_input(g, name, DT_I32, t->ndim, t->dim, golden_i32(d, name), DT_I32);
    return ag_input(g, name, DT_F32, t->ndim, t->dim, golden_f32(d, name), DT_F32);
}

static tensor *forward(ag *g, const resampler *r, golden *d)
{
    return resampler_forward(g, r, input(g, d, "image_hidden"), input(g, d, "phrase_embeds"), input(g, d, "boxes"),
                             input(g, d, "drop_grounding_tokens"), false);
}

static void walk(binder *b, resampler *r, arena *owner, const resampler_sizes *sizes)
{
    int at = bind_enter(b, "image_proj");
    resampler_bind(b, r, owner, sizes);
    bind_leave(b, at);
}

static void agrees_in(const char *file, dtype type)
{
    golden          data = golden_open(file);
    resampler_sizes sizes = sizes_of(&data), read;
    counter_source  source = {0};
    resampler       r = {0};
    device         *dev;
    assert_int_equal(test_device_open(&dev, 2), OK);
    ag     *g = ag_new(dev);
    binder *b = counter_source_walk(&source);
    walk(b, &r, &source.memory, &sizes);
    counter_source_end(&source, b);
    assert_int_equal(adapter_sizes_read(&read, &source.source), OK);
    assert_memory_equal(&read, &sizes, sizeof sizes);
    bind_load_begin(&b, &source.memory, dev, type, &source.source, false);
    walk(b, &r, &source.memory, &sizes);
    if (bind_end(b) != OK)
        fail_msg("%s", err_message());
    tensor *out = forward(g, &r, &data);
    if (!out)
        fail_msg("%s", err_message());
    assert_true(golden_agrees(&data, "image_prompt_embeds", out, false, type == DT_F32 ? tolerance : bf16_tolerance));

    ag_reset(g);
    tensor *hidden = input(g, &data, "image_hidden");
    assert_null(resampler_forward(g, &r, hidden, input(g, &data, "boxes"), input(g, &data, "boxes"),
                                  input(g, &data, "drop_grounding_tokens"), false));
    assert_int_equal(ag_status(g), E_SHAPE);
    assert_non_null(strstr(err_message(), "phrase_embeds: got ("));
    ag_free(g);
    bind_walk_begin(&b, &source.memory, bind_visit_release, NULL);
    walk(b, &r, &source.memory, &sizes);
    bind_end(b);
    assert_int_equal(dev->memory->total, 0);
    device_close(dev);
    counter_source_free(&source);
    golden_close(&data);
}

static void agrees_with(const char *file)
{
    agrees_in(file, DT_F32);
}

static void in_bf16(void **state)
{
    (void)state;
    agrees_in("resampler_a.safetensors", DT_BF16);
}

static void some_without_grounding(void **state)
{
    (void)state;
    agrees_with("resampler_a.safetensors");
}

static void one_head_one_query(void **state)
{
    (void)state;
    agrees_with("resampler_b.safetensors");
}

static void damaged_adapters_are_named(void **state)
{
    (void)state;
    counter_source  source = {0};
    resampler       r = {0};
    resampler_sizes sizes = {.dim = 16, .depth = 1, .heads = 1, .queries = 2, .image_width = 8, .phrase_width = 4,
                             .hidden_width = 64, .out_width = 24}, read;
    binder         *b = counter_source_walk(&source);
    walk(b, &r, &source.memory, &sizes);
    counter_source_end(&source, b);
    counter_source_find(&source, "image_proj.layers.0.0.to_q.weight")->view.dim[0] = 65;
    assert_int_equal(adapter_sizes_read(&read, &source.source), E_MODEL);
    assert_non_null(strstr(err_message(), "to_q.weight: found 65 rows"));
    counter_source_rename(&source, "image_proj.proj_in.weight", "image_proj.proj.weight");
    assert_int_equal(adapter_sizes_read(&read, &source.source), E_MODEL);
    assert_non_null(strstr(err_message(), "image_proj.proj_in.weight is missing"));
    counter_source_free(&source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(some_without_grounding),
        cmocka_unit_test(one_head_one_query),
        cmocka_unit_test(in_bf16),
        cmocka_unit_test(damaged_adapters_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
