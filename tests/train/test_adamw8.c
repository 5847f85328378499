/* AdamW with 8-bit moments against the same written out in numpy (tests/reference/make_adamw8.py), against AdamW with f32
 * moments on a problem of its own, and its promises. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/moment_code.h"
#include "data/counter.h"
#include "support_golden.h"
#include "tests/test_device.h"
#include "train/optimizer.h"

enum { N = 5000, SMALL = 100 };

typedef struct bench {
    arena      memory;
    device    *dev;
    parameter  param[2]; /* large, with codes; small, without */
    optimizer *o;
} bench;

/* f32, or codes: as they lie on the device. */
static void *values_of(bench *b, const tensor *t)
{
    void *out = arena_get(&b->memory, (size_t)tensor_count(t) * dtype_bytes(t->type));
    assert_int_equal(tensor_download(out, t->type, t), OK);
    return out;
}

static void bench_open(bench *b, bool eight_bits, double decay, int threads)
{
    static const char *const names[] = {"p", "small"};
    *b = (bench){0};
    assert_int_equal(test_device_open(&b->dev, threads), OK);
    for (int i = 0; i < 2; i++) {
        tensor *t = NULL;
        int64_t n = i ? SMALL : N;
        float   values[N];
        assert_int_equal(tensor_new(&t, &b->memory, b->dev, LIFE_STATE, names[i], DT_F32, DIMS(n)), OK);
        t->needs_grad = true;
        counter_uniform(values, names[i], 0, n);
        assert_int_equal(tensor_upload(t, values, DT_F32), OK);
        b->param[i] = (parameter){.name = names[i], .t = t, .rate = 1};
    }
    adamw how = {0.9, 0.999, 1e-8, decay, eight_bits, false, false};
    assert_int_equal(optimizer_new(&b->o, &b->memory, b->dev, b->param, 2, how), OK);
}

static void bench_close(bench *b)
{
    optimizer_free(b->o);
    for (int i = 0; i < 2; i++)
        tensor_release(b->param[i].t);
    assert_int_equal(b->dev->memory->total, 0);
    device_close(b->dev);
    arena_free(&b->memory);
}

static void write_gradient(bench *b, const float *grad)
{
    assert_int_equal(tensor_upload(b->param[0].t->grad, grad, DT_F32), OK);
    b->param[0].t->grad_fresh = false;
}

static void set_gradient(bench *b, int step)
{
    float grad[N];
    char  key[16];
    optimizer_begin(b->o);
    snprintf(key, sizeof key, "g#%d", step);
    counter_uniform(grad, key, 0, N);
    for (int i = 0; i < N; i++)
        grad[i] = 0.3f * (grad[i] * grad[i] * grad[i] * grad[i] * grad[i]);
    write_gradient(b, grad);
}

static void five_updates(bench *b)
{
    for (int step = 1; step <= 5; step++) {
        if (step == 3)
            optimizer_begin(b->o); /* took no part */
        else
            set_gradient(b, step);
        assert_int_equal(optimizer_update(b->o, 0, 0, 1e-2), OK);
    }
}

static void maps_are_the_published_ones(void **state)
{
    (void)state;
    golden g = golden_open("adamw8.safetensors");
    for (int is_signed = 0; is_signed < 2; is_signed++) {
        moment_map map;
        float     *ref = golden_f32(&g, is_signed ? "map.m" : "map.v");
        moment_map_make(&map, is_signed);
        for (int i = 0; i < MOMENT_CODES; i++)
            assert_true(fabsf(map.value[i] - ref[i]) <= 2e-7f * fabsf(ref[i])); /* the last bit of f32 */
    }
    golden_close(&g);
}

static void expect_codes(bench *b, golden *g, const char *name, const tensor *ours)
{
    const stored_tensor *ref = golden_tensor(g, name);
    const uint8_t       *code = values_of(b, ours);
    int                  beside = 0;
    for (int i = 0; i < N; i++) {
        int apart = abs((int)code[i] - (int)ref->data[i]);
        assert_true(apart <= 1);
        beside += apart;
    }
    printf("%s: %d of %d codes differ\n", name, beside, N);
    assert_true(beside <= N / 1000); /* halfway between two codes the last bit decides */
}

static void five_updates_as_written_out(void **state)
{
    (void)state;
    golden g = golden_open("adamw8.safetensors");
    bench  b;
    bench_open(&b, true, 0.1, 2);
    five_updates(&b);
    assert_true(golden_agrees(&g, "p", b.param[0].t, false, 1e-6));
    assert_true(golden_agrees(&g, "m_absmax", b.o->m_absmax[0], false, 1e-6));
    assert_true(golden_agrees(&g, "v_absmax", b.o->v_absmax[0], false, 1e-6));
    expect_codes(&b, &g, "m", b.o->m[0]);
    expect_codes(&b, &g, "v", b.o->v[0]);
    assert_null(b.o->m_absmax[1]); /* 100 numbers keep f32 */
    assert_int_equal(b.o->m[1]->type, DT_F32);
    bench_close(&b);
    golden_close(&g);
}

static void any_number_of_threads(void **state)
{
    (void)state;
    bench a, b;
    bench_open(&a, true, 0.1, 1);
    bench_open(&b, true, 0.1, 3);
    five_updates(&a);
    five_updates(&b);
    assert_memory_equal(values_of(&a, a.param[0].t), values_of(&b, b.param[0].t), N * sizeof(float));
    assert_memory_equal(values_of(&a, a.o->v[0]), values_of(&b, b.o->v[0]), N);
    bench_close(&a);
    bench_close(&b);
}

/* A loss with five decades of curvature and noisy gradients: sum of c (p - t)^2 / 2. */
static double descend(bool eight_bits, int steps)
{
    bench  b;
    float  target[N], noise[N], p[N], grad[N];
    double loss = 0;
    bench_open(&b, eight_bits, 0, 2);
    counter_uniform(target, "target", 0, N);
    for (int step = 0; step <= steps; step++) {
        optimizer_begin(b.o);
        counter_uniform(noise, "noise", (uint64_t)step * N, N);
        assert_int_equal(tensor_download(p, DT_F32, b.param[0].t), OK);
        loss = 0;
        for (int i = 0; i < N; i++) {
            float curvature = powf(10.0f, -(float)(i % 6)), apart = p[i] - target[i];
            loss += 0.5 * (double)(curvature * apart * apart) / N;
            grad[i] = curvature * (apart + 0.3f * noise[i]);
        }
        write_gradient(&b, grad);
        assert_int_equal(optimizer_update(b.o, 0, 0, 2e-2), OK);
    }
    bench_close(&b);
    return loss;
}

static void descends_like_f32(void **state)
{
    (void)state;
    double start = descend(false, 0), wide = descend(false, 100), narrow = descend(true, 100);
    printf("loss %.6f at the start; after 100 updates %.6f with f32, %.6f with 8-bit moments\n", start, wide, narrow);
    assert_true(wide < 0.2 * start);
    assert_true(fabs(narrow - wide) < 0.02 * start);
}

/* A moment far below its block's largest is rounded up to the smallest code, never to 0: dividing by 0 + eps would throw
 * the weights away when the gradient stays out for a while. */
static void small_second_moments_stay_above_zero(void **state)
{
    (void)state;
    bench b;
    bench_open(&b, true, 0, 2);
    float        grad[N];
    const float *before = values_of(&b, b.param[0].t);
    optimizer_begin(b.o);
    for (int i = 0; i < N; i++)
        grad[i] = i % MOMENT_BLOCK ? 1e-5f : 1.0f;
    write_gradient(&b, grad);
    assert_int_equal(optimizer_update(b.o, 0, 0, 1e-3), OK);
    for (int step = 0; step < 5; step++) {
        optimizer_begin(b.o);
        assert_int_equal(optimizer_update(b.o, 0, 0, 1e-3), OK);
    }
    const float *p = values_of(&b, b.param[0].t);
    for (int i = 0; i < N; i++)
        assert_true(fabsf(p[i] - before[i]) < 0.01f); /* at most about lr an update */
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_are_the_published_ones),
        cmocka_unit_test(five_updates_as_written_out),
        cmocka_unit_test(any_number_of_threads),
        cmocka_unit_test(descends_like_f32),
        cmocka_unit_test(small_second_moments_stay_above_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
