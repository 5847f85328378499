/* The order under aspect buckets: one bucket a step, every sample as often as every other, from any starting point. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "train/bucket_order.h"

enum { COUNT = 53, PLACES = 7 };

/* Buckets 1, 3, 4 and 6 of seven, of 1, 5, 17 and 30 samples, mixed. */
static void fill(int bucket[COUNT])
{
    for (int i = 0; i < COUNT; i++) {
        int k = i * 20 % COUNT;
        bucket[i] = k < 1 ? 1 : k < 6 ? 3 : k < 23 ? 4 : 6;
    }
}

static void a_step_has_one_bucket(void **state)
{
    (void)state;
    int bucket[COUNT], first = 0, found;
    bucket_order o;
    fill(bucket);
    bucket_order_open(&o, 1, 4, bucket, COUNT, PLACES);
    for (int64_t at = 0; at < 4000; at++) {
        int64_t i = bucket_order_at(&found, &o, at);
        assert_in_range(i, 0, COUNT - 1);
        assert_int_equal(bucket[i], found);
        if (at % 4)
            assert_int_equal(found, first);
        first = found;
    }
    bucket_order_close(&o);
}

/* At no time was a sample drawn twice more than another of its bucket, and each bucket has its share. */
static void nothing_is_lost_or_repeated(void **state)
{
    (void)state;
    static const int64_t groups[] = {1, 2, 4, 5, 8, 53, 100};
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
        int bucket[COUNT], found;
        int64_t drawn[COUNT] = {0}, group = groups[g], epochs = 40;
        bucket_order o;
        fill(bucket);
        bucket_order_open(&o, 3, group, bucket, COUNT, PLACES);
        for (int64_t at = 0; at < epochs * COUNT; at++) {
            drawn[bucket_order_at(&found, &o, at)]++;
            for (int i = 0; i < COUNT && at % 7 == 0; i++)
                for (int k = 0; k < i; k++)
                    if (bucket[i] == bucket[k])
                        assert_true(llabs(drawn[i] - drawn[k]) <= 1);
        }
        for (int i = 0; i < COUNT; i++) { /* an epoch's share, but for unfinished steps */
            int64_t slack = group * PLACES + group;
            int64_t same = 0, total = 0;
            for (int k = 0; k < COUNT; k++)
                if (bucket[k] == bucket[i]) {
                    same++;
                    total += drawn[k];
                }
            assert_true(llabs(total - epochs * same) <= slack);
        }
        bucket_order_close(&o);
    }
}

/* After each epoch's last step every sample was drawn as often as there were epochs, at least. */
static void epochs_are_whole(void **state)
{
    (void)state;
    int bucket[COUNT], found;
    int64_t drawn[COUNT] = {0}, at = 0;
    bucket_order o;
    fill(bucket);
    bucket_order_open(&o, 9, 8, bucket, COUNT, PLACES);
    for (int64_t epoch = 0; epoch < 20; epoch++) {
        int64_t steps = 0;
        static const int sizes[] = {1, 5, 17, 30};
        for (int b = 0; b < 4; b++)
            steps += ((epoch + 1) * sizes[b] + 7) / 8;
        for (; at < 8 * steps; at++)
            drawn[bucket_order_at(&found, &o, at)]++;
        for (int i = 0; i < COUNT; i++)
            assert_true(drawn[i] >= epoch + 1);
    }
    bucket_order_close(&o);
}

static void it_does_not_depend_on_where_one_starts(void **state)
{
    (void)state;
    enum { LENGTH = 900 };
    int bucket[COUNT], found;
    int64_t whole[LENGTH], moved = 0;
    bucket_order a, b, other;
    fill(bucket);
    bucket_order_open(&a, 3, 6, bucket, COUNT, PLACES);
    bucket_order_open(&b, 3, 6, bucket, COUNT, PLACES);
    bucket_order_open(&other, 4, 6, bucket, COUNT, PLACES);
    for (int i = 0; i < LENGTH; i++)
        whole[i] = bucket_order_at(&found, &a, i);
    for (int i = LENGTH - 1; i >= 0; i--)
        assert_int_equal(bucket_order_at(&found, &b, i), whole[i]);
    for (int i = 0; i < LENGTH; i++)
        moved += bucket_order_at(&found, &other, i) != whole[i];
    assert_true(moved > LENGTH / 2);
    bucket_order_close(&a);
    bucket_order_close(&b);
    bucket_order_close(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_has_one_bucket),
        cmocka_unit_test(nothing_is_lost_or_repeated),
        cmocka_unit_test(epochs_are_whole),
        cmocka_unit_test(it_does_not_depend_on_where_one_starts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
