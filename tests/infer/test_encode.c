/* Texts and pictures through the tiny folder, against diffusers' pipeline and transformers in f32
 * (tests/reference/make_encode.py). The tolerance, 1e-5 (decoder 3e-5), is ten times what f32 leaves on both sides. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/device.h"
#include "base/file.h"
#include "base/json.h"
#include "data/counter.h"
#include "data/safetensors.h"
#include "infer/encode.h"
#include "infer/synth.h"
#include "tests/test_device.h"
#include "tests/test_values.h"

#define FOLDER MSD_TEST_TMP "/encode"

static device      *dev;
static encoders    *all;
static safetensors *golden;

static void expect_ok(err e)
{
    if (e != OK)
        fail_msg("%s: %s", err_name(e), err_message());
}

static int open_everything(void **state)
{
    (void)state;
    logger log = {.quiet = true};
    folder_remove(FOLDER);
    expect_ok(test_device_open(&dev, 2));
    expect_ok(synth_write(FOLDER, "tiny", 0, STORED_F32, &log));
    expect_ok(safetensors_open(&golden, MSD_GOLDENS "/encode_tiny.safetensors"));
    expect_ok(encoders_open(&all, dev, DT_F32, FOLDER, FOLDER "/image_encoder",
                            ENCODE_TEXT | ENCODE_PICTURE | ENCODE_LATENT));
    return 0;
}

static int close_everything(void **state)
{
    (void)state;
    encoders_close(all);
    assert_int_equal(dev->memory->total, 0);
    safetensors_close(golden);
    device_close(dev);
    folder_remove(FOLDER);
    return 0;
}

/* Row `row` of the golden's first dimension. */
static void expect_row(const float *ours, const char *name, int64_t row, int64_t count, double tolerance)
{
    const stored_tensor *t = tensor_table_find(&golden->tensors, name);
    assert_non_null(t);
    assert_int_equal(t->count / t->dim[0], count);
    const float *ref = (const float *)(const void *)t->data + row * count;
    double error = 0, size = 0;
    test_values_note(name, ours, NULL, count);
    for (int64_t i = 0; i < count; i++) {
        double d = (double)ours[i] - (double)ref[i];
        error += d * d;
        size += (double)ref[i] * (double)ref[i];
    }
    error = sqrt(error / size);
    printf("%-16s %lld %6.2f %% of tolerance %.0e\n", name, (long long)row, 100 * error / tolerance, tolerance);
    assert_true(error <= tolerance);
}

static float *numbers(int64_t count)
{
    return heap_get((size_t)count * sizeof(float));
}

static json_t *texts(const char *key)
{
    json_t     *list = NULL;
    const char *text = safetensors_metadata(golden, key);
    assert_non_null(text);
    expect_ok(json_text_parse(&list, text, strlen(text), key, JSON_KEEP_LAST));
    return list;
}

static void prompts_as_in_the_pipeline(void **state)
{
    (void)state;
    const encoder_sizes *s = encoders_sizes(all);
    assert_true(s->tokens == 77 && s->text_width == 128 && s->pooled_width == 64);
    float  *hidden = numbers(s->tokens * s->text_width), *pooled = numbers(s->pooled_width);
    json_t *list = texts("prompts");
    for (size_t i = 0; i < json_array_size(list); i++) {
        size_t cut = 99;
        expect_ok(encode_prompt(hidden, pooled, &cut, all, json_string_value(json_array_get(list, i))));
        assert_true(i == 2 ? cut > 20 : cut == 0);
        expect_row(hidden, "prompt_hidden", (int64_t)i, s->tokens * s->text_width, 1e-5);
        expect_row(pooled, "prompt_pooled", (int64_t)i, s->pooled_width, 1e-5);
    }
    json_decref(list);
    assert_int_equal(encode_prompt(hidden, pooled, NULL, all, "no \xff text"), E_FORMAT);
    free(hidden);
    free(pooled);
}

static void phrases_are_pooled(void **state)
{
    (void)state;
    const encoder_sizes *s = encoders_sizes(all);
    float  *pooled = numbers(s->phrase_width);
    json_t *list = texts("phrases");
    assert_int_equal(s->phrase_width, 48);
    for (size_t i = 0; i < json_array_size(list); i++) {
        expect_ok(encode_phrase(pooled, all, json_string_value(json_array_get(list, i))));
        expect_row(pooled, "phrase_pooled", (int64_t)i, s->phrase_width, 1e-5);
    }
    json_decref(list);
    free(pooled);
}

static void pictures(void **state)
{
    (void)state;
    const encoder_sizes *s = encoders_sizes(all);
    int64_t count = 3 * s->picture_side * s->picture_side, out = s->picture_tokens * s->picture_width;
    float  *pixels = numbers(count), *hidden = numbers(out);
    assert_true(s->picture_side == 112 && s->picture_tokens == 65 && s->picture_width == 48);
    counter_uniform(pixels, "pixel_values", 0, count);
    for (int64_t i = 0; i < count; i++)
        pixels[i] *= 2;
    expect_ok(encode_picture(hidden, all, pixels));
    for (int64_t row = 0; row < s->picture_tokens; row += 32)
        expect_row(hidden + row * s->picture_width, "picture_hidden", row, s->picture_width, 1e-5);
    free(pixels);
    free(hidden);
}

/* (C,places) from (places,C) */
static float *channels_first(const float *x, int64_t places, int64_t channels)
{
    float *out = numbers(places * channels);
    for (int64_t i = 0; i < places; i++)
        for (int64_t c = 0; c < channels; c++)
            out[c * places + i] = x[i * channels + c];
    return out;
}

static void expect_image(const float *nhwc, const char *name, int64_t places, int64_t channels, double tolerance)
{
    float *nchw = channels_first(nhwc, places, channels);
    expect_row(nchw, name, 0, places * channels, tolerance);
    free(nchw);
}

static void latents_both_ways(void **state)
{
    (void)state;
    static float picture[3 * 45 * 64], mean[5 * 8 * 4], deviation[5 * 8 * 4], file[4 * 6 * 5], decoded[48 * 40 * 3];
    const encoder_sizes *s = encoders_sizes(all);
    assert_true(s->latent_channels == 4 && s->latent_factor == 8 && fabs(s->scaling_factor - 0.13025) < 1e-12);
    counter_uniform(picture, "picture", 0, 3 * 45 * 64);
    expect_ok(encode_latent(mean, deviation, all, picture, 45, 64));
    expect_image(mean, "mean", 40, 4, 1e-5);
    expect_image(deviation, "deviation", 40, 4, 1e-5);
    counter_uniform(file, "latent", 0, 4 * 6 * 5);
    float *latent = channels_first(file, 4, 30); /* (C,places) read as (places,C): the way back */
    expect_ok(decode_latent(decoded, all, latent, 6, 5));
    expect_image(decoded, "decoded", 48 * 40, 3, 3e-5);

    latent[7] = NAN;
    assert_int_equal(decode_latent(decoded, all, latent, 6, 5), E_NUMERIC);
    picture[5] = INFINITY;
    assert_int_equal(encode_latent(mean, deviation, all, picture, 45, 64), E_NUMERIC);
    assert_int_equal(encode_latent(mean, deviation, all, picture, 7, 64), E_SHAPE);
    free(latent);
}

static void only_what_is_asked_for_is_opened(void **state)
{
    (void)state;
    encoders *e = NULL;
    size_t    before = dev->memory->total;
    expect_ok(encoders_open(&e, dev, DT_F32, FOLDER, NULL, ENCODE_PHRASE));
    assert_true(encoders_sizes(e)->phrase_width == 48 && encoders_sizes(e)->text_width == 0);
    assert_true(encoders_sizes(e)->latent_channels == 0);
    encoders_close(e);
    assert_int_equal(dev->memory->total, before);
}

static void what_is_missing_or_does_not_fit(void **state)
{
    (void)state;
    encoders *e = NULL;
    size_t    before = dev->memory->total;
    assert_int_equal(encoders_open(&e, dev, DT_F32, FOLDER, FOLDER "/vae", ENCODE_TEXT | ENCODE_PICTURE), E_MODEL);
    assert_null(e);
    assert_int_equal(encoders_open(&e, dev, DT_F32, FOLDER "/vae", NULL, ENCODE_TEXT), E_MODEL);
    assert_non_null(strstr(err_message(), "text_encoder"));
    assert_int_equal(encoders_open(&e, dev, DT_F32, FOLDER, NULL, ENCODE_PICTURE), E_USAGE);
    assert_int_equal(dev->memory->total, before);

    assert_int_equal(encoders_check_adapter(all, 48, 48), OK);
    assert_int_equal(encoders_check_adapter(all, 1664, 48), E_MODEL);
    assert_non_null(strstr(err_message(), "ViT-bigG"));
    assert_int_equal(encoders_check_adapter(all, 0, 768), E_MODEL);
    assert_non_null(strstr(err_message(), "hidden_size: found 48"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_as_in_the_pipeline),
        cmocka_unit_test(phrases_are_pooled),
        cmocka_unit_test(pictures),
        cmocka_unit_test(latents_both_ways),
        cmocka_unit_test(only_what_is_asked_for_is_opened),
        cmocka_unit_test(what_is_missing_or_does_not_fit),
    };
    return cmocka_run_group_tests(tests, open_everything, close_everything);
}
