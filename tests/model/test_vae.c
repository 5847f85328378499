/* The VAE against diffusers (tests/reference/make_vae.py, f64). 1e-5 (decoder 3e-5: three times as many layers) is ten
 * times what f32 sums of these lengths leave; a wrong formula is far above it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <math.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "model/vae.h"
#include "support_golden.h"
#include "support_source.h"
#include "tests/test_device.h"

static const double encode_tolerance = 1e-5, decode_tolerance = 3e-5;
/* Every value is rounded to 8 bits and most errors add up like a random walk. A formula, an order or a statistic that is
 * wrong is tens of times above it. */
static const double bf16_tolerance = 3e-2;

typedef struct autoencoder {
    golden         data;
    counter_source weights;
    device        *dev;
    ag            *graph;
    vae            model;
} autoencoder;

/* Names and shapes as diffusers wrote them before version 0.18. */
static void make_old(counter_source *s)
{
    static const char *const pair[][2] = {
        {"to_q.", "query."}, {"to_k.", "key."}, {"to_v.", "value."}, {"to_out.0.", "proj_attn."}};
    for (size_t p = 0; p < 4; p++)
        assert_int_equal(counter_source_rename(s, pair[p][0], pair[p][1]), 4);
    counter_weight *w = counter_source_find(s, "encoder.mid_block.attentions.0.query.weight");
    w->view.ndim = 4;
    w->view.dim[2] = w->view.dim[3] = 1;
}

static void vae_open_as(autoencoder *a, const char *file, bool old, dtype type)
{
    vae_config config;
    memset(a, 0, sizeof *a);
    a->data = golden_open(file);
    assert_int_equal(test_device_open(&a->dev, 2), OK);
    a->graph = ag_new(a->dev);
    if (vae_config_parse(&config, a->data.config, file))
        fail_msg("%s", err_message());
    binder *b = counter_source_walk(&a->weights);
    vae_bind(b, &a->model, &a->weights.memory, &config);
    counter_source_end(&a->weights, b);
    if (old)
        make_old(&a->weights);
    assert_int_equal(bind_load_begin(&b, &a->weights.memory, a->dev, type, &a->weights.source, false), OK);
    vae_bind(b, &a->model, &a->weights.memory, &config);
    if (bind_end(b) != OK)
        fail_msg("%s", err_message());
}

static void vae_open(autoencoder *a, const char *file, bool old)
{
    vae_open_as(a, file, old, DT_F32);
}

static double tolerance_of(const autoencoder *a, double in_f32)
{
    return a->model.decoder.conv_in.w->type == DT_F32 ? in_f32 : bf16_tolerance;
}

static void vae_close(autoencoder *a)
{
    ag_free(a->graph);
    vae_release(&a->model);
    assert_int_equal(a->dev->memory->total, 0);
    device_close(a->dev);
    counter_source_free(&a->weights);
    golden_close(&a->data);
}

static tensor *input(autoencoder *a, const char *name)
{
    const stored_tensor *t = golden_tensor(&a->data, name);
    return ag_input(a->graph, name, DT_F32, DIMS(t->dim[0], t->dim[2], t->dim[3], t->dim[1]),
                    golden_nhwc(&a->data, name), DT_F32);
}

static bool check_encode(autoencoder *a)
{
    tensor *moments, view;
    if (vae_encode(&moments, a->graph, &a->model, input(a, "sample")))
        fail_msg("%s", err_message());
    int64_t count = tensor_count(moments) / moments->dim[3], latent = a->model.config.latent_channels;
    float  *host = arena_get(&a->data.memory, (size_t)tensor_count(moments) * sizeof *host);
    float  *mean = arena_get(&a->data.memory, (size_t)(count * latent) * sizeof *mean);
    float  *logvar = arena_get(&a->data.memory, (size_t)(count * latent) * sizeof *logvar);
    assert_int_equal(tensor_download(host, DT_F32, moments), OK);
    vae_posterior(mean, logvar, host, count, latent);
    view = *ag_input(a->graph, "mean", DT_F32, DIMS(moments->dim[0], moments->dim[1], moments->dim[2], latent), mean,
                     DT_F32);
    bool good = golden_agrees(&a->data, "mean", &view, true, tolerance_of(a, encode_tolerance));
    assert_int_equal(tensor_upload(&view, logvar, DT_F32), OK);
    return golden_agrees(&a->data, "logvar", &view, true, tolerance_of(a, encode_tolerance)) && good;
}

static void check_case_in(const char *file, bool old, dtype type)
{
    autoencoder a;
    tensor *sample;
    vae_open_as(&a, file, old, type);
    bool good = check_encode(&a);
    if (vae_decode(&sample, a.graph, &a.model, input(&a, "latent")))
        fail_msg("%s", err_message());
    good &= golden_agrees(&a.data, "decoded", sample, true, tolerance_of(&a, decode_tolerance));
    assert_true(good);
    vae_close(&a);
}

static void check_case(const char *file, bool old)
{
    check_case_in(file, old, DT_F32);
}

static void in_bf16(void **state)
{
    (void)state;
    check_case_in("vae_a.safetensors", false, DT_BF16);
}

static void four_blocks(void **state)
{
    (void)state;
    check_case("vae_a.safetensors", false);
}

static void old_names(void **state)
{
    (void)state;
    check_case("vae_a.safetensors", true);
}

static void odd_sides_no_quant_conv(void **state)
{
    (void)state;
    check_case("vae_b.safetensors", false);
}

static void no_attention(void **state)
{
    (void)state;
    check_case("vae_c.safetensors", false);
}

static void posterior_is_clamped(void **state)
{
    (void)state;
    float moments[] = {1, 2, -31, 21, 3, 4, NAN, 0.5f}, mean[4], logvar[4];
    vae_posterior(mean, logvar, moments, 2, 2);
    assert_true(mean[0] == 1 && mean[1] == 2 && mean[2] == 3 && mean[3] == 4);
    assert_true(logvar[0] == -30 && logvar[1] == 20 && isnan(logvar[2]) && logvar[3] == 0.5f);
}

static void sizes_that_do_not_fit(void **state)
{
    (void)state;
    autoencoder a;
    tensor *out;
    vae_open(&a, "vae_a.safetensors", false);
    static const float nothing[7 * 64 * 4];
    tensor *thin = ag_input(a.graph, "sample", DT_F32, DIMS(1, 7, 64, 3), nothing, DT_F32);
    assert_int_equal(vae_encode(&out, a.graph, &a.model, thin), E_SHAPE);
    assert_non_null(strstr(err_message(), "(1,7,64,3)"));
    tensor *latent = ag_input(a.graph, "latent", DT_F32, DIMS(1, 2, 2, 3), nothing, DT_F32);
    assert_int_equal(vae_decode(&out, a.graph, &a.model, latent), E_SHAPE);
    assert_non_null(strstr(err_message(), "expected 4 channels"));
    vae_close(&a);
}

static void configs(void **state)
{
    (void)state;
    static const char bad[] = "{\"_class_name\":\"AutoencoderTiny\",\"block_out_channels\":[30,64],"
                              "\"shift_factor\":0.1,\"down_block_types\":[\"DownEncoderBlock2D\",\"AttnDownEncoderBlock2D\"],"
                              "\"up_block_types\":[\"UpDecoderBlock2D\"],\"scaling_factor\":0}";
    static const char *const said[] = {
        "_class_name: found \"AutoencoderTiny\"", "norm_num_groups: 32 does not divide the 30",
        "shift_factor: found 0.1", "AttnDownEncoderBlock2D", "up_block_types: found 1 block", "scaling_factor: found 0"};
    vae_config config;
    json_t *json = NULL;
    assert_int_equal(json_text_parse(&json, bad, strlen(bad), "bad", JSON_KEEP_LAST), OK);
    assert_int_equal(vae_config_parse(&config, json, "vae/config.json"), E_MODEL);
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        if (!strstr(err_message(), said[i]))
            fail_msg("'%s' is not in: %s", said[i], err_message());
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_blocks),
        cmocka_unit_test(old_names),
        cmocka_unit_test(odd_sides_no_quant_conv),
        cmocka_unit_test(no_attention),
        cmocka_unit_test(posterior_is_clamped),
        cmocka_unit_test(sizes_that_do_not_fit),
        cmocka_unit_test(configs),
        cmocka_unit_test(in_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
