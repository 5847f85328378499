/* Weights of linear layers laid out for the forward product: the same values as plain ones, plain values back bit by bit,
 * the same bits for any number of threads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "autograd/device.h"
#include "data/counter.h"

/* Of the root mean square. f32: the same sums of up to 1,280 products of size 1 in another order. bf16: sums in f32,
 * one rounding of the result, 2^-8 between neighbours, of numbers up to five times the root mean square. */
static const double TOLERANCE[] = {[DT_F32] = 1e-5, [DT_BF16] = 4e-2};

typedef struct shape { int64_t n, k, m; } shape;
static const shape shapes[] = {{1, 1280, 64}, {16, 768, 640}, {77, 2048, 128}, {300, 320, 960}, {3, 32, 64},
                               {5, 33, 64}, {7, 64, 65}, {4096, 64, 64}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static tensor *numbers(arena *owner, device *d, const char *name, dtype type, int64_t rows, int64_t columns)
{
    tensor *t = NULL;
    assert_int_equal(tensor_new(&t, owner, d, LIFE_WEIGHTS, name, type, 2, (int64_t[]){rows, columns}), OK);
    float *values = malloc((size_t)(rows * columns) * sizeof *values);
    counter_uniform(values, name, 0, rows * columns);
    assert_int_equal(tensor_upload(t, values, DT_F32), OK);
    free(values);
    return t;
}

static float *values_of(const tensor *t)
{
    float *values = malloc((size_t)tensor_count(t) * sizeof *values);
    assert_int_equal(tensor_download(values, DT_F32, t), OK);
    return values;
}

/* y of the product with w plain or laid out; *w_back what w gives back; *packed: whether w has another order now. */
static float *product(float **w_back, bool *packed, int threads, const shape *s, dtype type, bool laid_out)
{
    device *d = NULL;
    arena   owner = {0};
    assert_int_equal(device_open_cpu(&d, threads), OK);
    tensor *x = numbers(&owner, d, "x", type, s->n, s->k), *w = numbers(&owner, d, "w", type, s->m, s->k);
    tensor *y = numbers(&owner, d, "y", type, s->n, s->m), *bias = numbers(&owner, d, "b", type, 1, s->m);
    if (laid_out)
        assert_int_equal(d->p->lay_out(d, w, USE_FORWARD), OK);
    assert_int_equal(d->p->linear(d, y, x, w, bias, y), OK);
    float *out = values_of(y);
    *packed = w->layout != 0;
    *w_back = values_of(w);
    assert_int_equal(d->memory->in_use[LIFE_SCRATCH], 0);
    tensor_release(x), tensor_release(w), tensor_release(y), tensor_release(bias);
    arena_free(&owner);
    device_close(d);
    return out;
}

static void check_shape(const shape *s, dtype type)
{
    bool   packed;
    float *plain_w, *plain = product(&plain_w, &packed, 2, s, type, false);
    float *back, *out = product(&back, &packed, 2, s, type, true);
    assert_memory_equal(plain_w, back, (size_t)(s->m * s->k) * sizeof *back);
    double squares = 0, worst = 0;
    for (int64_t i = 0; i < s->n * s->m; i++) {
        double e = fabs((double)out[i] - (double)plain[i]);
        squares += (double)plain[i] * (double)plain[i];
        if (!(e <= worst))
            worst = e;
    }
    assert_true(squares > 0);
    assert_true(worst <= TOLERANCE[type] * sqrt(squares / (double)(s->n * s->m)));
    for (int threads = 1; threads <= 3 && packed; threads++) { /* of products that read blocks */
        float *again_w, *again = product(&again_w, &packed, threads, s, type, true);
        assert_memory_equal(again, out, (size_t)(s->n * s->m) * sizeof *out);
        free(again), free(again_w);
    }
    free(plain), free(out), free(plain_w), free(back);
}

static void test_laid_out(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        check_shape(&shapes[i], DT_F32);
        check_shape(&shapes[i], DT_BF16);
    }
}

/* A weight that both directions read keeps its order. */
static void test_both(void **state)
{
    (void)state;
    device *d = NULL;
    arena   owner = {0};
    assert_int_equal(device_open_cpu(&d, 2), OK);
    tensor *w = numbers(&owner, d, "w", DT_BF16, 64, 128), *dy = numbers(&owner, d, "dy", DT_BF16, 9, 64);
    tensor *dx = numbers(&owner, d, "dx", DT_BF16, 9, 128);
    assert_int_equal(d->p->lay_out(d, w, USE_BOTH), OK);
    assert_int_equal(d->p->linear_dx(d, dx, dy, w, true), OK);
    tensor_release(w), tensor_release(dy), tensor_release(dx);
    arena_free(&owner);
    device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_laid_out), cmocka_unit_test(test_both)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
