/* A new adapter: the values it begins with, which of them train, and what a wrong file says. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "model/unet.h"
#include "support_source.h"
#include "tests/test_device.h"

static const char config_text[] =
    "{\"block_out_channels\": [8, 16, 24], \"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\", "
    "\"CrossAttnDownBlock2D\"],"
    " \"up_block_types\": [\"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"UpBlock2D\"], \"layers_per_block\": 1,"
    " \"attention_head_dim\": [1, 2, 3], \"transformer_layers_per_block\": [1, 1, 2], \"use_linear_projection\": true,"
    " \"norm_num_groups\": 4, \"cross_attention_dim\": 20, \"addition_embed_type\": \"text_time\","
    " \"addition_time_embed_dim\": 8, \"projection_class_embeddings_input_dim\": 60}";

static const resampler_sizes sizes = {.dim = 64,
                                      .depth = 2,
                                      .heads = 3,
                                      .queries = 4,
                                      .image_width = 40,
                                      .phrase_width = 12,
                                      .hidden_width = 96,
                                      .out_width = 20};

typedef struct world {
    arena          memory;
    device        *dev;
    counter_source weights;
    unet           unet;
} world;

static void world_open(world *w)
{
    json_t     *json = NULL;
    unet_config config;
    memset(w, 0, sizeof *w);
    assert_int_equal(test_device_open(&w->dev, 1), OK);
    assert_int_equal(json_text_parse(&json, config_text, strlen(config_text), "config", JSON_KEEP_LAST), OK);
    if (unet_config_parse(&config, json, "config") != OK)
        fail_msg("%s", err_message());
    json_decref(json);
    binder *b = counter_source_walk(&w->weights);
    unet_bind(b, &w->unet, &w->memory, &config);
    counter_source_end(&w->weights, b);
    bind_load_begin(&b, &w->memory, w->dev, DT_F32, &w->weights.source, false);
    unet_bind(b, &w->unet, &w->memory, &config);
    assert_int_equal(bind_end(b), OK);
}

static void world_close(world *w)
{
    unet_release(&w->unet);
    assert_int_equal(w->dev->memory->total, 0);
    device_close(w->dev);
    counter_source_free(&w->weights);
    arena_free(&w->memory);
}

static float *values(world *w, const tensor *t)
{
    float *out = arena_get(&w->memory, (size_t)tensor_count(t) * sizeof *out);
    assert_int_equal(tensor_download(out, DT_F32, t), OK);
    return out;
}

/* Deviation about 0 and largest magnitude; the mean has to be within five standard errors of 0. */
static void moments(double *deviation, double *largest, world *w, const tensor *t)
{
    const float *x = values(w, t);
    double       sum = 0, squares = 0, count = (double)tensor_count(t);
    *largest = 0;
    for (int64_t i = 0; i < tensor_count(t); i++) {
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
        *largest = fmax(*largest, fabs((double)x[i]));
    }
    *deviation = sqrt(squares / count);
    assert_true(fabs(sum / count) < 5 * *deviation / sqrt(count));
}

/* U(+-1/sqrt(in)): deviation bound/sqrt(3); 10 % is four standard errors of the smallest of these tensors. */
static void expect_uniform(world *w, const tensor *t, double in)
{
    double deviation, largest, bound = 1 / sqrt(in);
    moments(&deviation, &largest, w, t);
    assert_true(largest <= bound * (1 + 1e-6) && largest > 0.9 * bound);
    assert_true(fabs(deviation * sqrt(3.0) / bound - 1) < 0.1);
}

static void expect_normal(world *w, const tensor *t, double expected)
{
    double deviation, largest;
    moments(&deviation, &largest, w, t);
    assert_true(largest > 1.7 * expected && largest < 6 * expected);
    assert_true(fabs(deviation / expected - 1) < 0.2);
}

static void begins_as_torch_would(void **state)
{
    (void)state;
    world      w;
    ms_adapter a;
    world_open(&w);
    if (adapter_new(&a, &w.memory, w.dev, &sizes, &w.unet, 5) != OK)
        fail_msg("%s", err_message());
    const resampler *r = &a.image_proj;
    expect_uniform(&w, r->latent_in.w, 76);
    expect_uniform(&w, r->latent_in.b, 76);
    expect_uniform(&w, r->latent_out.w, 152);
    expect_uniform(&w, r->latent_out.b, 152); /* the bias of the second Linear: its own inputs */
    expect_uniform(&w, r->proj_in.b, 40);
    expect_uniform(&w, r->layer[1].kv.w, 64);
    expect_uniform(&w, r->layer[0].down.w, 96);
    expect_normal(&w, r->grounding_latents, 1 / sqrt(64.0));
    expect_normal(&w, a.dummy, 1);
    const float *one = values(&w, r->norm_out.w), *zero = values(&w, r->norm_out.b),
                *first = values(&w, r->layer[0].norm_image.b);
    for (int i = 0; i < 20; i++)
        assert_true(one[i] == 1 && zero[i] == 0 && first[i] == 0);
    adapter_release(&a);
    world_close(&w);
}

static void pairs_are_the_texts(void **state)
{
    (void)state;
    world      w;
    ms_adapter a;
    world_open(&w);
    assert_int_equal(adapter_new(&a, &w.memory, w.dev, &sizes, &w.unet, 5), OK);
    assert_int_equal(a.pairs, 1 + 2 + 4 + 2 + 2); /* down 1, down 2; up 0 (two layers of depth 2), up 1; mid */
    const cross_attention *expected[] = {&w.unet.down[1].transformer[0].block[0].cross,
                                         &w.unet.down[2].transformer[0].block[1].cross,
                                         &w.unet.up[0].transformer[1].block[0].cross,
                                         &w.unet.up[1].transformer[0].block[0].cross, &w.unet.mid.block[1].cross};
    static const int at[] = {0, 2, 5, 7, 10};
    for (int i = 0; i < 5; i++) {
        const adapter_pair *p = &a.pair[at[i]];
        assert_ptr_equal(unet_cross_attention(&w.unet, at[i]), expected[i]);
        assert_true(tensor_same_shape(p->k.w, expected[i]->k.w));
        size_t bytes = (size_t)tensor_count(p->k.w) * sizeof(float);
        assert_memory_equal(values(&w, p->k.w), values(&w, expected[i]->k.w), bytes);
        assert_memory_equal(values(&w, p->v.w), values(&w, expected[i]->v.w), bytes);
        assert_ptr_not_equal(p->k.w->data, expected[i]->k.w->data);
        assert_true(p->k.w->needs_grad);
    }
    assert_string_equal(a.pair[10].v.w->name, "ms_adapter.21.to_v_ip.weight");
    adapter_release(&a);
    world_close(&w);
}

static void seeds_decide(void **state)
{
    (void)state;
    world      w;
    ms_adapter a, b, c;
    world_open(&w);
    assert_int_equal(adapter_new(&a, &w.memory, w.dev, &sizes, &w.unet, 5), OK);
    assert_int_equal(adapter_new(&b, &w.memory, w.dev, &sizes, &w.unet, 5), OK);
    assert_int_equal(adapter_new(&c, &w.memory, w.dev, &sizes, &w.unet, 6), OK);
    size_t bytes = (size_t)tensor_count(a.image_proj.proj_in.w) * sizeof(float);
    assert_memory_equal(values(&w, a.image_proj.proj_in.w), values(&w, b.image_proj.proj_in.w), bytes);
    assert_memory_not_equal(values(&w, a.image_proj.proj_in.w), values(&w, c.image_proj.proj_in.w), bytes);
    assert_memory_not_equal(values(&w, a.image_proj.layer[0].up.w), values(&w, a.image_proj.layer[1].up.w), bytes);
    adapter_release(&a);
    adapter_release(&b);
    adapter_release(&c);
    world_close(&w);
}

typedef struct listing {
    int     count, trained;
    int64_t elements;
    char    last[64];
} listing;

static void list(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    listing *l = bind_user(b);
    (void)kind, (void)dim;
    assert_int_equal((*slot)->ndim, ndim);
    assert_string_equal((*slot)->name, path);
    l->count++;
    l->trained += (*slot)->needs_grad;
    l->elements += tensor_count(*slot);
    snprintf(l->last, sizeof l->last, "%s", path);
}

static void all_but_the_dummy_train(void **state)
{
    (void)state;
    world      w;
    ms_adapter a;
    listing    l = {0};
    world_open(&w);
    assert_int_equal(adapter_new(&a, &w.memory, w.dev, &sizes, &w.unet, 5), OK);
    adapter_walk(&a, list, &l);
    assert_int_equal(l.trained, l.count - 1);
    assert_false(a.dummy->needs_grad);
    assert_string_equal(l.last, "dummy_image_tokens");
    assert_int_equal(l.count, 15 + 2 * 11 + 2 * 11 + 1); /* heads, layers, pairs, dummy */
    adapter_release(&a);
    world_close(&w);
}

static void wrong_files_are_named(void **state)
{
    (void)state;
    world          w;
    ms_adapter     a = {0}, listed = {0};
    counter_source s = {0};
    const int64_t *channels;
    world_open(&w);
    int64_t         pairs = adapter_channels(&channels, &w.memory, &w.unet.config);
    resampler_sizes wide = sizes;
    binder         *b = counter_source_walk(&s);
    adapter_bind(b, &listed, &s.memory, &sizes, channels, pairs - 1); /* one pair is missing */
    counter_source_end(&s, b);
    assert_int_equal(adapter_load(&a, &w.memory, w.dev, DT_F32, &s.source, &w.unet.config, true), E_MODEL);
    assert_non_null(strstr(err_message(), "2 tensors missing: ms_adapter.21.to_k_ip.weight"));
    counter_source_free(&s);

    memset(&s, 0, sizeof s);
    memset(&listed, 0, sizeof listed);
    wide.out_width = 32;
    b = counter_source_walk(&s);
    adapter_bind(b, &listed, &s.memory, &wide, channels, pairs);
    counter_source_end(&s, b);
    assert_int_equal(adapter_load(&a, &w.memory, w.dev, DT_F32, &s.source, &w.unet.config, true), E_MODEL);
    assert_non_null(strstr(err_message(), "tokens of width 32, the UNet's cross_attention_dim is 20"));
    counter_source_free(&s);
    assert_int_equal(adapter_new(&a, &w.memory, w.dev, &wide, &w.unet, 1), E_CONFIG);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begins_as_torch_would), cmocka_unit_test(pairs_are_the_texts), cmocka_unit_test(seeds_decide),
        cmocka_unit_test(all_but_the_dummy_train), cmocka_unit_test(wrong_files_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
