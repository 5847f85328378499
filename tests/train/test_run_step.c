/* One step of a whole run on a tiny model: what is skipped changes nothing, averages follow their formula, and the parts of
 * the adapter are trained as the config says. */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "infer/synth.h"
#include "train/demo_data.h"
#include "train/run_step.h"

static const char *const folder = MSD_TEST_TMP "/run_step";
static logger quiet = {.quiet = true};

enum { MOST_SETS = 8 };

typedef struct bench {
    run           r;
    train_options options;
    FILE         *printed; /* warnings */
    char         *text;
    size_t        size;
    logger        log;
} bench;

static void put(const char *path, const char *text)
{
    file_writer *w;
    assert_int_equal(file_create(&w, path), OK);
    assert_int_equal(file_write(w, text, strlen(text)), OK);
    assert_int_equal(file_publish(w), OK);
}

static int make_folder(void **state)
{
    (void)state;
    folder_remove(folder);
    if (folder_make(folder) != OK || synth_write(MSD_TEST_TMP "/run_step/tiny", "tiny", 0, STORED_F32, &quiet) != OK ||
        demo_data_write(MSD_TEST_TMP "/run_step/data", NULL, 4, 0, &quiet) != OK)
        fail_msg("%s", err_message());
    put(MSD_TEST_TMP "/run_step/run.yaml",
        "model: {base: tiny, image_encoder: tiny/image_encoder}\nadapter: {dim: 64, depth: 1, heads: 1, queries: 4}\n"
        "data: {manifest: data/data.jsonl, resolution: 64, drop: {text: 0, image: 0, both: 0, grounding: 0}}\n"
        "train: {steps: 9, batch_size: 2}\noptimizer: {lr: 1e-3}\noutput: {dir: out}\n");
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

/* set: NULL at the end */
static void bench_open(bench *b, const char *const *set)
{
    bool finished = false;
    int  sets = 0;
    while (set[sets])
        sets++;
    *b = (bench){0};
    b->printed = open_memstream(&b->text, &b->size);
    b->log = (logger){.stream = b->printed, .quiet = true};
    b->options = (train_options){.config = MSD_TEST_TMP "/run_step/run.yaml", .set = set, .sets = sets, .threads = 2};
    if (run_open(&b->r, &finished, &b->options, NULL, &b->log) != OK)
        fail_msg("%s", err_message());
}

static void bench_close(bench *b)
{
    run_close(&b->r);
    fclose(b->printed);
    free(b->text);
}

static void good_step(bench *b)
{
    step_record s;
    if (run_step(&s, &b->r) != OK)
        fail_msg("%s", err_message());
    assert_true(isfinite(s.loss) && s.grad_norm > 0 && s.seconds > 0 && s.wait > 0 && s.wait < s.seconds);
}

static float *values_of(bench *b, const tensor *t)
{
    float *out = arena_get(&b->r.memory, (size_t)tensor_count(t) * sizeof *out);
    assert_int_equal(tensor_download(out, DT_F32, t), OK);
    return out;
}

static bool is_resampler(const parameter *p)
{
    return !strncmp(p->name, "image_proj.", 11);
}

static parameter *find(bench *b, const char *name)
{
    parameters *p = &b->r.parameters;
    for (int i = 0; i < p->count; i++)
        if (!strcmp(p->all[i].name, name))
            return &p->all[i];
    fail_msg("no %s", name);
    return NULL;
}

/* ---- skipped steps ---- */

typedef struct snapshot {
    float *weight[4096], *m[4096], *v[4096], *mean[4096];
    int    count;
} snapshot;

static void take(snapshot *s, bench *b)
{
    const run *r = &b->r;
    s->count = r->parameters.trained_count;
    assert_true(s->count < 4096);
    for (int i = 0; i < s->count; i++) {
        s->weight[i] = values_of(b, r->parameters.trained[i].t);
        s->m[i] = values_of(b, r->optimizer->m[i]);
        s->v[i] = values_of(b, r->optimizer->v[i]);
        s->mean[i] = values_of(b, r->average->mean[i]);
    }
}

static void expect_unchanged(const snapshot *a, bench *b)
{
    snapshot now;
    take(&now, b);
    for (int i = 0; i < a->count; i++) {
        size_t bytes = (size_t)tensor_count(b->r.parameters.trained[i].t) * sizeof(float);
        assert_memory_equal(a->weight[i], now.weight[i], bytes);
        assert_memory_equal(a->m[i], now.m[i], bytes);
        assert_memory_equal(a->v[i], now.v[i], bytes);
        assert_memory_equal(a->mean[i], now.mean[i], bytes);
    }
}

/* A weight that is not finite makes loss and gradients so, as a broken sample would. */
static err poisoned_step(step_record *s, bench *b)
{
    tensor *t = find(b, "ms_adapter.1.to_k_ip.weight")->t;
    float  *value = t->data, kept = value[3];
    value[3] = NAN;
    err e = run_step(s, &b->r);
    value[3] = kept;
    return e;
}

static void a_step_that_is_not_finite_changes_nothing(void **state)
{
    (void)state;
    bench       b;
    step_record s;
    snapshot    before;
    bench_open(&b, (const char *[]){"train.ema=0.9", "train.max_bad_steps=2", NULL});
    good_step(&b);
    take(&before, &b);
    assert_int_equal(poisoned_step(&s, &b), OK);
    expect_unchanged(&before, &b);
    assert_true(isnan(s.loss) && s.skipped == 1 && s.step == 2);
    assert_true(b.r.step == 2 && b.r.skips.all == 1 && b.r.skips.in_a_row == 1 && b.r.optimizer->updates == 1);
    fflush(b.printed);
    const char *line = arena_print(&b.r.memory, "of the samples in lines %" PRId64 ", %" PRId64 " of %s: the update is skipped (1 in a row",
                                   b.r.batches.chosen[0]->line, b.r.batches.chosen[1]->line, b.r.dataset.path);
    if (!strstr(b.text, line))
        fail_msg("'%s' does not say '%s'", b.text, line);
    good_step(&b);
    assert_true(b.r.step == 3 && b.r.skips.all == 1 && b.r.skips.in_a_row == 0 && b.r.optimizer->updates == 2);

    assert_int_equal(poisoned_step(&s, &b), OK);
    take(&before, &b);
    assert_int_equal(poisoned_step(&s, &b), E_NUMERIC);
    expect_unchanged(&before, &b);
    assert_int_equal(b.r.step, 4);
    assert_non_null(strstr(err_message(), "step 5: loss nan"));
    assert_non_null(strstr(err_message(), "data.jsonl; that is 2 such steps in a row"));
    bench_close(&b);
}

/* ---- averages ---- */

static void averages_follow_the_weights(void **state)
{
    (void)state;
    bench b;
    bench_open(&b, (const char *[]){"train.ema=0.75", NULL});
    int    at = b.r.parameters.trained_count - 1;
    tensor *t = b.r.parameters.trained[at].t;
    float *mean = values_of(&b, t); /* begins as the weights */
    for (int step = 0; step < 3; step++) {
        good_step(&b);
        const float *weight = values_of(&b, t), *ours = values_of(&b, b.r.average->mean[at]);
        for (int64_t i = 0; i < tensor_count(t); i++) {
            mean[i] = 0.75f * mean[i] + 0.25f * weight[i];
            assert_true(fabsf(ours[i] - mean[i]) <= 1e-7f * fabsf(mean[i]) + 1e-30f); /* a last bit */
        }
    }
    assert_true(average_of(b.r.average, t) == b.r.average->mean[at]);
    tensor *dummy = find(&b, "dummy_image_tokens")->t;
    assert_true(average_of(b.r.average, dummy) == dummy);
    bench_close(&b);
}

/* ---- parts ---- */

/* The largest change of a part's numbers (of tensors of `ndim` dimensions, 0: any) by one step. */
static double moved(bench *b, bool resampler_part, int ndim)
{
    double      most = 0;
    parameters *p = &b->r.parameters;
    float     **before = ARENA_ARRAY(&b->r.memory, float *, p->count);
    for (int i = 0; i < p->count; i++)
        before[i] = values_of(b, p->all[i].t);
    good_step(b);
    for (int i = 0; i < p->count; i++) {
        if (is_resampler(&p->all[i]) != resampler_part || (ndim && p->all[i].t->ndim != ndim))
            continue;
        const float *now = values_of(b, p->all[i].t);
        for (int64_t k = 0; k < tensor_count(p->all[i].t); k++)
            most = fmax(most, fabs((double)now[k] - (double)before[i][k]));
    }
    return most;
}

/* The first update of AdamW moves every number by its rate, and by rate x decay x number. */
static void one_part_alone(void **state)
{
    (void)state;
    bench b;
    bench_open(&b, (const char *[]){"train.part=kv", NULL});
    assert_true(moved(&b, true, 0) == 0);
    assert_true(moved(&b, false, 0) > 5e-4);
    assert_true(b.r.parameters.count > b.r.parameters.trained_count);
    bench_close(&b);
    bench_open(&b, (const char *[]){"train.part=resampler", NULL});
    assert_true(moved(&b, false, 0) == 0);
    assert_true(moved(&b, true, 0) > 5e-4);
    bench_close(&b);
}

static void parts_have_their_rates(void **state)
{
    (void)state;
    bench b;
    bench_open(&b, (const char *[]){"optimizer.lr_resampler=2e-2", "optimizer.weight_decay=0", NULL});
    assert_true(fabs(moved(&b, true, 0) - 2e-2) < 1e-4);
    bench_close(&b);
    bench_open(&b, (const char *[]){"optimizer.lr_kv=5e-3", "optimizer.weight_decay=0", NULL});
    assert_true(fabs(moved(&b, false, 0) - 5e-3) < 1e-4);
    bench_close(&b);
    bench_open(&b, (const char *[]){"optimizer.lr_kv=5e-3", "optimizer.weight_decay=0", NULL});
    assert_true(fabs(moved(&b, true, 0) - 1e-3) < 1e-4); /* the other part keeps lr */
    bench_close(&b);
}

/* Norm weights are 1: with decay 10 they lose 1e-2 a step, without it what the gradient moves. */
static void norms_may_be_spared_from_decay(void **state)
{
    (void)state;
    bench b;
    bench_open(&b, (const char *[]){"optimizer.weight_decay=10", NULL});
    assert_true(moved(&b, true, 1) > 8e-3);
    bench_close(&b);
    bench_open(&b, (const char *[]){"optimizer.weight_decay=10", "optimizer.decay_norms=off", NULL});
    assert_true(moved(&b, true, 1) < 1.1e-3);
    assert_true(moved(&b, true, 2) > 2e-3); /* the others still decay */
    bench_close(&b);
}

static void timesteps_stay_in_their_range(void **state)
{
    (void)state;
    bench b;
    bench_open(&b, (const char *[]){"train.timesteps=[700, 702]", "train.batch_size=8", NULL});
    for (int64_t step = 1; step <= 3; step++) {
        assert_int_equal(batch_source_make(&b.r.batches, step, 0), OK);
        for (int64_t i = 0; i < 8; i++)
            assert_true(b.r.batches.batch.timesteps[i] == 700 || b.r.batches.batch.timesteps[i] == 701);
    }
    bench_close(&b);
    bool          finished;
    const char   *beyond[] = {"train.timesteps=[0, 1001]"};
    train_options o = {.config = MSD_TEST_TMP "/run_step/run.yaml", .set = beyond, .sets = 1, .threads = 1};
    run           r;
    assert_int_equal(run_open(&r, &finished, &o, NULL, &quiet), E_CONFIG);
    assert_non_null(strstr(err_message(), "train.timesteps: [0, 1001] goes beyond the 1000"));
    run_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_that_is_not_finite_changes_nothing),
        cmocka_unit_test(averages_follow_the_weights),
        cmocka_unit_test(one_part_alone),
        cmocka_unit_test(parts_have_their_rates),
        cmocka_unit_test(norms_may_be_spared_from_decay),
        cmocka_unit_test(timesteps_stay_in_their_range),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
