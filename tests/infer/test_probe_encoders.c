/* The probe modules of the encoders on the tiny folder, file to file: names, layouts and values (of diffusers and
 * transformers, tests/reference/make_encode.py). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/device.h"
#include "base/file.h"
#include "base/json.h"
#include "data/counter.h"
#include "data/safetensors.h"
#include "data/tokenizer.h"
#include "infer/probe.h"
#include "infer/synth.h"
#include "tests/test_device.h"
#include "tests/test_values.h"

#define FOLDER MSD_TEST_TMP "/probe_encoders"
#define IN     FOLDER "/in.safetensors"
#define OUT    FOLDER "/out.safetensors"

static device      *dev;
static safetensors *golden;

static void expect_ok(err e)
{
    if (e != OK)
        fail_msg("%s: %s", err_name(e), err_message());
}

static int make_folder(void **state)
{
    (void)state;
    logger log = {.quiet = true};
    folder_remove(FOLDER);
    expect_ok(test_device_open(&dev, 2));
    expect_ok(synth_write(FOLDER, "tiny", 0, STORED_F32, &log));
    expect_ok(safetensors_open(&golden, MSD_GOLDENS "/encode_tiny.safetensors"));
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    safetensors_close(golden);
    device_close(dev);
    folder_remove(FOLDER);
    return 0;
}

static void write_input(const char *name, stored_type type, const void *data, int ndim, const int64_t *dim)
{
    safetensors_writer *w = NULL;
    int64_t count;
    size_t  bytes;
    expect_ok(safetensors_create(&w, IN));
    safetensors_declare(w, name, type, ndim, dim);
    assert_true(stored_size(&count, &bytes, type, ndim, dim));
    expect_ok(safetensors_write(w, data, bytes));
    expect_ok(safetensors_publish(w));
}

static safetensors *run(const char *module)
{
    static const probe_module *const modules[] = {
        &probe_module_text_encoder, &probe_module_text_encoder_2, &probe_module_image_encoder,
        &probe_module_vae_encode, &probe_module_vae_decode};
    probe_options options = {.module = module, .model = FOLDER, .image_encoder = FOLDER "/image_encoder", .in = IN,
                             .out = OUT, .dev = dev, .type = DT_F32};
    safetensors *out = NULL;
    expect_ok(probe_run(&options, modules, 5));
    expect_ok(safetensors_open(&out, OUT));
    assert_int_equal(dev->memory->total, 0);
    return out;
}

/* An output by name, of this shape, all finite. */
static const float *output(const safetensors *out, const char *name, int ndim, const int64_t *dim)
{
    const stored_tensor *t = tensor_table_find(&out->tensors, name);
    if (!t)
        fail_msg("no output '%s'", name);
    assert_int_equal(t->type, STORED_F32);
    assert_int_equal(t->ndim, ndim);
    for (int i = 0; i < ndim; i++)
        assert_int_equal(t->dim[i], dim[i]);
    const float *value = (const float *)(const void *)t->data;
    for (int64_t i = 0; i < t->count; i++)
        assert_true(isfinite(value[i]));
    return value;
}

/* rows x width numbers against columns [at, at + width) of the golden's rows, which are `stride` wide */
static void expect_columns(const float *ours, const char *name, int64_t rows, int64_t width, int64_t stride, int64_t at,
                           double tolerance)
{
    const stored_tensor *t = tensor_table_find(&golden->tensors, name);
    const float *ref = (const float *)(const void *)t->data;
    double error = 0, size = 0;
    test_values_note(name, ours, NULL, rows * width);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < width; c++) {
            double want = (double)ref[r * stride + at + c], d = (double)ours[r * width + c] - want;
            error += d * d;
            size += want * want;
        }
    }
    print_message("%-16s %6.2f %% of tolerance %.0e\n", name, 100 * sqrt(error / size) / tolerance, tolerance);
    assert_true(sqrt(error / size) <= tolerance);
}

/* ids of the golden's first prompt, as i64, which torch's users write */
static void write_ids(const char *tokenizer_folder)
{
    tokenizer  *t = NULL;
    json_t     *list = NULL;
    int32_t     narrow[TOKENIZER_LENGTH];
    int64_t     ids[TOKENIZER_LENGTH];
    const char *text = safetensors_metadata(golden, "prompts");
    expect_ok(json_text_parse(&list, text, strlen(text), "prompts", JSON_KEEP_LAST));
    expect_ok(tokenizer_open(&t, tokenizer_folder));
    const char *prompt = json_string_value(json_array_get(list, 0));
    expect_ok(tokenizer_encode_padded(narrow, NULL, t, prompt, strlen(prompt)));
    for (int i = 0; i < TOKENIZER_LENGTH; i++)
        ids[i] = narrow[i];
    tokenizer_close(t);
    json_decref(list);
    write_input("input_ids", STORED_I64, ids, DIMS(1, TOKENIZER_LENGTH));
}

static void text_encoder(void **state)
{
    (void)state;
    write_ids(FOLDER "/tokenizer");
    safetensors *out = run("text_encoder");
    const float *hidden = output(out, "hidden_states_penultimate", DIMS(1, 77, 48));
    expect_columns(hidden, "prompt_hidden", 77, 48, 128, 0, 1e-5);
    output(out, "last_hidden_state", DIMS(1, 77, 48));
    output(out, "pooler_output", DIMS(1, 48));
    assert_int_equal(out->tensors.count, 3);
    safetensors_close(out);
}

static void text_encoder_2(void **state)
{
    (void)state;
    write_ids(FOLDER "/tokenizer_2");
    safetensors *out = run("text_encoder_2");
    const float *hidden = output(out, "hidden_states_penultimate", DIMS(1, 77, 80));
    expect_columns(hidden, "prompt_hidden", 77, 80, 128, 48, 1e-5);
    expect_columns(output(out, "text_embeds", DIMS(1, 64)), "prompt_pooled", 1, 64, 64, 0, 1e-5);
    output(out, "last_hidden_state", DIMS(1, 77, 80));
    assert_int_equal(out->tensors.count, 3);
    safetensors_close(out);
}

static void image_encoder(void **state)
{
    (void)state;
    static float pixels[3 * 112 * 112];
    counter_uniform(pixels, "pixel_values", 0, 3 * 112 * 112);
    for (size_t i = 0; i < 3 * 112 * 112; i++)
        pixels[i] *= 2;
    write_input("pixel_values", STORED_F32, pixels, DIMS(1, 3, 112, 112));
    safetensors *out = run("image_encoder");
    const float *hidden = output(out, "hidden_states_penultimate", DIMS(1, 65, 48));
    expect_columns(hidden, "picture_hidden", 65, 48, 48, 0, 1e-5);
    output(out, "image_embeds", DIMS(1, 32));
    assert_int_equal(out->tensors.count, 2);
    safetensors_close(out);
}

static void vae_both_ways(void **state)
{
    (void)state;
    static float sample[3 * 45 * 64], latent[4 * 6 * 5];
    counter_uniform(sample, "picture", 0, 3 * 45 * 64);
    write_input("sample", STORED_F32, sample, DIMS(1, 3, 45, 64));
    safetensors *out = run("vae_encode");
    expect_columns(output(out, "mean", DIMS(1, 4, 5, 8)), "mean", 1, 160, 160, 0, 1e-5);
    const float *logvar = output(out, "logvar", DIMS(1, 4, 5, 8));
    float deviation[160];
    for (int i = 0; i < 160; i++)
        deviation[i] = expf(0.5f * logvar[i]);
    expect_columns(deviation, "deviation", 1, 160, 160, 0, 1e-5);
    assert_int_equal(out->tensors.count, 2);
    safetensors_close(out);

    counter_uniform(latent, "latent", 0, 120);
    for (int i = 0; i < 120; i++)
        latent[i] /= 0.13025f;
    write_input("latent", STORED_F32, latent, DIMS(1, 4, 6, 5));
    out = run("vae_decode");
    expect_columns(output(out, "sample", DIMS(1, 3, 48, 40)), "decoded", 1, 3 * 48 * 40, 3 * 48 * 40, 0, 3e-5);
    safetensors_close(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_encoder),
        cmocka_unit_test(text_encoder_2),
        cmocka_unit_test(image_encoder),
        cmocka_unit_test(vae_both_ways),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
