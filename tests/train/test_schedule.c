#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "train/schedule.h"

/* Values of transformers' get_scheduler (constant_with_warmup, linear, cosine) with lr 1, warmup 4, 10 steps; doubles
 * of the same formula differ by a rounding or two at most. */
static void test_values(void **state)
{
    (void)state;
    static const double expected[3][11] = {
        {0, .25, .5, .75, 1, 1, 1, 1, 1, 1, 1},
        {0, .25, .5, .75, 1, 5. / 6, 4. / 6, 3. / 6, 2. / 6, 1. / 6, 0},
        {0, .25, .5, .75, 1, 0.9330127018922193, 0.75, 0.5, 0.25, 0.06698729810778070, 0},
    };
    for (int kind = 0; kind < 3; kind++)
        for (int64_t step = 1; step <= 11; step++) {
            schedule s = {.kind = (schedule_kind)kind, .lr = 2, .warmup = 4, .steps = 10};
            double error = fabs(schedule_rate(s, step) - 2 * expected[kind][step - 1]);
            if (!(error <= 1e-15))
                fail_msg("kind %d step %lld: %g", kind, (long long)step, schedule_rate(s, step));
        }
}

static void test_ends(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        schedule s = {.kind = (schedule_kind)kind, .lr = 1e-4, .warmup = 0, .steps = 100};
        assert_true(schedule_rate(s, 1) == 1e-4); /* without warm-up the first step has the whole rate */
        assert_true(schedule_rate(s, 100) > 0);
        double beyond = schedule_rate(s, 1000000000);
        assert_true(kind == SCHEDULE_CONSTANT ? beyond == 1e-4 : beyond == 0);
        s.warmup = 100; /* never a division by zero */
        for (int64_t step = 1; step < 300; step++)
            assert_true(isfinite(schedule_rate(s, step)) && schedule_rate(s, step) >= 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
