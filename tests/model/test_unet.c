/* The UNet, plain and with the adapter, against diffusers and the reference implementation
 * (tests/reference/make_unet.py, f64). 1e-5 is the project's bound for networks in f32; a wrong formula, order or
 * number of heads is far above it (the adapter alone moves the result by 40 %). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "model/unet.h"
#include "support_golden.h"
#include "support_source.h"
#include "tests/test_device.h"

static const double tolerance = 1e-5;
/* Every value is rounded to 8 bits and most errors add up like a random walk. A formula, an order or a statistic that is
 * wrong is tens of times above it. */
static const double bf16_tolerance = 3e-2;

typedef struct network {
    golden         data;
    counter_source unet_weights, adapter_weights;
    arena          memory;
    device        *dev;
    ag            *g;
    unet           unet;
    ms_adapter     masters, adapter; /* adapter: what the forward reads; masters: f32, where it is a bf16 copy of them */
} network;

static resampler_sizes smallest_resampler(const golden *data, int64_t out_width)
{
    return (resampler_sizes){.dim = 8,
                             .depth = 1,
                             .heads = 1,
                             .queries = json_integer_value(json_object_get(data->config, "_queries")),
                             .image_width = 8,
                             .phrase_width = 4,
                             .hidden_width = 16,
                             .out_width = out_width};
}

static void load_adapter(network *n, dtype type)
{
    const int64_t  *channels;
    const unet_config *config = &n->unet.config;
    resampler_sizes sizes = smallest_resampler(&n->data, config->text_width);
    ms_adapter      listed = {0};
    int64_t         pairs = adapter_channels(&channels, &n->memory, config);
    binder         *b = counter_source_walk(&n->adapter_weights);
    adapter_bind(b, &listed, &n->memory, &sizes, channels, pairs);
    counter_source_end(&n->adapter_weights, b);
    ms_adapter *loaded = type == DT_F32 ? &n->adapter : &n->masters;
    if (adapter_load(loaded, &n->memory, n->dev, DT_F32, &n->adapter_weights.source, config, true) != OK)
        fail_msg("%s", err_message());
    if (type != DT_F32)
        assert_int_equal(adapter_copy(&n->adapter, &n->memory, n->dev, &n->masters, type), OK);
}

static void network_open_as(network *n, const char *file, dtype type)
{
    memset(n, 0, sizeof *n);
    n->data = golden_open(file);
    assert_int_equal(test_device_open(&n->dev, 2), OK);
    n->g = ag_new(n->dev);
    unet_config config;
    if (unet_config_parse(&config, n->data.config, file) != OK)
        fail_msg("%s", err_message());
    binder *b = counter_source_walk(&n->unet_weights);
    unet_bind(b, &n->unet, &n->memory, &config);
    counter_source_end(&n->unet_weights, b);
    bind_load_begin(&b, &n->memory, n->dev, type, &n->unet_weights.source, false);
    unet_bind(b, &n->unet, &n->memory, &config);
    if (bind_end(b) != OK)
        fail_msg("%s", err_message());
    load_adapter(n, type);
}

static void network_open(network *n, const char *file)
{
    network_open_as(n, file, DT_F32);
}

static void network_close(network *n)
{
    ag_free(n->g);
    unet_release(&n->unet);
    adapter_release(&n->adapter);
    adapter_release(&n->masters);
    assert_int_equal(n->dev->memory->total, 0);
    device_close(n->dev);
    counter_source_free(&n->unet_weights);
    counter_source_free(&n->adapter_weights);
    golden_close(&n->data);
    arena_free(&n->memory);
}

static tensor *input(network *n, const char *name)
{
    const stored_tensor *t = golden_tensor(&n->data, name);
    if (t->ndim == 4)
        return ag_input(n->g, name, DT_F32, DIMS(t->dim[0], t->dim[2], t->dim[3], t->dim[1]),
                        golden_nhwc(&n->data, name), DT_F32);
    return ag_input(n->g, name, DT_F32, t->ndim, t->dim, golden_f32(&n->data, name), DT_F32);
}

static unet_inputs inputs(network *n)
{
    return (unet_inputs){.sample = input(n, "sample"), .timestep = input(n, "timestep"),
                         .text_embeds = input(n, "text_embeds"), .time_ids = input(n, "time_ids")};
}

static adapter_inputs subjects(network *n)
{
    return (adapter_inputs){
        .adapter = &n->adapter, .ip_tokens = input(n, "ip_tokens"), .boxes = input(n, "boxes"), .scale = 0.6f};
}

/* A forward with a context of its own; s may be NULL. */
static tensor *forward(network *n, const unet_inputs *in, const adapter_inputs *s)
{
    unet_context context;
    tensor      *text = input(n, "encoder_hidden_states");
    if (unet_context_make(&context, n->g, &n->unet, text, s, in->sample->dim[1], in->sample->dim[2]) != OK)
        return NULL;
    return unet_forward(n->g, &n->unet, in, &context);
}

static void expect(network *n, const char *name, const adapter_inputs *s)
{
    unet_inputs in = inputs(n);
    tensor     *out = forward(n, &in, s);
    if (!out)
        fail_msg("%s", err_message());
    assert_int_equal(out->type, DT_F32);
    assert_true(golden_agrees(&n->data, name, out, true, unet_type(&n->unet) == DT_F32 ? tolerance : bf16_tolerance));
    ag_reset(n->g);
}

static void agrees_in(const char *file, dtype type)
{
    network n;
    network_open_as(&n, file, type);
    expect(&n, "noise_pred", NULL);
    adapter_inputs s = subjects(&n);
    expect(&n, "noise_pred_adapter", &s);
    s = subjects(&n);
    s.subject_scales = input(&n, "subject_scales");
    expect(&n, "noise_pred_scales", &s);
    network_close(&n);
}

static void agrees_with(const char *file)
{
    agrees_in(file, DT_F32);
}

static void in_bf16(void **state)
{
    (void)state;
    agrees_in("unet_a.safetensors", DT_BF16);
    agrees_in("unet_b.safetensors", DT_BF16);
}

static void sdxl_form(void **state)
{
    (void)state;
    agrees_with("unet_a.safetensors");
}

static void other_form_and_odd_sides(void **state)
{
    (void)state;
    agrees_with("unet_b.safetensors");
}

/* Guidance's second half has no subjects: as many samples in boxes as have some. */
static void fewer_samples_with_subjects(void **state)
{
    (void)state;
    network n;
    network_open(&n, "unet_b.safetensors");
    const stored_tensor *t = golden_tensor(&n.data, "noise_pred");
    int64_t              per_sample = t->count / t->dim[0];
    float *both = arena_get(&n.memory, (size_t)t->count * sizeof(float)),
          *one = arena_get(&n.memory, (size_t)t->count * sizeof(float));
    unet_inputs    in = inputs(&n);
    adapter_inputs s = subjects(&n);
    s.boxes = ag_slice(n.g, s.boxes, 0, 0, 1);
    s.ip_tokens = ag_slice(n.g, s.ip_tokens, 0, 0, 1);
    tensor *out = forward(&n, &in, &s);
    if (!out)
        fail_msg("%s", err_message());
    assert_int_equal(tensor_download(one, DT_F32, out), OK);
    ag_reset(n.g);
    in = inputs(&n);
    out = forward(&n, &in, NULL);
    assert_non_null(out);
    assert_int_equal(tensor_download(both, DT_F32, out), OK);
    assert_true(relative_error(one + per_sample, both + per_sample, t->count - per_sample) <
                1e-6); /* plain in samples 1, 2 */
    assert_true(relative_error(one, both, per_sample) > 0.01);
    network_close(&n);
}

static void gradients_reach_the_adapter_alone(void **state)
{
    (void)state;
    network n;
    network_open(&n, "unet_a.safetensors");
    unet_inputs    in = inputs(&n);
    adapter_inputs s = subjects(&n);
    tensor        *target = input(&n, "sample");
    tensor        *loss = ag_mse(n.g, forward(&n, &in, &s), target);
    if (!loss || ag_backward(n.g, loss) != OK)
        fail_msg("%s", err_message());
    for (int64_t i = 0; i < 2 * n.adapter.pairs; i++) { /* in memory they are parts of their group's */
        const adapter_pair *pair = &n.adapter.pair[i / 2];
        const tensor       *part = i % 2 ? pair->v.w : pair->k.w;
        float               value = 0;
        assert_ptr_equal(part->base, n.adapter.group[pair->group].kv.t);
        assert_non_null(part->base->grad);
        tensor first = *tensor_grad_view(&n.memory, part);
        first.ndim = 0;
        assert_int_equal(tensor_download(&value, DT_F32, &first), OK);
        assert_true(value != 0);
        tensor_release(&first);
    }
    assert_null(n.unet.conv_in.w->grad);
    assert_null(n.adapter.dummy->grad);
    assert_false(n.adapter.dummy->needs_grad);
    network_close(&n);
}

static void wrong_inputs_are_named(void **state)
{
    (void)state;
    network n;
    network_open(&n, "unet_b.safetensors");
    unet_inputs in = inputs(&n);
    in.text_embeds = in.timestep;
    assert_null(forward(&n, &in, NULL));
    assert_int_equal(ag_status(n.g), E_SHAPE);
    assert_non_null(strstr(err_message(), "text_embeds: got (3), expected (3,20)"));
    ag_reset(n.g);
    in = inputs(&n);
    adapter_inputs s = subjects(&n);
    s.boxes = ag_slice(n.g, s.boxes, 1, 0, 2);
    assert_null(forward(&n, &in, &s));
    assert_non_null(strstr(err_message(), "ip_tokens: got (2,6,40), expected (2,4,40)"));
    network_close(&n);
}

/* The same bits twice. */
static void bits_repeat(void **state)
{
    (void)state;
    network n;
    network_open(&n, "unet_a.safetensors");
    float *first = NULL;
    for (int round = 0; round < 2; round++) {
        unet_inputs    in = inputs(&n);
        adapter_inputs s = subjects(&n);
        tensor        *out = forward(&n, &in, &s);
        assert_non_null(out);
        size_t bytes = (size_t)tensor_count(out) * sizeof(float);
        float *value = arena_get(&n.memory, bytes);
        assert_int_equal(tensor_download(value, DT_F32, out), OK);
        if (first)
            assert_memory_equal(first, value, bytes);
        first = value;
        ag_reset(n.g);
    }
    network_close(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sdxl_form),
        cmocka_unit_test(other_form_and_odd_sides),
        cmocka_unit_test(fewer_samples_with_subjects),
        cmocka_unit_test(gradients_reach_the_adapter_alone),
        cmocka_unit_test(wrong_inputs_are_named),
        cmocka_unit_test(bits_repeat),
        cmocka_unit_test(in_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
