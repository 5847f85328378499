/* Gradients on their way between ranks, on a tiny model with a communicator that writes down what it is asked: every bucket
 * but the last is begun while backward has work to do, what a rank sends is what the plan says, and sums come back. */
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
#include "train/micro_step.h"

static const char *const folder = MSD_TEST_TMP "/reduction";
static logger quiet = {.quiet = true};

enum { RANKS = 4, MOST_CALLS = 64, NUMBERS = REDUCTION_NUMBERS };

typedef struct called {
    const tensor *flat;
    bool          in_backward; /* the last gradient of all is still to come */
} called;

/* Rank 1 of RANKS equal ones: a sum is RANKS times its own. */
typedef struct noting_comm {
    comm             base;
    const reduction *of;
    device          *dev;
    called           call[MOST_CALLS];
    int              calls;
} noting_comm;

static void note(comm *c, const tensor *flat)
{
    noting_comm *n = (noting_comm *)c;
    const gradient_bucket *last = &n->of->bucket[n->of->buckets - 1];
    assert_true(n->calls < MOST_CALLS);
    n->call[n->calls++] = (called){flat, last->member[last->members - 1].whole->grad_fresh};
}

static err noting_sum(comm *c, tensor *flat)
{
    noting_comm *n = (noting_comm *)c;
    note(c, flat);
    if (flat->type == DT_F32)
        return n->dev->p->scale(n->dev, flat, flat, (float)RANKS, false);
    return OK;
}

static err noting_part(comm *c, tensor *flat)
{
    note(c, flat);
    return OK;
}

static err noting_wait(comm *c)
{
    (void)c;
    return OK;
}

static void noting_close(comm *c)
{
    (void)c;
}

static const comm_calls noting_calls = {
    .name = "noting", .sum = noting_sum, .sum_part = noting_part, .gather = noting_part, .wait = noting_wait,
    .close = noting_close};

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
    if (folder_make(folder) != OK || synth_write(MSD_TEST_TMP "/reduction/tiny", "tiny", 0, STORED_F32, &quiet) != OK ||
        demo_data_write(MSD_TEST_TMP "/reduction/data", NULL, 4, 0, &quiet) != OK)
        fail_msg("%s", err_message());
    put(MSD_TEST_TMP "/reduction/run.yaml",
        "model: {base: tiny, image_encoder: tiny/image_encoder}\nadapter: {dim: 64, depth: 2, heads: 1, queries: 4}\n"
        "data: {manifest: data/data.jsonl, resolution: 64}\ntrain: {steps: 9, batch_size: 1}\noutput: {dir: out}\n");
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

typedef struct bench {
    run           r;
    train_options options;
    noting_comm   c;
    float        *alone; /* the gradients of one rank, one tensor behind the other */
} bench;

/* All trained gradients of r as they are. */
static float *gradients(const run *r)
{
    const parameters *p = &r->parameters;
    int64_t count = 0;
    for (int i = 0; i < p->trained_count; i++)
        count += tensor_count(p->trained[i].t);
    float *all = malloc((size_t)count * sizeof *all), *to = all;
    for (int i = 0; i < p->trained_count; i++) {
        const tensor *g = parameter_gradient(&p->trained[i]);
        int64_t n = tensor_count(p->trained[i].t);
        memset(to, 0, (size_t)n * sizeof *to);
        if (g)
            assert_int_equal(tensor_download(to, DT_F32, g), OK);
        to += n;
    }
    return all;
}

static void make_batch(bench *b, int64_t subjects)
{
    assert_int_equal(batch_source_make(&b->r.batches, 1, 0), OK);
    if (!subjects)
        b->r.batches.batch.S = 0;
}

/* One process alone has made its gradients; then the same run is given buckets. */
static void bench_open(bench *b, const char *const *set, int sets, dtype type, bool shares, int64_t subjects)
{
    bool     finished = false;
    double   loss;
    tensor **order;
    int      count;
    *b = (bench){.options = {.config = MSD_TEST_TMP "/reduction/run.yaml", .set = set, .sets = sets, .threads = 1}};
    run *r = &b->r;
    if (run_open(r, &finished, &b->options, NULL, &quiet) != OK)
        fail_msg("%s", err_message());
    make_batch(b, subjects);
    optimizer_begin(r->optimizer);
    assert_int_equal(micro_step_run(&loss, r, RANKS, true), OK);
    b->alone = gradients(r);
    optimizer_free(r->optimizer);
    b->c = (noting_comm){.base = {.calls = &noting_calls, .rank = 1, .count = RANKS}, .dev = r->dev};
    r->comm = &b->c.base;
    assert_int_equal(micro_step_order(&order, &count, r), OK);
    assert_int_equal(reduction_open(&r->reduction, &r->memory, r->dev, r->comm, order, count, type, shares), OK);
    b->c.of = r->reduction;
    make_batch(b, subjects); /* the planned run has used its arrays */
    adamw how = parameters_adamw(r->config);
    assert_int_equal(optimizer_new(&r->optimizer, &r->memory, r->dev, r->parameters.trained, r->parameters.trained_count, how),
                     OK);
}

static void bench_close(bench *b)
{
    run_close(&b->r);
    free(b->alone);
}

static void step(bench *b, double number[NUMBERS])
{
    double loss;
    run   *r = &b->r;
    optimizer_begin(r->optimizer);
    reduction_begin(r->reduction);
    assert_int_equal(micro_step_run(&loss, r, RANKS, true), OK);
    b->c.call[b->c.calls] = (called){NULL, false}; /* backward is over */
    assert_int_equal(reduction_end(number, r->reduction), OK);
    assert_int_equal(planned_strays(r->steps), 0);
}

static int64_t planned_bytes(const reduction *r, dtype type)
{
    int64_t count[MOST_CALLS];
    for (int b = 0; b < r->buckets; b++)
        count[b] = r->bucket[b].count;
    return reduction_bytes(count, r->buckets, type, r->sharded, 1, RANKS);
}

static void check_overlap(const char *const *set, int sets)
{
    bench  b;
    double number[NUMBERS] = {0.1, 1e9 + 0.25, -3};
    bench_open(&b, set, sets, DT_F32, false, 1);
    const reduction *r = b.r.reduction;
    assert_true(r->buckets >= 5);
    step(&b, number);
    assert_int_equal(r->early, r->buckets - 1);
    assert_int_equal(b.c.calls, r->buckets); /* the numbers ride in the last one */
    for (int i = 0; i < r->buckets; i++) {
        assert_ptr_equal(b.c.call[i].flat, r->bucket[i].flat);
        assert_int_equal(b.c.call[i].in_backward, i < r->buckets - 1);
    }
    assert_int_equal(b.c.base.bytes, planned_bytes(r, DT_F32));
    float  *got = gradients(&b.r);
    int64_t at = 0;
    for (int i = 0; i < b.r.parameters.trained_count; i++)
        for (int64_t k = 0; k < tensor_count(b.r.parameters.trained[i].t); k++, at++)
            assert_true(got[at] == RANKS * b.alone[at]);
    assert_true(fabs(number[0] - 0.4) < 1e-13 && number[1] == 4e9 + 1 && number[2] == -12);
    free(got);
    bench_close(&b);
}

static void all_but_the_last_are_begun_in_backward(void **state)
{
    (void)state;
    check_overlap(NULL, 0);
}

static void also_with_blocks_computed_again(void **state)
{
    (void)state;
    check_overlap((const char *[]){"train.activation_checkpointing=on"}, 1);
}

/* Keys and values are gone before the resampler begins: their groups lie in the first buckets. */
static void the_unet_comes_first(void **state)
{
    bench b;
    (void)state;
    bench_open(&b, NULL, 0, DT_F32, false, 1);
    const reduction *r = b.r.reduction;
    int groups = b.r.adapter.groups;
    for (int k = 0, i = 0; k < r->buckets && i < groups; k++)
        for (int m = 0; m < r->bucket[k].members && i < groups; m++, i++)
            assert_non_null(strstr(r->bucket[k].member[m].whole->name, "ms_adapter."));
    bench_close(&b);
}

/* A rank whose samples have no subject has nothing to say, in the same order as the others. */
static void a_batch_without_subjects(void **state)
{
    bench  b;
    double number[NUMBERS] = {1};
    (void)state;
    bench_open(&b, NULL, 0, DT_F32, false, 0);
    step(&b, number);
    const reduction *r = b.r.reduction;
    assert_int_equal(b.c.calls, r->buckets);
    for (int i = 0; i < r->buckets; i++)
        assert_ptr_equal(b.c.call[i].flat, r->bucket[i].flat);
    float *got = gradients(&b.r);
    assert_true(got[0] == 0 && number[0] == 4);
    free(got);
    bench_close(&b);
}

static void in_bf16(void **state)
{
    bench  b;
    double number[NUMBERS] = {0.1};
    (void)state;
    bench_open(&b, NULL, 0, DT_BF16, false, 1);
    const reduction *r = b.r.reduction;
    step(&b, number);
    assert_int_equal(b.c.calls, r->buckets + 1); /* the numbers on their own, in f32 */
    assert_ptr_equal(b.c.call[0].flat, r->bucket[0].wire);
    assert_int_equal(b.c.base.bytes, planned_bytes(r, DT_BF16));
    float *got = gradients(&b.r);
    assert_true(fabsf(got[7] - b.alone[7]) <= fabsf(b.alone[7]) / 256);
    assert_true(fabs(number[0] - 0.4) < 1e-13);
    free(got);
    bench_close(&b);
}

static void shared_out(void **state)
{
    bench  b;
    double number[NUMBERS] = {0.1};
    (void)state;
    bench_open(&b, NULL, 0, DT_F32, true, 1);
    const reduction *r = b.r.reduction;
    step(&b, number);
    assert_int_equal(b.c.calls, r->buckets);
    assert_true(number[0] == 0.1);
    assert_int_equal(reduction_add(number, b.r.reduction), OK);
    assert_true(fabs(number[0] - 0.4) < 1e-13);
    for (int i = 0; i < r->buckets; i++)
        assert_int_equal(comm_gather(b.r.comm, r->bucket[i].flat), OK); /* as the optimizer does */
    assert_int_equal(b.c.base.bytes, planned_bytes(r, DT_F32));
    bench_close(&b);
}

static void buckets_of_sizes(void **state)
{
    const int64_t size[] = {5 << 20, 100, 100, 9 << 20, 3, 3, 17};
    int64_t elements[7];
    int     bucket[7];
    (void)state;
    assert_int_equal(reduction_layout(bucket, elements, size, 7, 3, true), 3);
    assert_int_equal(bucket[0], 0);
    for (int i = 1; i < 7; i++)
        assert_true(bucket[i] == bucket[i - 1] || bucket[i] == bucket[i - 1] + 1);
    for (int k = 0; k < 3; k++)
        assert_int_equal(elements[k] % (3 * 16), 0);
    assert_int_equal(reduction_layout(bucket, elements, size, 0, 3, true), 0);
}

static void parts(void **state)
{
    (void)state;
    assert_int_equal(comm_part_begin(10, 0, 4), 0);
    assert_int_equal(comm_part_begin(10, 1, 4), 3);
    assert_int_equal(comm_part_begin(10, 2, 4), 6);
    assert_int_equal(comm_part_begin(10, 3, 4), 8);
    assert_int_equal(comm_part_begin(10, 4, 4), 10);
    assert_int_equal(comm_sum_part_bytes(10, DT_F32, 0, 4), 28);
    assert_int_equal(comm_gather_bytes(10, DT_BF16, 3, 4), 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_but_the_last_are_begun_in_backward),
        cmocka_unit_test(also_with_blocks_computed_again),
        cmocka_unit_test(the_unet_comes_first),
        cmocka_unit_test(a_batch_without_subjects),
        cmocka_unit_test(in_bf16),
        cmocka_unit_test(shared_out),
        cmocka_unit_test(buckets_of_sizes),
        cmocka_unit_test(parts),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
