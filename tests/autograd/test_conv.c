/* Convolutions of the CPU device against a direct sum in f64: f32 and bf16, plain weights and laid-out ones, forward
 * and data gradient, strides, pads of their own, odd sides, few channels, with and without bias, residual,
 * accumulation. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/device.h"
#include "base/half.h"
#include "data/counter.h"

/* Of |expected| + its root mean square. f32: sums of up to 2,900 products, and Winograd's F(4x4,3x3), which differs
 * from the direct sum by 1.5e-6 in the root mean square, in single numbers by fifteen times that. bf16: sums are in
 * f32; rounding the result costs 2^-9, accumulating rounds what was there already. */
static const double TOLERANCE[] = {[DT_F32] = 4e-5, [DT_BF16] = 5e-3};

typedef struct shape {
    const char   *what;
    int64_t       batch, height, width, in, out, kernel_height, kernel_width;
    conv_geometry g;
} shape;

static const shape shapes[] = {
    {"3x3, few places", 1, 8, 8, 48, 32, 3, 3, {1, 1, 1, 1, 1}},
    {"3x3, two pictures, odd sides", 2, 33, 31, 16, 48, 3, 3, {1, 1, 1, 1, 1}},
    {"3x3, pads of their own", 1, 30, 26, 80, 16, 3, 3, {1, 0, 1, 2, 0}},
    {"3x3, one row of tiles", 1, 3, 70, 32, 32, 3, 3, {1, 1, 1, 1, 1}},
    {"3x3, many channels", 1, 9, 7, 320, 176, 3, 3, {1, 1, 1, 1, 1}},
    {"3x3, few channels in", 1, 13, 10, 4, 32, 3, 3, {1, 1, 1, 1, 1}},
    {"3x3, few channels out", 2, 13, 10, 32, 4, 3, 3, {1, 1, 1, 1, 1}},
    {"3x3, odd channels", 1, 11, 9, 5, 7, 3, 3, {1, 1, 1, 1, 1}},
    {"3x3, stride 2", 1, 17, 14, 32, 48, 3, 3, {2, 1, 1, 1, 1}},
    {"3x3, stride 2, VAE's pads", 1, 16, 18, 16, 16, 3, 3, {2, 0, 0, 1, 1}},
    {"1x1", 2, 9, 11, 48, 32, 1, 1, {1, 0, 0, 0, 0}},
    {"patches", 1, 28, 42, 3, 24, 14, 14, {14, 0, 0, 0, 0}},
    {"uneven kernel", 1, 8, 9, 6, 10, 2, 3, {1, 2, 0, 1, 3}},
};

typedef struct bench {
    device *d;
    arena   owner;
    shape   s;
    int64_t out_height, out_width;
    tensor *x, *w, *bias, *y, *residual, *dx;
    double *host_x, *host_w, *host_bias, *host_y, *host_residual, *expected;
} bench;

/* A tensor of numbers that its type holds exactly; *host the same in f64. */
static tensor *numbers(bench *b, double **host, const char *name, dtype type, int ndim, const int64_t *dim)
{
    tensor *t = NULL;
    assert_int_equal(tensor_new(&t, &b->owner, b->d, LIFE_STEP, name, type, ndim, dim), OK);
    int64_t n = tensor_count(t);
    float  *values = malloc((size_t)n * sizeof *values);
    counter_uniform(values, name, 0, n);
    *host = malloc((size_t)n * sizeof **host);
    for (int64_t i = 0; i < n; i++) {
        if (type == DT_BF16)
            values[i] = bf16_to_f32(f32_to_bf16(values[i]));
        (*host)[i] = (double)values[i];
    }
    assert_int_equal(tensor_upload(t, values, DT_F32), OK);
    free(values);
    return t;
}

static void open_bench(bench *b, device *d, const shape *s, dtype type, bool laid_out)
{
    const conv_geometry *g = &s->g;
    *b = (bench){.d = d, .s = *s,
                 .out_height = (s->height + g->pad_top + g->pad_bottom - s->kernel_height) / g->stride + 1,
                 .out_width = (s->width + g->pad_left + g->pad_right - s->kernel_width) / g->stride + 1};
    b->x = numbers(b, &b->host_x, "x", type, DIMS(s->batch, s->height, s->width, s->in));
    b->w = numbers(b, &b->host_w, "w", type, DIMS(s->out, s->kernel_height, s->kernel_width, s->in));
    b->bias = numbers(b, &b->host_bias, "b", type, DIMS(s->out));
    b->y = numbers(b, &b->host_y, "y", type, DIMS(s->batch, b->out_height, b->out_width, s->out));
    b->residual = numbers(b, &b->host_residual, "r", type, DIMS(s->batch, b->out_height, b->out_width, s->out));
    b->dx = numbers(b, &b->expected, "dx", type, DIMS(s->batch, s->height, s->width, s->in));
    if (laid_out)
        assert_int_equal(d->p->lay_out(d, b->w, USE_BOTH), OK);
}

static void close_bench(bench *b)
{
    tensor *const all[] = {b->x, b->w, b->bias, b->y, b->residual, b->dx};
    for (int i = 0; i < 6; i++)
        tensor_release(all[i]);
    free(b->host_x), free(b->host_w), free(b->host_bias), free(b->host_y), free(b->host_residual), free(b->expected);
    arena_free(&b->owner);
}

/* Adds w's share to y (and takes x), or to dx (and takes y). */
static void direct_sum(const bench *b, double *y, double *dx)
{
    const shape *s = &b->s;
    int64_t      places = s->batch * b->out_height * b->out_width, taps = s->kernel_height * s->kernel_width;
    for (int64_t p = 0; p < places; p++) {
        for (int64_t tap = 0; tap < taps; tap++) {
            int64_t i = p / b->out_width % b->out_height * s->g.stride + tap / s->kernel_width - s->g.pad_top;
            int64_t j = p % b->out_width * s->g.stride + tap % s->kernel_width - s->g.pad_left;
            if (i < 0 || i >= s->height || j < 0 || j >= s->width)
                continue;
            int64_t at = ((p / b->out_width / b->out_height * s->height + i) * s->width + j) * s->in;
            for (int64_t o = 0; o < s->out; o++) {
                const double *w = b->host_w + (o * taps + tap) * s->in;
                for (int64_t c = 0; c < s->in && dx; c++)
                    dx[at + c] += w[c] * b->host_y[p * s->out + o];
                for (int64_t c = 0; c < s->in && !dx; c++)
                    y[p * s->out + o] += w[c] * b->host_x[at + c];
            }
        }
    }
}

static double worst_of(const tensor *got, const double *expected, dtype type)
{
    int64_t n = tensor_count(got);
    float  *values = malloc((size_t)n * sizeof *values);
    double  squares = 0, worst = 0;
    assert_int_equal(tensor_download(values, DT_F32, got), OK);
    for (int64_t i = 0; i < n; i++)
        squares += expected[i] * expected[i];
    double rms = sqrt(squares / (double)n);
    for (int64_t i = 0; i < n; i++) {
        double e = fabs((double)values[i] - expected[i]) / (fabs(expected[i]) + rms);
        if (!(e <= worst))
            worst = e;
    }
    free(values);
    return worst / TOLERANCE[type];
}

static double check_forward(bench *b, dtype type, bool bias, bool residual, bool in_place)
{
    int64_t  n = tensor_count(b->y);
    double  *expected = malloc((size_t)n * sizeof *expected);
    device  *d = b->d;
    for (int64_t i = 0; i < n; i++)
        expected[i] = (bias ? b->host_bias[i % b->s.out] : 0) + (residual ? b->host_residual[i] : 0);
    direct_sum(b, expected, NULL);
    tensor *to = in_place ? b->residual : b->y;
    err e = d->p->conv2d(d, to, b->x, b->w, bias ? b->bias : NULL, residual ? b->residual : NULL, &b->s.g);
    assert_int_equal(e, OK);
    double worst = worst_of(to, expected, type);
    free(expected);
    return worst;
}

static double check_dx(bench *b, dtype type)
{
    device *d = b->d;
    int64_t n = tensor_count(b->dx);
    float  *dy = malloc((size_t)tensor_count(b->y) * sizeof *dy);
    for (int64_t i = 0; i < tensor_count(b->y); i++)
        dy[i] = (float)b->host_y[i];
    assert_int_equal(tensor_upload(b->y, dy, DT_F32), OK);
    free(dy);
    direct_sum(b, NULL, b->expected); /* it holds what dx holds */
    assert_int_equal(d->p->conv2d_dx(d, b->dx, b->y, b->w, &b->s.g, true), OK);
    double worst = worst_of(b->dx, b->expected, type);
    memset(b->expected, 0, (size_t)n * sizeof *b->expected);
    direct_sum(b, NULL, b->expected);
    assert_int_equal(d->p->conv2d_dx(d, b->dx, b->y, b->w, &b->s.g, false), OK);
    double again = worst_of(b->dx, b->expected, type);
    return again > worst || again != again ? again : worst;
}

static void check_shape(device *d, const shape *s, dtype type, bool laid_out, int *bad)
{
    bench b;
    open_bench(&b, d, s, type, laid_out);
    double worst[] = {check_forward(&b, type, true, false, false), check_forward(&b, type, false, true, false),
                      check_forward(&b, type, true, true, true), check_dx(&b, type)};
    bool   ok = true;
    for (int i = 0; i < 4; i++)
        ok = ok && worst[i] <= 1.0;
    printf("%-4s %-30s %-4s %-8s bias %5.1f, residual %5.1f, both in place %5.1f, dx %5.1f %% of tolerance\n",
           ok ? "ok" : "FAIL", s->what, dtype_name(type), laid_out ? "laid out" : "plain", 100 * worst[0],
           100 * worst[1], 100 * worst[2], 100 * worst[3]);
    *bad += !ok;
    close_bench(&b);
}

static void test_against_direct_sum(void **state)
{
    device *d = *state;
    int     bad = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int k = 0; k < 4; k++)
            check_shape(d, &shapes[i], k & 2 ? DT_BF16 : DT_F32, k & 1, &bad);
    assert_int_equal(bad, 0);
    assert_int_equal(d->memory->in_use[LIFE_SCRATCH], 0);
}

/* A laid-out weight gives its plain values back, bit by bit. */
static void test_download(void **state)
{
    device *d = *state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int k = 0; k < 2; k++) {
            bench b;
            open_bench(&b, d, &shapes[i], k ? DT_BF16 : DT_F32, true);
            int64_t n = tensor_count(b.w);
            float  *values = malloc((size_t)n * sizeof *values);
            assert_int_equal(tensor_download(values, DT_F32, b.w), OK);
            for (int64_t j = 0; j < n; j++)
                assert_true((double)values[j] == b.host_w[j]);
            free(values);
            close_bench(&b);
        }
    }
    assert_int_equal(d->memory->total, 0);
}

static void *product(device *d, int64_t *n, bool dx)
{
    bench b;
    open_bench(&b, d, &shapes[1], DT_F32, true);
    tensor *to = dx ? b.dx : b.y;
    assert_int_equal(dx ? d->p->conv2d_dx(d, to, b.y, b.w, &b.s.g, false)
                        : d->p->conv2d(d, to, b.x, b.w, b.bias, NULL, &b.s.g), OK);
    *n = tensor_count(to);
    float *out = malloc((size_t)*n * sizeof *out);
    assert_int_equal(tensor_download(out, DT_F32, to), OK);
    close_bench(&b);
    return out;
}

/* One thread, two and three: the same bits. */
static void test_threads(void **state)
{
    (void)state;
    for (int dx = 0; dx < 2; dx++) {
        void *first = NULL;
        for (int threads = 1; threads <= 3; threads++) {
            device *d = NULL;
            int64_t n;
            assert_int_equal(device_open_cpu(&d, threads), OK);
            void *out = product(d, &n, dx);
            if (first)
                assert_memory_equal(out, first, (size_t)n * sizeof(float));
            free(first);
            first = out;
            device_close(d);
        }
        free(first);
    }
}

static void test_mixed_types(void **state)
{
    device *d = *state;
    bench   f, h;
    open_bench(&f, d, &shapes[0], DT_F32, false);
    open_bench(&h, d, &shapes[0], DT_BF16, false);
    assert_int_equal(d->p->conv2d(d, f.y, h.x, f.w, f.bias, NULL, &f.s.g), E_DEVICE);
    assert_non_null(strstr(err_message(), "x is bf16, expected f32"));
    assert_int_equal(d->p->conv2d(d, h.y, h.x, h.w, f.bias, NULL, &f.s.g), E_DEVICE);
    assert_int_equal(d->p->conv2d_dx(d, f.dx, h.y, h.w, &f.s.g, false), E_DEVICE);
    close_bench(&f);
    close_bench(&h);
}

static int open_device(void **state)
{
    device *d = NULL;
    err     e = device_open_cpu(&d, 2);
    *state = d;
    return e != OK;
}

static int close_device(void **state)
{
    device_close(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_against_direct_sum, open_device, close_device),
        cmocka_unit_test_setup_teardown(test_download, open_device, close_device),
        cmocka_unit_test(test_threads),
        cmocka_unit_test_setup_teardown(test_mixed_types, open_device, close_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
