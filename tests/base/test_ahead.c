#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/ahead.h"

enum { SLOTS = 5, COUNT = 400 };

static int64_t slot_value[SLOTS];

/* Later positions are ready earlier. */
static void work(void *user, int slot, int64_t position)
{
    if (position % 7 == 0)
        usleep(500);
    slot_value[slot] = position * position + *(int64_t *)user;
}

static void positions_come_in_order_whatever_the_threads(void **state)
{
    (void)state;
    int64_t user = 11;
    for (int threads = 0; threads <= 6; threads++) {
        double waited = 0;
        ahead *a = ahead_start(threads, SLOTS, 3, work, &user);
        for (int64_t p = 3; p < COUNT; p++) {
            assert_int_equal(ahead_position(a), p);
            int slot = ahead_take(&waited, a);
            assert_int_equal(slot_value[slot], p * p + 11);
            ahead_give(a);
        }
        assert_true(waited > 0);
        ahead_stop(a);
    }
}

/* Several slots held at once stay as they are until they are given back. */
static void held_slots_are_not_overwritten(void **state)
{
    (void)state;
    int64_t user = 0;
    double waited = 0;
    ahead *a = ahead_start(3, SLOTS, 0, work, &user);
    for (int64_t p = 0; p + 3 <= COUNT; p += 3) {
        int slot[3];
        for (int i = 0; i < 3; i++)
            slot[i] = ahead_take(&waited, a);
        usleep(50);
        for (int i = 0; i < 3; i++)
            assert_int_equal(slot_value[slot[i]], (p + i) * (p + i));
        for (int i = 0; i < 3; i++)
            ahead_give(a);
    }
    ahead_stop(a);
}

static void stopping_early_waits_for_what_runs(void **state)
{
    (void)state;
    int64_t user = 0;
    for (int i = 0; i < 50; i++)
        ahead_stop(ahead_start(4, SLOTS, i, work, &user));
    ahead_stop(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(positions_come_in_order_whatever_the_threads),
        cmocka_unit_test(held_slots_are_not_overwritten),
        cmocka_unit_test(stopping_early_waits_for_what_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
