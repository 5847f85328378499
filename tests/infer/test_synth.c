/* A tiny folder written, read back, and run: every network loads strictly, the UNet predicts through `probe`, and the
 * weights are the counter formula's. Whether diffusers and transformers load it: tests/reference/check_synth.py. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "data/counter.h"
#include "data/weights.h"
#include "infer/load_unet.h"
#include "infer/probe.h"
#include "infer/synth.h"

#define FOLDER MSD_TEST_TMP "/synth"

static device *dev;

static void expect_ok(err e)
{
    if (e != OK)
        fail_msg("%s: %s", err_name(e), err_message());
}

static void write_tiny(const char *folder, uint64_t seed, stored_type type)
{
    logger log = {.quiet = true};
    folder_remove(folder);
    expect_ok(synth_write(folder, "tiny", seed, type, &log));
}

static void every_network_loads(void **state)
{
    (void)state;
    arena       memory = {0};
    load_target to = {.owner = &memory, .dev = dev, .type = DT_F32};
    clip_text   text1, text2;
    clip_vision vision;
    vae         autoencoder;
    unet        u;
    write_tiny(FOLDER, 0, STORED_F16);
    expect_ok(load_unet(&u, &to, FOLDER));
    expect_ok(load_vae(&autoencoder, &to, FOLDER));
    expect_ok(load_text_encoder(&text1, &to, FOLDER, false));
    expect_ok(load_text_encoder(&text2, &to, FOLDER, true));
    expect_ok(load_image_encoder(&vision, &to, FOLDER "/image_encoder", true));
    assert_int_equal(u.config.text_width, text1.config.layers.hidden + text2.config.layers.hidden);
    assert_int_equal(u.config.pooled_width, text2.config.projection);
    unet_release(&u);
    vae_release(&autoencoder);
    clip_text_release(&text1);
    clip_text_release(&text2);
    clip_vision_release(&vision);
    arena_free(&memory);
    assert_int_equal(dev->memory->total, 0);
}

static void weights_are_the_formulas(void **state)
{
    (void)state;
    weights    *w;
    weight_view v;
    float       expected[96];
    write_tiny(FOLDER, 0, STORED_F32);
    expect_ok(weights_open_component(&w, FOLDER, "unet"));
    assert_true(w->source.find(&w->source, &v, "down_blocks.1.attentions.0.norm.weight"));
    counter_fill(expected, "unet.down_blocks.1.attentions.0.norm.weight", v.ndim, v.dim);
    assert_memory_equal(expected, v.data, sizeof expected);
    weights_close(w);
    write_tiny(FOLDER, 7, STORED_F32);
    expect_ok(weights_open_component(&w, FOLDER, "unet"));
    assert_true(w->source.find(&w->source, &v, "down_blocks.1.attentions.0.norm.weight"));
    assert_memory_not_equal(expected, v.data, sizeof expected);
    counter_fill(expected, "unet#7.down_blocks.1.attentions.0.norm.weight", v.ndim, v.dim);
    assert_memory_equal(expected, v.data, sizeof expected);
    assert_true(expected[0] > 0.5f); /* still a norm's weight: about 1 */
    weights_close(w);
}

static void a_full_folder_is_refused(void **state)
{
    (void)state;
    logger log = {.quiet = true};
    write_tiny(FOLDER, 0, STORED_BF16);
    assert_int_equal(synth_write(FOLDER, "tiny", 0, STORED_F16, &log), E_USAGE);
    assert_non_null(strstr(err_message(), "exists already"));
    assert_int_equal(synth_write(MSD_TEST_TMP "/none", "huge", 0, STORED_F16, &log), E_USAGE);
    assert_false(folder_exists(MSD_TEST_TMP "/none"));
}

/* ---- probe on it ---- */

static void put(safetensors_writer *w, const char *name, int ndim, const int64_t *dim)
{
    int64_t count = 1;
    for (int i = 0; i < ndim; i++)
        count *= dim[i];
    float *value = heap_get((size_t)count * sizeof *value);
    counter_uniform(value, name, 0, count);
    for (int64_t i = 0; i < count && !strcmp(name, "boxes"); i++)
        value[i] = i % 4 == 2 ? 0.75f : (float)(i % 4 == 3); /* (0, 0, 0.75, 1) */
    expect_ok(safetensors_write_f32(w, value));
    free(value);
}

typedef struct row {
    const char *name;
    int         ndim;
    int64_t     dim[4];
} row;

static void write_inputs(const char *path, const row *rows, size_t count)
{
    safetensors_writer *w;
    expect_ok(safetensors_create(&w, path));
    for (size_t i = 0; i < count; i++)
        safetensors_declare(w, rows[i].name, STORED_F32, rows[i].ndim, rows[i].dim);
    for (size_t i = 0; i < count; i++)
        put(w, rows[i].name, rows[i].ndim, rows[i].dim);
    expect_ok(safetensors_publish(w));
}

static const probe_module *const modules[] = {&probe_module_unet, &probe_module_resampler};

static probe_options options(const char *const *set, int sets)
{
    return (probe_options){.module = "unet",
                           .model = FOLDER,
                           .in = MSD_TEST_TMP "/in.safetensors",
                           .set = set,
                           .sets = sets,
                           .out = MSD_TEST_TMP "/out.safetensors",
                           .dev = dev,
                           .type = DT_F32};
}

static void probe_predicts(void **state)
{
    (void)state;
    static const row rows[] = {
        {"sample", 4, {2, 4, 6, 10}}, {"timestep", 1, {2}},    {"encoder_hidden_states", 3, {2, 7, 128}},
        {"text_embeds", 2, {2, 64}},  {"time_ids", 2, {2, 6}}, {"unknown", 1, {3}}};
    write_tiny(FOLDER, 0, STORED_F16);
    write_inputs(MSD_TEST_TMP "/in.safetensors", rows, sizeof rows / sizeof *rows);
    probe_options o = options(NULL, 0);
    expect_ok(probe_run(&o, modules, 2));
    safetensors *out;
    expect_ok(safetensors_open(&out, o.out));
    const stored_tensor *t = tensor_table_find(&out->tensors, "noise_pred");
    assert_non_null(t);
    assert_int_equal(out->tensors.count, 1);
    assert_int_equal(t->dim[1], 4);
    assert_int_equal(t->dim[3], 10);
    float sum = 0;
    for (int64_t i = 0; i < t->count; i++) {
        float value;
        memcpy(&value, t->data + 4 * i, sizeof value);
        assert_true(value == value && value < 100 && value > -100);
        sum += value * value;
    }
    assert_true(sum / (float)t->count > 1e-3f); /* not constant */
    safetensors_close(out);
    assert_int_equal(dev->memory->total, 0);
}

static void expect_refusal(const probe_options *o, err code, const char *said)
{
    remove(o->out ? o->out : "");
    assert_int_equal(probe_run(o, modules, 2), code);
    if (!strstr(err_message(), said))
        fail_msg("'%s' is not in: %s", said, err_message());
    assert_false(o->out && file_exists(o->out));
}

static void probe_says_what_is_wrong(void **state)
{
    (void)state;
    static const row rows[] = {
        {"sample", 4, {2, 4, 6, 10}}, {"timestep", 1, {3}}, {"text_embeds", 2, {2, 64}}, {"time_ids", 2, {2, 5}}};
    static const char *const typo[] = {"scael=1"}, *const words[] = {"scale=big"};
    write_inputs(MSD_TEST_TMP "/in.safetensors", rows, sizeof rows / sizeof *rows);
    probe_options o = options(NULL, 0);
    expect_refusal(&o, E_SHAPE,
                   "timestep: found (3), expected (B) with B = 2; encoder_hidden_states: missing, expected (B,T,X) "
                   "with B = 2; time_ids: found (2,5), expected (B,6) with B = 2");
    o = options(typo, 1);
    expect_refusal(&o, E_USAGE, "scael=1: unet has no such setting, did you mean scale");
    o = options(NULL, 0);
    o.module = "unit";
    expect_refusal(&o, E_USAGE, "unknown module unit; there are unet, resampler");
    o.module = "resampler";
    expect_refusal(&o, E_USAGE, "probe resampler needs --adapter FILE");
    o = options(NULL, 0);
    o.in = NULL;
    expect_refusal(&o, E_USAGE, "probe unet needs --in FILE");
    static const row good[] = {{"sample", 4, {1, 4, 6, 6}},
                               {"timestep", 1, {1}},
                               {"encoder_hidden_states", 3, {1, 7, 96}},
                               {"text_embeds", 2, {1, 64}},
                               {"time_ids", 2, {1, 6}}};
    write_inputs(MSD_TEST_TMP "/in.safetensors", good, sizeof good / sizeof *good);
    o = options(words, 1);
    expect_refusal(&o, E_USAGE, "--set scale=big: expected a number");
    o = options(NULL, 0);
    expect_refusal(&o, E_SHAPE, "encoder_hidden_states: got (1,7,96), expected (*,*,128)");
}

/* ---- with an adapter ---- */

typedef struct listing {
    tensor *at[256];
    int     count;
} listing;

static void list(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    listing *l = bind_user(b);
    (void)path, (void)kind, (void)ndim, (void)dim;
    assert_true(l->count < 256);
    l->at[l->count++] = *slot;
}

/* A new adapter for the tiny UNet, as a file. */
static void write_adapter(const char *path)
{
    arena               memory = {0};
    load_target         to = {.owner = &memory, .dev = dev, .type = DT_F32};
    unet                u;
    ms_adapter          a;
    listing             l = {0};
    safetensors_writer *w;
    resampler_sizes     sizes = {.dim = 64, .depth = 1, .heads = 3, .queries = 2, .image_width = 48, .phrase_width = 48,
                                 .hidden_width = 256, .out_width = 128};
    expect_ok(load_unet(&u, &to, FOLDER));
    expect_ok(adapter_new(&a, &memory, dev, &sizes, &u, 1));
    adapter_walk(&a, list, &l);
    expect_ok(safetensors_create(&w, path));
    for (int i = 0; i < l.count; i++)
        safetensors_declare(w, l.at[i]->name, STORED_F32, l.at[i]->ndim, l.at[i]->dim);
    for (int i = 0; i < l.count; i++)
        expect_ok(safetensors_write_f32(w, l.at[i]->data));
    expect_ok(safetensors_publish(w));
    adapter_release(&a);
    unet_release(&u);
    arena_free(&memory);
}

static float *read_output(arena *memory, const char *path, const char *name, int64_t *count)
{
    safetensors *file;
    expect_ok(safetensors_open(&file, path));
    const stored_tensor *t = tensor_table_find(&file->tensors, name);
    assert_non_null(t);
    float *out = arena_get(memory, t->bytes);
    memcpy(out, t->data, t->bytes);
    *count = t->count;
    safetensors_close(file);
    return out;
}

static void probe_takes_an_adapter(void **state)
{
    (void)state;
    static const row rows[] = {
        {"sample", 4, {1, 4, 8, 6}}, {"timestep", 1, {1}},    {"encoder_hidden_states", 3, {1, 7, 128}},
        {"text_embeds", 2, {1, 64}}, {"time_ids", 2, {1, 6}}, {"ip_tokens", 3, {1, 4, 128}},
        {"boxes", 3, {1, 2, 4}}};
    static const char *const off[] = {"scale=0"}, *const stronger[] = {"scale=0.5", "scale=2"};
    static const struct {
        const char *const *set;
        int                sets;
    } run[5] = {{NULL, 0}, {NULL, 0}, {off, 1}, {stronger, 2}, {stronger + 1, 1}}; /* the first without adapter */
    arena   memory = {0};
    int64_t count;
    float  *picture[5];
    write_tiny(FOLDER, 0, STORED_F16);
    write_adapter(MSD_TEST_TMP "/adapter.safetensors");
    write_inputs(MSD_TEST_TMP "/in.safetensors", rows, sizeof rows / sizeof *rows);
    for (int i = 0; i < 5; i++) {
        probe_options o = options(run[i].set, run[i].sets);
        o.adapter = i ? MSD_TEST_TMP "/adapter.safetensors" : NULL;
        expect_ok(probe_run(&o, modules, 2));
        picture[i] = read_output(&memory, o.out, "noise_pred", &count);
    }
    size_t bytes = (size_t)count * sizeof(float);
    assert_memory_not_equal(picture[0], picture[1], bytes);
    assert_memory_not_equal(picture[1], picture[3], bytes);
    assert_memory_equal(picture[4], picture[3], bytes); /* the last scale counts */
    for (int64_t i = 0; i < count; i++)
        assert_true(picture[0][i] - picture[2][i] < 1e-5f && picture[2][i] - picture[0][i] < 1e-5f);

    static const row wrong_boxes[] = {
        {"sample", 4, {1, 4, 8, 6}}, {"timestep", 1, {1}},      {"encoder_hidden_states", 3, {1, 7, 128}},
        {"text_embeds", 2, {1, 64}}, {"time_ids", 2, {1, 6}},   {"ip_tokens", 3, {1, 4, 128}},
        {"boxes", 3, {1, 2, 5}},     {"subject_scales", 1, {3}}};
    write_inputs(MSD_TEST_TMP "/in.safetensors", wrong_boxes, sizeof wrong_boxes / sizeof *wrong_boxes);
    probe_options wrong = options(NULL, 0);
    wrong.adapter = MSD_TEST_TMP "/adapter.safetensors";
    expect_refusal(&wrong, E_SHAPE, "boxes: found (1,2,5), expected (B,S,4) with B = 1");
    assert_null(strstr(err_message(), "subject_scales")); /* S is not known from a tensor that does not fit */

    static const row resampler_rows[] = {
        {"image_hidden", 3, {3, 5, 48}}, {"phrase_embeds", 2, {3, 48}}, {"boxes", 2, {3, 4}}};
    write_inputs(MSD_TEST_TMP "/in.safetensors", resampler_rows, 3);
    probe_options o = options(NULL, 0);
    o.module = "resampler";
    o.model = NULL;
    o.adapter = MSD_TEST_TMP "/adapter.safetensors";
    expect_refusal(&o, E_SHAPE, "drop_grounding_tokens: missing, expected (R) with R = 3");
    static const row fractions[] = {{"image_hidden", 3, {3, 5, 48}},
                                    {"phrase_embeds", 2, {3, 48}},
                                    {"boxes", 2, {3, 4}},
                                    {"drop_grounding_tokens", 1, {3}}};
    write_inputs(MSD_TEST_TMP "/in.safetensors", fractions, 4);
    expect_refusal(&o, E_FORMAT, "drop_grounding_tokens");
    arena_free(&memory);
    assert_int_equal(dev->memory->total, 0);
}

static int setup(void **state)
{
    (void)state;
    return folder_make(MSD_TEST_TMP) != OK || device_open_cpu(&dev, 2) != OK;
}

static int teardown(void **state)
{
    (void)state;
    folder_remove(FOLDER);
    device_close(dev);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_network_loads), cmocka_unit_test(weights_are_the_formulas),
        cmocka_unit_test(a_full_folder_is_refused), cmocka_unit_test(probe_predicts),
        cmocka_unit_test(probe_says_what_is_wrong), cmocka_unit_test(probe_takes_an_adapter),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
