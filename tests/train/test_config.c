#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "train/config.h"

static arena memory;
static char *folder;

static const char minimal[] = "model: {base: sdxl/, image_encoder: bigG/}\ndata: {manifest: data.jsonl}\n";

static char *put(const char *name, const char *text)
{
    char *path = path_join(folder, name), *kept = arena_copy_string(&memory, path);
    file_writer *w;
    assert_int_equal(file_create(&w, path), OK);
    assert_int_equal(file_write(w, text, strlen(text)), OK);
    assert_int_equal(file_publish(w), OK);
    free(path);
    return kept;
}

static run_config *load(problems *p, const char *text, const char *set)
{
    *p = (problems){.memory = &memory};
    run_config *c;
    err result = run_config_load(&c, &memory, p, put("RUN.yaml", text), &set, set ? 1 : 0);
    assert_int_equal(result != OK, p->errors != 0);
    return c;
}

static int set_up(void **state)
{
    (void)state;
    folder = path_join(MSD_TEST_TMP, "config");
    return folder_make(folder) != OK;
}

static int tear_down(void **state)
{
    (void)state;
    folder_remove(folder);
    free(folder);
    arena_free(&memory);
    return 0;
}

static void test_defaults(void **state)
{
    (void)state;
    problems p;
    run_config *c = load(&p, minimal, NULL);
    assert_int_equal(p.errors, 0);
    assert_string_equal(c->model.base, arena_print(&memory, "%s/sdxl", folder));
    assert_string_equal(c->data.manifest, arena_print(&memory, "%s/data.jsonl", folder));
    assert_string_equal(c->output.dir, arena_print(&memory, "%s/runs/one", folder));
    assert_null(c->model.adapter);
    assert_null(c->data.cache);
    assert_null(c->output.samples);
    assert_int_equal(c->adapter.dim, 1280);
    assert_int_equal(c->adapter.queries, 16);
    assert_int_equal(c->data.resolution, 512);
    assert_int_equal(c->data.crop, CROP_CENTER);
    assert_int_equal(c->data.max_subjects, 4);
    assert_true(c->data.drop.text == 0.05 && c->data.drop.grounding == 0.10);
    assert_int_equal(c->train.steps, 10000);
    assert_int_equal(c->train.batch_size, 8);
    assert_true(c->train.max_grad_norm == 1.0 && c->train.ema == 0);
    assert_true(c->optimizer.lr == 1e-4 && c->optimizer.weight_decay == 0.01 && c->optimizer.eps == 1e-8);
    assert_true(c->optimizer.betas[0] == 0.9 && c->optimizer.betas[1] == 0.999);
    assert_int_equal(c->output.checkpoint_every, 500);
    assert_int_equal(c->output.keep, 3);
    assert_int_equal(c->device.kind, CONFIG_DEVICE_AUTO);
}

/* The block of the documentation, word for word: every default is accepted as it stands. */
static void test_documented_block(void **state)
{
    (void)state;
    static const char block[] =
        "model:     {base: sdxl/, image_encoder: bigG/, adapter: null}      # adapter: a file to fine-tune from\n"
        "adapter:   {dim: 1280, depth: 4, heads: 20, queries: 16}           # of a new one\n"
        "data:      {manifest: data.jsonl, validation: null, resolution: 512, crop: center, buckets: off, "
        "max_subjects: 4, cache: off, "
        "cache_dtype: auto,\n"
        "            drop: {text: 0.05, image: 0.05, both: 0.05, grounding: 0.10}}   # crop: center|random; cache: "
        "off|DIR\n"
        "train:     {steps: 10000, batch_size: 8, accumulation: 1, seed: 0, max_grad_norm: 1.0, "
        "activation_checkpointing: off, memory: "
        "null, ema: off}\n"
        "optimizer: {kind: adamw, lr: 1e-4, weight_decay: 0.01, betas: [0.9, 0.999], eps: 1e-8, schedule: constant, "
        "warmup: 0}\n"
        "output:    {dir: runs/one, checkpoint_every: 500, keep: 3, sample_every: 500, samples: null}\n"
        "device:    {kind: auto, dtype: auto, graphs: on}\n";
    problems p;
    run_config *c = load(&p, block, NULL);
    assert_int_equal(p.count, 0);
    problems q;
    run_config *d = load(&q, minimal, NULL);
    assert_string_equal(run_config_text(&memory, c), run_config_text(&memory, d));
}

/* One mistake each, on line 3: the message must name key and reason. */
static void test_mistakes(void **state)
{
    (void)state;
    static const char *const row[][2] = {
        {"train: {steps: \"8\"}", "train.steps: found \"8\" (a string), expected a whole number"},
        {"train: {steps: 1.5}", "train.steps: found 1.5"},
        {"train: {steps: true}", "train.steps: found true"},
        {"train: {steps: 0}", "train.steps: found 0"},
        {"train: {steps: 2147483648}", "below 2147483648"},
        {"train: {batch_size: -1}", "train.batch_size: found -1"},
        {"train: {accumulation: 0}", "train.accumulation: found 0"},
        {"train: {seed: 9223372036854775808}", "train.seed: found 9223372036854775808"},
        {"train: {stepz: 8}", "train.stepz: unknown key; did you mean train.steps?"},
        {"trian: {steps: 8}", "trian: unknown key; did you mean train?"},
        {"train: 8", "train: found 8, expected a map of keys"},
        {"train: {part: unet}", "train.part: found unet, expected all, resampler or kv"},
        {"train: {timesteps: [0, 0]}", "train.timesteps: found [0, 0], expected two whole numbers, the first below the second"},
        {"train: {timesteps: [0.5, 9]}", "train.timesteps: found [0.5, 9]"},
        {"train: {timesteps: [-1, 9]}", "train.timesteps: found -1"},
        {"train: {timesteps: some}", "train.timesteps: found some"},
        {"train: {min_snr: -5}", "train.min_snr: found -5"},
        {"train: {noise_offset: 11}", "train.noise_offset: found 11"},
        {"train: {max_bad_steps: 0}", "train.max_bad_steps: found 0"},
        {"optimizer: {lr_kv: 0}", "optimizer.lr_kv: found 0"},
        {"optimizer: {decay_norms: some}", "expected off or on"},
        {"train: {ema: 2}", "train.ema: found 2, expected a number from"},
        {"train: {memory: much}", "train.memory: found much, expected bytes as 20GiB or 512MB, or null"},
        {"train: {activation_checkpointing: maybe}", "expected off, on or auto"},
        {"optimizer: {lr: 0}", "optimizer.lr: found 0"},
        {"optimizer: {lr: .nan}", "optimizer.lr: found .nan"},
        {"optimizer: {lr: 1e400}", "optimizer.lr: found 1e400"},
        {"optimizer: {betas: [0.9, 1.0]}", "optimizer.betas: found 1.0"},
        {"optimizer: {betas: 0.9}", "a list of 2 numbers"},
        {"optimizer: {kind: sgd}", "optimizer.kind: found sgd, expected adamw or adamw8bit"},
        {"optimizer: {schedule: cosin}", "did you mean cosine?"},
        {"optimizer: {schedule: linear, warmup: 10000}", "optimizer.warmup: found 10000, expected fewer than"},
        {"output: {dir: .}", "output.dir: "},
        {"output: {dir: \"a\\nb\"}", "output.dir: found \"a\\x0Ab\""},
        {"output: {checkpoint_every: -1}", "output.checkpoint_every: found -1"},
        {"device: {kind: gpu}", "expected auto, cpu or cuda"},
        {"adapter: {heads: 0}", "adapter.heads: found 0"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        problems p;
        run_config *c = load(&p, arena_print(&memory, "%s%s\n", minimal, row[i][0]), NULL);
        if (p.errors != 1 || p.item[0].line != 3 || !strstr(p.item[0].text, row[i][1]) || p.worst != E_CONFIG || !c)
            fail_msg("%s: %lld errors, line %lld: %s", row[i][0], (long long)p.errors,
                     p.count ? (long long)p.item[0].line : -1, p.count ? p.item[0].text : "");
    }
}

static void test_mistakes_of_data(void **state)
{
    (void)state;
    static const char *const row[][2] = {
        {"resolution: 510", "data.resolution: found 510, expected a multiple of 8; 504 is"},
        {"resolution: 1000000", "data.resolution: found 1000000"},
        {"crop: corner", "expected center or random"},
        {"buckets: sdxl", "expected off or on"},
        {"bad_samples: keep", "expected fatal or skip"},
        {"cache_dtype: f8", "expected auto, f32, bf16 or f16"},
        {"max_subjects: 0", "data.max_subjects: found 0"},
        {"drop: {text: 1.5}", "data.drop.text: found 1.5"},
        {"drop: {txet: 0.5}", "data.drop.txet: unknown key; did you mean data.drop.text?"},
        {"drop: [0.5]", "data.drop: found a list of 1"},
        {"augment: {flip: 2}", "data.augment.flip: found 2"},
        {"augment: {rotate: 200}", "data.augment.rotate: found 200"},
        {"augment: {crop: 1}", "data.augment.crop: found 1"},
        {"augment: {color: 0.1}", "data.augment.color: unknown key; did you mean data.augment.colour?"},
        {"cache: there, augment: {flip: 0.5}", "data.augment.flip: 0.5 together with data.cache"},
        {"drop: {text: 0.5, image: 0.4, both: 0.2}", "text + image + both is 1.1"},
        {"manifest: other.jsonl", "manifest: given twice, first on line 1"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        problems p;
        load(&p,
             arena_print(&memory, "data: {manifest: data.jsonl, %s}\nmodel: {base: a, image_encoder: b}\n", row[i][0]),
             NULL);
        if (p.errors != 1 || p.item[0].line != 1 || !strstr(p.item[0].text, row[i][1]))
            fail_msg("%s: %lld errors, line %lld: %s", row[i][0], (long long)p.errors,
                     p.count ? (long long)p.item[0].line : -1, p.count ? p.item[0].text : "");
    }
}

static void test_all_at_once(void **state)
{
    (void)state;
    problems p;
    run_config *c = load(&p, "model: {base: sdxl/}\ndata:\n  manifest: d.jsonl\n  resolution: 7\ntrain:\n  steps: x\n",
                         "train.seed=x");
    assert_int_equal(p.errors, 4);
    assert_string_equal(c->data.manifest, arena_print(&memory, "%s/d.jsonl", folder)); /* what was good is there */
    assert_null(c->model.image_encoder);
    assert_int_equal(c->train.steps, 10000);
    char *printed;
    size_t size;
    FILE *out = open_memstream(&printed, &size);
    assert_int_equal(problems_report(&p, out, 50), E_CONFIG);
    fclose(out);
    assert_non_null(strstr(printed, "RUN.yaml:4: data.resolution: found 7"));
    assert_non_null(strstr(printed, "RUN.yaml:1: model.image_encoder: missing"));
    assert_non_null(strstr(printed, "RUN.yaml:6: train.steps: found x"));
    assert_non_null(strstr(printed, "--set train.seed=x: train.seed: found x"));
    free(printed);
}

static void test_set(void **state)
{
    (void)state;
    problems p;
    run_config *c = load(&p, minimal, "train.steps=20");
    assert_int_equal(c->train.steps, 20);
    c = load(&p, minimal, "data.drop={text: 0, image: 0, both: 0, grounding: 0}");
    assert_int_equal(p.errors, 0);
    assert_true(c->data.drop.grounding == 0);
    c = load(&p, minimal, "output.dir=elsewhere");
    assert_string_equal(c->output.dir, arena_print(&memory, "%s/elsewhere", folder));
    load(&p, minimal, "train.stepz=20");
    assert_int_equal(p.errors, 1);
    assert_string_equal(p.item[0].file, "--set train.stepz=20");
    load(&p, minimal, "train.steps");
    assert_int_equal(p.worst, E_USAGE);
}

static void test_no_config_at_all(void **state)
{
    (void)state;
    problems p = {.memory = &memory};
    run_config *c;
    assert_int_equal(run_config_load(&c, &memory, &p, arena_print(&memory, "%s/none.yaml", folder), NULL, 0), E_CONFIG);
    assert_null(c);
    load(&p, "", NULL); /* an empty file lacks the three keys without defaults */
    assert_int_equal(p.errors, 3);
    assert_null(load(&p, "just words\n", NULL));
    assert_null(load(&p, "a: [\n", NULL));
}

static void test_written_and_read_again(void **state)
{
    (void)state;
    problems p;
    run_config *c =
        load(&p,
             "model: {base: \"s d:x #l\", image_encoder: 'b\"G', adapter: ../a.bin}\ndata: {manifest: x/../d.jsonl}\n"
             "optimizer: {lr: 3e-5, betas: [0.85, 0.995], schedule: cosine, warmup: 7, kind: "
             "adamw8bit, lr_kv: 2e-5, decay_norms: off}\ntrain: {steps: 50, seed: 9223372036854775807, ema: 0.9999, part: kv, "
             "timesteps: [200, 1000], min_snr: 5, noise_offset: 0.05, max_bad_steps: 3}\n",
             NULL);
    assert_int_equal(p.errors, 0);
    char *text = run_config_text(&memory, c);
    char *elsewhere = path_join(MSD_TEST_TMP, "config/deep");
    assert_int_equal(folder_make(elsewhere), OK);
    char *path = put("deep/config.yaml", text);
    run_config *again;
    assert_int_equal(run_config_load(&again, &memory, &p, path, NULL, 0), OK);
    assert_string_equal(run_config_text(&memory, again), text);
    assert_int_equal(again->train.seed, INT64_MAX);
    assert_true(again->train.timesteps[0] == 200 && again->train.timesteps[1] == 1000 && again->train.part == TRAIN_KV);
    assert_true(again->train.ema == 0.9999 && again->train.min_snr == 5 && again->train.noise_offset == 0.05);
    assert_true(again->optimizer.kind == OPTIMIZER_ADAMW8BIT && again->optimizer.lr_kv == 2e-5 && !again->optimizer.decay_norms);
    assert_true(again->optimizer.lr_resampler == 0);
    assert_true(again->optimizer.lr == 3e-5);
    assert_int_equal(run_config_resumes(c, again, NULL, 0), OK);
    assert_non_null(strstr(text, "data:\n"));
    assert_non_null(strstr(text, "  drop:\n    text: 0.05\n"));
    free(elsewhere);
}

static void test_relative_run_file(void **state)
{
    (void)state;
    put("RUN.yaml", minimal);
    char here[4096];
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(folder), 0);
    problems p = {.memory = &memory};
    run_config *c;
    err result = run_config_load(&c, &memory, &p, "./RUN.yaml", NULL, 0);
    assert_int_equal(chdir(here), 0);
    assert_int_equal(result, OK);
    assert_int_equal(c->data.manifest[0], '/');
    assert_null(strstr(c->data.manifest, "./"));
}

static void test_resume_rules(void **state)
{
    (void)state;
    static const char *const lr[] = {"optimizer.lr"}, *const steps[] = {"train.steps"},
                             *const unknown[] = {"optimizer.rl"};
    problems p;
    run_config *a = load(&p, minimal, NULL), *b = load(&p, minimal, "train.steps=20");
    assert_int_equal(run_config_resumes(a, b, NULL, 0), OK);
    assert_int_equal(run_config_resumes(a, load(&p, minimal, "output={dir: x, keep: 9}"), NULL, 0), OK);
    assert_int_equal(run_config_resumes(a, load(&p, minimal, "device.kind=cpu"), NULL, 0), OK);
    b = load(&p, minimal, "optimizer.lr=0.001");
    assert_int_equal(run_config_resumes(a, b, NULL, 0), E_CONFIG);
    assert_non_null(strstr(err_message(), "optimizer.lr (0.0001, now 0.001)"));
    assert_int_equal(run_config_resumes(a, b, lr, 1), OK);
    assert_int_equal(run_config_resumes(a, b, steps, 1), E_CONFIG);
    assert_int_equal(run_config_resumes(a, b, unknown, 1), E_USAGE);
    assert_non_null(strstr(err_message(), "did you mean optimizer.lr?"));
    a = load(&p, minimal, "optimizer.schedule=linear");
    b = load(&p, minimal, "optimizer={schedule: linear}");
    assert_int_equal(run_config_resumes(a, b, NULL, 0), OK);
    b->train.steps = 5;
    assert_int_equal(run_config_resumes(a, b, NULL, 0), E_CONFIG);
    assert_int_equal(run_config_resumes(a, b, steps, 1), OK);
    b = load(&p, minimal, "data={manifest: other.jsonl, cache_dtype: f32}");
    assert_int_equal(run_config_resumes(load(&p, minimal, NULL), b, NULL, 0), E_CONFIG);
    assert_non_null(strstr(err_message(), "data.manifest ("));
    assert_non_null(strstr(err_message(), "data.cache_dtype (auto, now f32)"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_defaults),
        TEST(test_documented_block),
        TEST(test_mistakes),
        TEST(test_mistakes_of_data),
        TEST(test_set),
        TEST(test_all_at_once),
        TEST(test_no_config_at_all),
        TEST(test_resume_rules),
        TEST(test_written_and_read_again),
        TEST(test_relative_run_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
