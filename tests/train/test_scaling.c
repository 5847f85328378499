/* The step on many GPUs: links and timelines by hand, and a run's buckets from its own backward. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "infer/synth.h"
#include "train/plan.h"
#include "train/scaling.h"

#define FOLDER MSD_TEST_TMP "/scaling"

static scaling_options on(int ranks, const char *link, dtype sent, bool sharded)
{
    return (scaling_options){.ranks = ranks, .link = link, .on = card_find("h100"), .sent = sent, .sharded = sharded,
                             .pictures = 1};
}

static void close_to(double x, double expected, double relative)
{
    if (!(fabs(x - expected) <= relative * fabs(expected)))
        fail_msg("%.9g, expected %.9g", x, expected);
}

/* ---- links: 459,739,008 gradients in f32 take 8.70 ms on 8 H100 at 370 GB/s, hops apart ---- */

static void test_ring(void **state)
{
    (void)state;
    scaling_options node = on(8, "nvlink", DT_F32, false), nodes = on(64, "ib400", DT_F32, false);
    double bytes = 4.0 * 459739008.0;
    close_to(scaling_sum_seconds(&node, bytes) - 14 * 3.4e-6, 2.0 * 7 / 8 * bytes / 370e9, 1e-9);
    close_to(scaling_half_seconds(&node, bytes), 0.5 * scaling_sum_seconds(&node, bytes), 1e-12);
    /* much: the ring, 63 of 64 parts twice; little: the tree, whose hops are fewer */
    close_to(scaling_sum_seconds(&nodes, 1e12), 2.0 * 63 / 64 * 1e12 / 46e9 + 2 * (56 * 3.4e-6 + 7 * 14e-6), 1e-9);
    close_to(scaling_sum_seconds(&nodes, 64.0), 2.0 * (64.0 / 46e9 + 7 * 3.4e-6 + 3 * 14e-6), 1e-9);
}

static void test_refused(void **state)
{
    (void)state;
    scaling_options many = on(16, "nvlink", DT_F32, false), no_link = on(16, "pigeons", DT_F32, false),
                    none = on(0, "ib400", DT_F32, false), other = on(8, "nvlink", DT_F32, false);
    other.on = card_find("4090");
    assert_int_equal(scaling_check(&many), E_USAGE);
    assert_int_equal(scaling_check(&no_link), E_USAGE);
    assert_non_null(strstr(err_message(), "nvlink, ib400, ib400x8, eth100"));
    assert_int_equal(scaling_check(&none), E_USAGE);
    assert_int_equal(scaling_check(&other), E_USAGE);
    many.ranks = 8;
    assert_int_equal(scaling_check(&many), OK);
}

/* ---- timelines: three gradients of one bucket each ---- */

enum { ELEMENTS = 16 << 20 };

static gradient_times three(double a, double b, double c, double backward_end, double end)
{
    gradient_times g = {.backward_end = backward_end, .end = end};
    gradient_times_add(&g, ELEMENTS, a);
    gradient_times_add(&g, ELEMENTS, b);
    gradient_times_add(&g, ELEMENTS, c);
    return g;
}

static void test_hidden(void **state)
{
    (void)state;
    scaling         s;
    scaling_options o = on(8, "nvlink", DT_BF16, false);
    gradient_times  g = three(1.0, 2.0, 3.0, 4.0, 5.0); /* a second between them: all is hidden */
    scaling_make(&s, &g, &o);
    assert_int_equal(s.buckets, 3);
    assert_true(s.exposed == 0.0 && s.bucket[1].begin == 2.0 && s.bucket[2].end < 4.0);
    close_to(s.bucket[0].bytes, 2.0 * ELEMENTS, 1e-9);
    close_to(s.step, 5.0 + s.numbers, 1e-12);
    assert_true(s.numbers > 0 && s.gather == 0.0 && s.efficiency < 1.0);
    scaling_free(&s);
    gradient_times_free(&g);
}

static void test_left_over(void **state)
{
    (void)state;
    scaling         s;
    scaling_options o = on(64, "eth100", DT_F32, false);
    gradient_times  g = three(0.010, 0.011, 0.012, 0.012, 0.020);
    scaling_make(&s, &g, &o);
    double each = scaling_sum_seconds(&o, s.bucket[0].bytes);
    assert_true(s.bucket[0].begin == 0.010 && s.bucket[1].begin == s.bucket[0].end && s.bucket[2].begin == s.bucket[1].end);
    close_to(s.bucket[2].end, 0.010 + 2.0 * each + scaling_sum_seconds(&o, s.bucket[2].bytes), 1e-9);
    close_to(s.exposed, s.bucket[2].end - 0.012, 1e-9);
    close_to(s.step, 0.020 + s.exposed, 1e-9);
    assert_true(s.numbers == 0.0); /* they ride */
    scaling_free(&s);
    gradient_times_free(&g);
}

static void test_sharded(void **state)
{
    (void)state;
    scaling         s;
    scaling_options o = on(8, "nvlink", DT_BF16, true);
    gradient_times  g = three(1.0, 2.0, 3.0, 4.0, 5.0);
    scaling_make(&s, &g, &o);
    close_to(s.optimizer, 1.0 / 8, 1e-12);
    close_to(s.gather, 3.0 * scaling_half_seconds(&o, 4.0 * ELEMENTS), 1e-9); /* weights are f32 */
    close_to(s.step, 4.0 + 1.0 / 8 + s.gather + s.numbers, 1e-12);
    scaling_free(&s);
    gradient_times_free(&g);
}

static void test_alone(void **state)
{
    (void)state;
    scaling         s;
    scaling_options o = on(1, "nvlink", DT_F32, true);
    gradient_times  g = three(1.0, 2.0, 3.0, 4.0, 5.0);
    scaling_make(&s, &g, &o);
    assert_true(s.step == 5.0 && s.efficiency == 1.0 && s.bytes == 0.0);
    scaling_free(&s);
    gradient_times_free(&g);
}

/* ---- a run ---- */

static json_t *plan_run(const char *const *set, int sets, int ranks, const char *link)
{
    char  *text = NULL;
    size_t bytes = 0;
    FILE  *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    plan_options o = {.config = FOLDER "/run.yaml", .set = set, .sets = sets, .ranks = ranks, .link = link, .json = true};
    err e = plan_print(&o, out);
    fclose(out);
    if (e != OK)
        fail_msg("%s", err_message());
    json_t *j = json_loads(text, 0, NULL);
    assert_non_null(j);
    free(text);
    json_t *part = json_incref(json_array_get(json_object_get(j, "parts"), 0));
    json_decref(j);
    return part;
}

static double number(const json_t *from, const char *key)
{
    const json_t *found = json_object_get(from, key);
    if (!json_is_number(found))
        fail_msg("no number %s", key);
    return json_number_value(found);
}

/* All that is trained is in the buckets, in the order of backward; what a rank sends is a ring's share of it. */
static void test_run(void **state)
{
    (void)state;
    json_t *part = plan_run(NULL, 0, 16, "ib400"), *many = json_object_get(part, "scaling"), *bucket;
    double  bytes = 0.0, ready = 0.0, end = number(many, "backward_seconds");
    size_t  n;
    json_array_foreach(json_object_get(many, "buckets"), n, bucket)
    {
        assert_true(number(bucket, "ready") >= ready && number(bucket, "ready") <= end + 1e-9);
        ready = number(bucket, "ready");
        bytes += number(bucket, "bytes");
    }
    assert_true(n >= 3);
    assert_true(number(json_array_get(json_object_get(many, "buckets"), 0), "ready") < 0.9 * end); /* while backward goes on */
    assert_true(bytes >= 4.0 * number(part, "trained"));
    assert_true(bytes <= 4.0 * number(part, "trained") + (double)(n + 200) * 16 * 16 * 4); /* fill */
    close_to(number(many, "sent_bytes"), 2.0 * 15 / 16 * bytes, 1e-9);
    close_to(number(many, "alone_seconds"), number(json_object_get(part, "estimate"), "seconds"), 1e-6);
    assert_true(number(many, "step_seconds") >= number(many, "alone_seconds"));
    json_decref(part);
}

/* Gradients go once an update: twice the micro-batches, the same bytes. */
static void test_accumulation(void **state)
{
    (void)state;
    const char *const twice[] = {"train.accumulation=2"};
    json_t *one = plan_run(NULL, 0, 4, "nvlink"), *two = plan_run(twice, 1, 4, "nvlink");
    const json_t *a = json_object_get(one, "scaling"), *b = json_object_get(two, "scaling");
    assert_true(number(a, "sent_bytes") == number(b, "sent_bytes"));
    close_to(number(b, "backward_seconds"), 2.0 * number(a, "backward_seconds"), 5e-2); /* sums that add up read them */
    const json_t *first = json_array_get(json_object_get(b, "buckets"), 0);
    assert_true(number(first, "ready") > number(a, "backward_seconds")); /* of the last micro-batch */
    json_decref(one);
    json_decref(two);
}

static int set_up(void **state)
{
    (void)state;
    static const char text[] = "model: {base: tiny, image_encoder: tiny/image_encoder}\n"
                               "adapter: {dim: 32, depth: 1, heads: 2, queries: 4}\n"
                               "data: {manifest: data.jsonl, resolution: 64, cache: cache}\n"
                               "train: {batch_size: 2}\n";
    logger       quiet = logger_start(true);
    file_writer *w;
    folder_remove(FOLDER);
    if (folder_make(FOLDER) != OK || synth_write(FOLDER "/tiny", "tiny", 0, STORED_F16, &quiet) != OK ||
        file_create(&w, FOLDER "/run.yaml") != OK)
        return 1;
    file_write(w, text, strlen(text));
    return file_publish(w) != OK;
}

static int tear_down(void **state)
{
    (void)state;
    folder_remove(FOLDER);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring),    cmocka_unit_test(test_refused), cmocka_unit_test(test_hidden),
        cmocka_unit_test(test_left_over), cmocka_unit_test(test_sharded), cmocka_unit_test(test_alone),
        cmocka_unit_test(test_run),     cmocka_unit_test(test_accumulation),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
