/* `msd plan --card`: the roofline of calls by hand, and whole plans whose sums are made again from their JSON. */
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
#include "train/roofline.h"

#define FOLDER MSD_TEST_TMP "/plan_card"

static const card unit = {.name = "unit", .title = "unit", .basis = "", .bf16 = 8.0, .f32 = 2.0, .bandwidth = 10.0, .memory = 1e9};

/* ---- by hand ---- */

static meta_call product(dtype type, double multiply_adds, double read, double written)
{
    return (meta_call){.primitive = "linear", .kind = META_LINEAR, .type = type, .multiply_adds = multiply_adds, .read = read,
                       .written = written};
}

static void test_longer_of_the_two(void **state)
{
    (void)state;
    meta_call operations = product(DT_BF16, 40.0, 10.0, 10.0), bytes = product(DT_BF16, 4.0, 40.0, 10.0),
              wide = product(DT_F32, 40.0, 10.0, 10.0);
    assert_true(roofline_call_seconds(&unit, &operations) == 10.0);
    assert_true(roofline_call_seconds(&unit, &bytes) == 5.0);
    assert_true(roofline_call_seconds(&unit, &wide) == 40.0);
}

static void test_rows(void **state)
{
    (void)state;
    roofline  r;
    meta_call calls[] = {product(DT_BF16, 40.0, 10.0, 10.0), product(DT_BF16, 4.0, 40.0, 10.0),
                         {.primitive = "copy", .kind = META_COPY, .read = 100.0, .written = 100.0}};
    roofline_open(&r, &unit);
    for (int i = 0; i < 3; i++)
        roofline_watch(&r, &calls[i]);
    roofline_sort(&r);
    assert_int_equal(r.rows, 2);
    assert_string_equal(r.row[0].primitive, "copy");
    assert_true(r.row[0].seconds == 20.0 && r.row[0].seconds_by_bytes == 20.0);
    assert_int_equal(r.row[1].calls, 2);
    assert_true(r.row[1].operations == 88.0 && r.row[1].bytes == 70.0);
    assert_true(r.row[1].seconds == 15.0 && r.row[1].seconds_by_bytes == 5.0);
    assert_true(r.seconds == 35.0);
}

/* ---- whole plans ---- */

static json_t *plan(const plan_options *o)
{
    char  *text = NULL;
    size_t bytes = 0;
    FILE  *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    err e = plan_print(o, out);
    fclose(out);
    if (e != OK)
        fail_msg("%s", err_message());
    json_error_t why;
    json_t *j = json_loads(text, 0, &why);
    if (!j)
        fail_msg("%s: %s", why.text, text);
    free(text);
    return j;
}

static double number(const json_t *from, const char *key)
{
    const json_t *found = json_object_get(from, key);
    if (!json_is_number(found))
        fail_msg("no number %s", key);
    return json_number_value(found);
}

/* Rows add up to the whole, whose operations are the part's, and no row lasts less than its operations or its bytes. */
static void check_part(const json_t *part, const json_t *on)
{
    const json_t *estimate = json_object_get(part, "estimate"), *row;
    const char   *name;
    double seconds = 0.0, operations = 0.0, whole = number(estimate, "seconds");
    double rate = 1e9 * number(on, "gflops"), bandwidth = number(on, "bytes_per_second");
    json_object_foreach(json_object_get(estimate, "primitives"), name, row)
    {
        double least = fmax(number(row, "operations") / rate, number(row, "bytes") / bandwidth), took = number(row, "seconds");
        seconds += took;
        operations += number(row, "operations");
        if (!(took >= least * (1 - 1e-6) - 2e-9) || !(number(row, "seconds_bound_by_bytes") <= took)) /* printed to 1e-9 s */
            fail_msg("%s: %g s, at least %g", name, took, least);
    }
    if (!(fabs(seconds - whole) <= 1e-7) || !(whole > 0))
        fail_msg("rows make %g s of %g", seconds, whole);
    if (!(fabs(operations - 2.0 * number(part, "multiply_adds")) <= 1e-9 * operations))
        fail_msg("rows make %g operations of %g", operations, 2.0 * number(part, "multiply_adds"));
}

static void test_random_networks(void **state)
{
    (void)state;
    const char *const cards[] = {"h100", "a100", "4090"};
    double before = 0.0;
    for (int i = 0; i < 3; i++) {
        json_t *j = plan(&(plan_options){.random = "half", .size = 512, .card = cards[i], .type = DT_BF16, .json = true});
        const json_t *part;
        size_t n;
        double sum = 0.0;
        json_array_foreach(json_object_get(j, "parts"), n, part)
        {
            check_part(part, json_object_get(j, "card"));
            sum += number(json_object_get(part, "estimate"), "seconds");
        }
        assert_true(n > 5);
        if (!(sum > before))
            fail_msg("%s is not slower than the card before it: %g s, %g s", cards[i], sum, before);
        before = sum;
        json_decref(j);
    }
}

/* The whole of one picture is its parts, each as often as it is needed. */
static void test_picture(void **state)
{
    (void)state;
    json_t *j = plan(&(plan_options){.random = "half", .size = 512, .steps = 7, .card = "h100", .type = DT_BF16, .json = true});
    const json_t *part;
    size_t n;
    double sum = 0.0;
    json_array_foreach(json_object_get(j, "parts"), n, part)
    {
        const char *name = json_string_value(json_object_get(part, "name"));
        double times = strstr(name, "guidance") ? 7 : strstr(name, "VAE") ? 1 : strstr(name, "encoder 1") ? 4 : 2;
        sum += times * number(json_object_get(part, "estimate"), "seconds");
    }
    double whole = number(json_object_get(j, "generate"), "estimate_seconds");
    if (!(fabs(sum - whole) <= 1e-7))
        fail_msg("%g s of %g", sum, whole);
    json_decref(j);
}

static json_t *plan_run(const char *const *set, int sets, const char *on)
{
    json_t *j = plan(&(plan_options){.config = FOLDER "/run.yaml", .set = set, .sets = sets, .card = on, .json = true});
    json_t *part = json_incref(json_array_get(json_object_get(j, "parts"), 0));
    if (on)
        check_part(part, json_object_get(j, "card"));
    json_decref(j);
    return part;
}

/* With a cache there is no encoder in the step: neither its weights nor its work; all that is trained stays. */
static void test_cached_run(void **state)
{
    (void)state;
    json_t *plain = plan_run(NULL, 0, "h100"), *cached = plan_run((const char *[]){"data.cache=cache"}, 1, "h100");
    double less = number(plain, "multiply_adds") - number(cached, "multiply_adds");
    assert_true(number(plain, "trained") == number(cached, "trained"));
    assert_true(number(cached, "weights_bytes") < number(plain, "weights_bytes"));
    const json_t *of_plain = json_object_get(json_object_get(plain, "estimate"), "primitives"),
                 *of_cached = json_object_get(json_object_get(cached, "estimate"), "primitives");
    assert_true(less > 0);
    assert_non_null(json_object_get(of_plain, "embedding")); /* the text encoders' */
    assert_null(json_object_get(of_cached, "embedding"));
    assert_non_null(json_object_get(of_cached, "adamw"));
    json_decref(plain);
    json_decref(cached);
}

/* bf16 on a card, unless the run says f32; activation checkpointing costs operations and saves memory. */
static void test_run_options(void **state)
{
    (void)state;
    json_t *plain = plan_run((const char *[]){"data.cache=cache"}, 1, "h100"),
           *wide = plan_run((const char *[]){"data.cache=cache", "device.dtype=f32"}, 2, "h100"),
           *again = plan_run((const char *[]){"data.cache=cache", "train.activation_checkpointing=on"}, 2, "h100"),
           *limited = plan_run((const char *[]){"data.cache=cache", "train.activation_checkpointing=auto", "train.memory=1000"}, 3,
                               "h100"),
           *average = plan_run((const char *[]){"data.cache=cache", "train.ema=0.99"}, 2, "h100");
    assert_true(number(wide, "weights_bytes") == 2.0 * number(plain, "weights_bytes"));
    assert_true(number(again, "multiply_adds") > number(plain, "multiply_adds"));
    assert_true(number(again, "step_bytes") < number(plain, "step_bytes"));
    assert_true(number(limited, "step_bytes") == number(again, "step_bytes"));
    assert_true(number(average, "state_bytes") == number(plain, "state_bytes") + 4.0 * number(plain, "trained"));
    json_decref(plain);
    json_decref(wide);
    json_decref(again);
    json_decref(limited);
    json_decref(average);
}

static void test_unknown_card(void **state)
{
    (void)state;
    assert_int_equal(plan_print(&(plan_options){.random = "tiny", .card = "h1000"}, stdout), E_USAGE);
    assert_non_null(strstr(err_message(), "h100, a100, 4090"));
}

static int set_up(void **state)
{
    (void)state;
    static const char text[] = "model: {base: tiny, image_encoder: tiny/image_encoder}\n"
                               "adapter: {dim: 32, depth: 1, heads: 2, queries: 4}\n"
                               "data: {manifest: data.jsonl, resolution: 64}\n"
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
        cmocka_unit_test(test_longer_of_the_two), cmocka_unit_test(test_rows),      cmocka_unit_test(test_random_networks),
        cmocka_unit_test(test_picture),           cmocka_unit_test(test_cached_run), cmocka_unit_test(test_run_options),
        cmocka_unit_test(test_unknown_card),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
