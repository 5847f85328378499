#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"

/* Random123's known-answer vectors of philox4x32-10. */
static const struct {
    uint32_t counter[4], key[2], expected[4];
} vectors[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

static void test_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        uint32_t out[4];
        philox4x32(out, vectors[i].counter, vectors[i].key);
        assert_memory_equal(out, vectors[i].expected, sizeof out);
    }
}

/* The stream itself is part of the promise: a resumed run must see the same numbers in the next version. */
static void test_stream_is_frozen(void **state)
{
    (void)state;
    draw_key k = {.seed = 0x0123456789abcdefu, .purpose = DRAW_NOISE, .step = 7, .sample = 3};
    uint32_t counter[4] = {1, (uint32_t)DRAW_NOISE << 24, 7, 3}, key[2] = {0x89abcdef, 0x01234567}, out[4];
    philox4x32(out, counter, key);
    assert_true(draw_uniform(k, 6) == out[2] * 0x1p-32);
    uint64_t bits = (uint64_t)out[1] << 32 | out[0];
    assert_int_equal(draw_below(k, 1, (uint64_t)1 << 32), bits >> 32);
    float u[8];
    draw_uniforms(u, 8, k);
    assert_true(u[6] == (float)(out[2] >> 8) * 0x1p-24f);
}

static void test_distinct_inputs_distinct_draws(void **state)
{
    (void)state;
    draw_key base = {.seed = 1, .purpose = DRAW_NOISE, .step = 1, .sample = 1};
    draw_key other[] = {base, base, base, base};
    other[0].seed = 1 + ((uint64_t)1 << 32);
    other[1].purpose = DRAW_POSTERIOR;
    other[2].step = 2;
    other[3].sample = 2;
    for (int i = 0; i < 4; i++)
        assert_true(draw_uniform(base, 0) != draw_uniform(other[i], 0));
    assert_true(draw_uniform(base, 0) != draw_uniform(base, 1));
    assert_true(draw_uniform(base, 0) != draw_uniform(base, (uint64_t)1 << 34));
}

static void test_prefix_of_any_length(void **state)
{
    (void)state;
    draw_key k = {.seed = 5, .purpose = DRAW_INIT};
    float whole[33], part[33];
    draw_normals(whole, 33, k);
    for (size_t n = 0; n <= 33; n++) {
        for (size_t i = 0; i < 33; i++)
            part[i] = 123;
        draw_normals(part, n, k);
        assert_memory_equal(part, whole, n * sizeof *part);
        for (size_t i = n; i < 33; i++)
            assert_true(part[i] == 123);
    }
}

/* n = 2^18; a mean of n(0,1) numbers has deviation 2^-9, the variance sqrt(2) 2^-9, the fourth moment sqrt(96) 2^-9:
 * five deviations are allowed. */
static void test_moments(void **state)
{
    (void)state;
    enum { N = 1 << 18 };
    static float x[N];
    draw_normals(x, N, (draw_key){.seed = 2, .purpose = DRAW_NOISE});
    double sum = 0, square = 0, fourth = 0;
    for (int i = 0; i < N; i++) {
        double v = x[i];
        assert_true(isfinite(v));
        sum += v;
        square += v * v;
        fourth += v * v * v * v;
    }
    double error[] = {fabs(sum / N), fabs(square / N - 1), fabs(fourth / N - 3)};
    double limit[] = {5 / 512.0, 5 * 1.4142 / 512, 5 * 9.798 / 512};
    for (int i = 0; i < 3; i++) {
        print_message("moment %d: %.1f %% of tolerance\n", i + 1, 100 * error[i] / limit[i]);
        assert_true(error[i] <= limit[i]);
    }
    draw_uniforms(x, N, (draw_key){.seed = 2, .purpose = DRAW_NOISE});
    int histogram[16] = {0};
    for (int i = 0; i < N; i++) {
        assert_true(x[i] >= 0 && x[i] < 1);
        histogram[(int)(x[i] * 16)]++;
    }
    for (int i = 0; i < 16; i++) /* binomial deviation 124 */
        assert_true(abs(histogram[i] - N / 16) <= 5 * 124);
}

static void test_below(void **state)
{
    (void)state;
    int seen[7] = {0};
    draw_key k = {.seed = 3, .purpose = DRAW_ORDER};
    for (uint64_t i = 0; i < 7000; i++) {
        uint64_t v = draw_below(k, i, 7);
        assert_true(v < 7);
        seen[v]++;
    }
    for (int i = 0; i < 7; i++) /* deviation 29 */
        assert_in_range(seen[i], 1000 - 150, 1000 + 150);
    assert_int_equal(draw_below(k, 0, 1), 0);
    assert_true(draw_below(k, 0, UINT64_MAX) < UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors), cmocka_unit_test(test_stream_is_frozen),
        cmocka_unit_test(test_distinct_inputs_distinct_draws), cmocka_unit_test(test_prefix_of_any_length),
        cmocka_unit_test(test_moments), cmocka_unit_test(test_below),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
