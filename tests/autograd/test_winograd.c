/* Winograd's convolution against the direct one: forward and data gradient, sides that tiles do not divide, more tiles
 * than one block, pads of their own, bias, accumulation, channels that differ. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "autograd/cpu/winograd.h"
#include "data/counter.h"

/* Of the root mean square of the result. F(4x4,3x3) in f32 differs from the direct sum by 1.5e-6 of it in the root mean
 * square; single numbers, by ten times that. */
static const double TOLERANCE_RMS = 4e-6, TOLERANCE_ONE = 4e-5;

static float *numbers(const char *name, int64_t count)
{
    float *out = malloc((size_t)count * sizeof *out);
    counter_uniform(out, name, 0, count);
    return out;
}

static void compare(const char *what, const float *got, const float *expected, int64_t count)
{
    double sum = 0, errors = 0, worst = 0;
    for (int64_t i = 0; i < count; i++) {
        double e = fabs((double)got[i] - (double)expected[i]);
        sum += (double)expected[i] * (double)expected[i];
        errors += e * e;
        if (!(e <= worst))
            worst = e;
    }
    double rms = sqrt(sum / (double)count), relative = sqrt(errors / (double)count) / rms;
    printf("%-20s root mean square %.1f %% of tolerance, worst %.1f %%\n", what, 100.0 * relative / TOLERANCE_RMS,
           100.0 * worst / rms / TOLERANCE_ONE);
    assert_true(rms > 0 && relative <= TOLERANCE_RMS && worst / rms <= TOLERANCE_ONE);
}

static void check_shape(device *d, conv_shape s)
{
    conv_geometry *g = &s.geometry;
    g->stride = 1;
    s.kernel_height = s.kernel_width = 3;
    s.out_height = s.height + g->pad_top + g->pad_bottom - 2;
    s.out_width = s.width + g->pad_left + g->pad_right - 2;
    assert_true(winograd_suits(&s));
    int64_t nx = s.batch * s.height * s.width * s.in, ny = s.batch * s.out_height * s.out_width * s.out;
    float *x = numbers("x", nx), *w = numbers("w", s.out * 9 * s.in), *bias = numbers("b", s.out);
    float *y = numbers("y", ny), *y_direct = numbers("y", ny);
    for (int add = 0; add < 2; add++) {
        assert_int_equal(winograd_conv(d, y, x, w, add ? NULL : bias, &s, add), OK);
        assert_int_equal(onednn_conv(d, y_direct, x, w, add ? NULL : bias, &s, add), OK);
        compare(add ? "y, added" : "y", y, y_direct, ny);
    }
    float *dx = numbers("x", nx), *dx_direct = numbers("dx", nx);
    assert_int_equal(onednn_conv_dx(d, dx_direct, DT_F32, y_direct, w, &s), OK);
    assert_int_equal(winograd_conv_dx(d, dx, y_direct, w, &s, false), OK);
    compare("dx", dx, dx_direct, nx);
    assert_int_equal(winograd_conv_dx(d, dx, y_direct, w, &s, true), OK);
    for (int64_t i = 0; i < nx; i++)
        dx_direct[i] *= 2.0f;
    compare("dx, added", dx, dx_direct, nx);
    free(x), free(w), free(bias), free(y), free(y_direct), free(dx), free(dx_direct);
}

static void test_against_direct(void **state)
{
    (void)state;
    device *d = NULL;
    assert_int_equal(device_open_cpu(&d, 2), OK);
    check_shape(d, (conv_shape){.batch = 1, .height = 32, .width = 32, .in = 32, .out = 32, .geometry = {1, 1, 1, 1, 1}});
    check_shape(d, (conv_shape){.batch = 2, .height = 33, .width = 31, .in = 16, .out = 48, .geometry = {1, 1, 1, 1, 1}});
    check_shape(d, (conv_shape){.batch = 1, .height = 70, .width = 66, .in = 48, .out = 16, .geometry = {1, 0, 1, 2, 0}});
    assert_int_equal(d->memory->in_use[LIFE_SCRATCH], 0);
    device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_direct)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
