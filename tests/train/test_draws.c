/* Draws are functions of their arguments alone, with the rates asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "train/draws.h"

static void order_visits_each_sample_once_an_epoch(void **state)
{
    (void)state;
    sample_order o;
    sample_order_open(&o, 7, 13);
    int moved = 0;
    int64_t first[13];
    for (int epoch = 0; epoch < 3; epoch++) {
        int seen[13] = {0};
        for (int i = 0; i < 13; i++) {
            int64_t at = sample_order_at(&o, epoch * 13 + i);
            assert_in_range(at, 0, 12);
            seen[at]++;
            if (epoch == 0)
                first[i] = at;
            else
                moved += first[i] != at;
        }
        for (int i = 0; i < 13; i++)
            assert_int_equal(seen[i], 1);
    }
    assert_true(moved > 13); /* each epoch has an order of its own */
    sample_order_close(&o);
}

static void order_does_not_depend_on_where_one_starts(void **state)
{
    (void)state;
    sample_order a, b;
    sample_order_open(&a, 3, 10);
    sample_order_open(&b, 3, 10);
    int64_t whole[40];
    for (int i = 0; i < 40; i++)
        whole[i] = sample_order_at(&a, i);
    for (int i = 39; i >= 0; i--)
        assert_int_equal(sample_order_at(&b, i), whole[i]);
    sample_order_close(&a);
    sample_order_close(&b);
}

static void drops_have_their_rates(void **state)
{
    (void)state;
    enum { N = 20000 };
    int text = 0, image = 0, both = 0, grounding = 0;
    for (int i = 0; i < N; i++) {
        drops d = draw_drops(1, i / 8 + 1, i % 8, (drop_rates){0.05, 0.10, 0.20, 0.30});
        text += d.text && !d.image;
        image += d.image && !d.text;
        both += d.text && d.image;
        grounding += d.grounding;
    }
    /* 5 standard deviations of a binomial at these rates stay below 0.017 */
    assert_in_range(text, (int)(N * 0.033), (int)(N * 0.067));
    assert_in_range(image, (int)(N * 0.083), (int)(N * 0.117));
    assert_in_range(both, (int)(N * 0.183), (int)(N * 0.217));
    assert_in_range(grounding, (int)(N * 0.283), (int)(N * 0.317));
    drops none = draw_drops(1, 1, 1, (drop_rates){0});
    assert_false(none.text || none.image || none.grounding);
}

static void timesteps_cover_the_range(void **state)
{
    (void)state;
    int seen[10] = {0};
    for (int i = 0; i < 5000; i++) {
        int64_t t = draw_timestep(5, i, 0, 1000);
        assert_in_range(t, 0, 999);
        assert_int_equal(t, draw_timestep(5, i, 0, 1000));
        seen[t / 100]++;
    }
    for (int i = 0; i < 10; i++)
        assert_in_range(seen[i], 380, 620);
    assert_int_not_equal(draw_timestep(5, 1, 0, 1 << 30), draw_timestep(5, 1, 1, 1 << 30));
    assert_int_not_equal(draw_timestep(5, 1, 0, 1 << 30), draw_timestep(6, 1, 0, 1 << 30));
}

/* The same noise with and without: what is added is one number a channel, N(0, offset^2), another for each sample. */
static void an_offset_shifts_whole_channels(void **state)
{
    (void)state;
    enum { PLANE = 9, CHANNELS = 4, SAMPLES = 500 };
    double sum = 0, squares = 0;
    float last = 0;
    for (int sample = 0; sample < SAMPLES; sample++) {
        float plain[PLANE * CHANNELS], moved[PLANE * CHANNELS];
        draw_noise(plain, 3, 1, sample, PLANE, CHANNELS, 0);
        draw_noise(moved, 3, 1, sample, PLANE, CHANNELS, 0.5);
        for (int i = 0; i < PLANE * CHANNELS; i++) {
            float shift = moved[i % CHANNELS] - plain[i % CHANNELS], here = moved[i] - plain[i];
            assert_true(here - shift < 1e-6f && shift - here < 1e-6f);
        }
        for (int c = 0; c < CHANNELS; c++) {
            float shift = moved[c] - plain[c];
            assert_true(shift != last);
            last = shift;
            sum += (double)shift;
            squares += (double)(shift * shift);
        }
    }
    int n = SAMPLES * CHANNELS; /* 5 standard deviations of the mean and of the variance at n = 2000 */
    assert_true(sum / n < 0.056 && sum / n > -0.056);
    assert_true(squares / n > 0.21 && squares / n < 0.29);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_visits_each_sample_once_an_epoch),
        cmocka_unit_test(order_does_not_depend_on_where_one_starts),
        cmocka_unit_test(drops_have_their_rates),
        cmocka_unit_test(timesteps_cover_the_range), cmocka_unit_test(an_offset_shifts_whole_channels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
