/* What the rows of the op test do not show: attention's bits do not depend on the number of threads, its memory
 * not on the length, long sequences and sizes that are no multiple of a tile agree with plain f64 sums, also as views
 * of one stacked tensor and in bf16, a NaN stays visible, and exp is exact to an ulp. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/cpu/exp.h"
#include "autograd/device.h"
#include "base/half.h"
#include "data/counter.h"

typedef struct run {
    device *d;
    dtype   type;
    arena   memory;
    tensor *q, *k, *v, *y, *lse, *dy, *dq, *dk, *dv;
} run;

static tensor *make(run *r, const char *name, int64_t b, int64_t t, int64_t h, int64_t d)
{
    tensor *x = NULL;
    assert_int_equal(tensor_new(&x, &r->memory, r->d, LIFE_STEP, name, r->type, DIMS(b, t, h, d)), OK);
    float *values = malloc((size_t)tensor_count(x) * sizeof *values);
    counter_uniform(values, name, 0, tensor_count(x));
    for (int64_t i = 0; i < tensor_count(x); i++) {
        if (r->type == DT_BF16)
            ((uint16_t *)x->data)[i] = f32_to_bf16(values[i]);
        else
            ((float *)x->data)[i] = values[i];
    }
    free(values);
    return x;
}

static run open_run_of(dtype type, int threads, int64_t b, int64_t t, int64_t s, int64_t h, int64_t d)
{
    run r = {.type = type};
    assert_int_equal(device_open_cpu(&r.d, threads), OK);
    r.q = make(&r, "q", b, t, h, d);
    r.k = make(&r, "k", b, s, h, d);
    r.v = make(&r, "v", b, s, h, d);
    r.y = make(&r, "y", b, t, h, d);
    r.dy = make(&r, "dy", b, t, h, d);
    r.dq = make(&r, "dq", b, t, h, d);
    r.dk = make(&r, "dk", b, s, h, d);
    r.dv = make(&r, "dv", b, s, h, d);
    assert_int_equal(tensor_new(&r.lse, &r.memory, r.d, LIFE_STEP, "lse", DT_F32, DIMS(b, h, t)), OK);
    return r;
}

static run open_run(int threads, int64_t b, int64_t t, int64_t s, int64_t h, int64_t d)
{
    return open_run_of(DT_F32, threads, b, t, s, h, d);
}

static void close_run(run *r)
{
    tensor *all[] = {r->q, r->k, r->v, r->y, r->lse, r->dy, r->dq, r->dk, r->dv};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        tensor_release(all[i]);
    device_close(r->d);
    arena_free(&r->memory);
}

static void forward_backward(run *r, bool causal)
{
    const primitives *p = r->d->p;
    assert_int_equal(p->attention(r->d, r->y, r->lse, r->q, r->k, r->v, 0.5f, causal), OK);
    assert_int_equal(p->attention_backward(r->d, r->dq, r->dk, r->dv, r->dy, r->y, r->lse, r->q, r->k, r->v, 0.5f,
                                           causal, false, false, false),
                     OK);
}

static void expect_same_bits(const tensor *a, const tensor *b)
{
    assert_memory_equal(a->data, b->data, (size_t)tensor_count(a) * dtype_bytes(a->type));
}

static void compare_threads(dtype type, int64_t heads, bool causal)
{
    run one = open_run_of(type, 1, 1, 200, 600, heads, 24);
    forward_backward(&one, causal);
    for (int threads = 2; threads <= 5; threads++) {
        run many = open_run_of(type, threads, 1, 200, 600, heads, 24);
        forward_backward(&many, causal);
        expect_same_bits(one.y, many.y);
        expect_same_bits(one.dq, many.dq);
        expect_same_bits(one.dk, many.dk);
        expect_same_bits(one.dv, many.dv);
        close_run(&many);
    }
    close_run(&one);
}

static void test_threads_do_not_change_bits(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        dtype type = i ? DT_BF16 : DT_F32;
        compare_threads(type, 1, false); /* fewer heads than threads: tiles are shared out */
        compare_threads(type, 1, true);
        compare_threads(type, 7, false);
    }
}

/* 8192 x 8192 scores are 256 MiB; the limit is what one thread's tiles need, several times over. */
static void test_memory_is_bounded(void **state)
{
    (void)state;
    run r = open_run(2, 1, 8192, 8192, 1, 8);
    forward_backward(&r, false);
    printf("scratch for 8192 x 8192: %zu KiB\n", r.d->memory->peak[LIFE_SCRATCH] >> 10);
    assert_true(r.d->memory->peak[LIFE_SCRATCH] < (size_t)4 << 20);
    close_run(&r);
}

/* y of one query in f64, for head 0 of batch entry 0 */
static void exact_row(double *y, const run *r, int64_t t, int64_t keys)
{
    int64_t      d = r->q->dim[3], step = r->q->dim[2] * d;
    const float *q = (const float *)r->q->data + t * step, *k = r->k->data, *v = r->v->data;
    double       sum = 0.0;
    memset(y, 0, (size_t)d * sizeof *y);
    for (int64_t s = 0; s < keys; s++) {
        double score = 0.0;
        for (int64_t i = 0; i < d; i++)
            score += (double)q[i] * (double)k[s * step + i];
        double p = exp(0.5 * score);
        sum += p;
        for (int64_t i = 0; i < d; i++)
            y[i] += p * (double)v[s * step + i];
    }
    for (int64_t i = 0; i < d; i++)
        y[i] /= sum;
}

static double worst_error(const run *r, bool causal)
{
    double worst = 0.0, y[64], error, size;
    for (int64_t t = 0; t < r->q->dim[1]; t += 37) {
        int64_t      keys = causal && t + 1 < r->k->dim[1] ? t + 1 : r->k->dim[1];
        const float *ours = (const float *)r->y->data + t * r->q->dim[2] * r->q->dim[3];
        exact_row(y, r, t, keys);
        error = size = 0.0;
        for (int64_t i = 0; i < r->q->dim[3]; i++) {
            error += ((double)ours[i] - y[i]) * ((double)ours[i] - y[i]);
            size += y[i] * y[i];
        }
        error = sqrt(error / size);
        if (!(error <= worst) && worst == worst)
            worst = error;
    }
    return worst;
}

/* f32 products of 64 terms and sums over 5000 keys of like size: a few 1e-7; means near 0 cost a digit. */
static void test_long_sequences(void **state)
{
    (void)state;
    const double tolerance = 5e-6;
    run          r = open_run(0, 1, 1200, 5000, 2, 64);
    for (int causal = 0; causal < 2; causal++) {
        forward_backward(&r, causal);
        double worst = worst_error(&r, causal);
        printf("%s: worst row %.2e, %.1f %% of tolerance\n", causal ? "causal" : "full", worst,
               100 * worst / tolerance);
        assert_true(worst <= tolerance);
    }
    close_run(&r);
}

static double value_at(const tensor *x, int64_t b, int64_t t, int64_t h, int64_t i)
{
    int64_t at = b * x->stride[0] + t * x->stride[1] + h * x->stride[2] + i;
    return x->type == DT_BF16 ? (double)bf16_to_f32(((const uint16_t *)x->data)[at])
                              : (double)((const float *)x->data)[at];
}

/* Of one batch entry and head, in f64 with the whole score matrix: y (T,D), dq (T,D), dk (S,D), dv (S,D), p (S). */
typedef struct gradients {
    double *y, *dq, *dk, *dv, *p;
} gradients;

static void exact_query(gradients *e, const run *r, int64_t b, int64_t h, int64_t t, bool causal)
{
    int64_t d = r->q->dim[3], keys = causal && t + 1 < r->k->dim[1] ? t + 1 : r->k->dim[1];
    double  sum = 0.0, delta = 0.0;
    for (int64_t s = 0; s < keys; s++) {
        double score = 0.0;
        for (int64_t i = 0; i < d; i++)
            score += value_at(r->q, b, t, h, i) * value_at(r->k, b, s, h, i);
        sum += e->p[s] = exp(0.5 * score);
    }
    for (int64_t i = 0; i < d; i++) {
        for (int64_t s = 0; s < keys; s++)
            e->y[t * d + i] += e->p[s] / sum * value_at(r->v, b, s, h, i);
        delta += value_at(r->dy, b, t, h, i) * e->y[t * d + i];
    }
    for (int64_t s = 0; s < keys; s++) {
        double p = e->p[s] / sum, dp = 0.0;
        for (int64_t i = 0; i < d; i++)
            dp += value_at(r->dy, b, t, h, i) * value_at(r->v, b, s, h, i);
        for (int64_t i = 0; i < d; i++) {
            e->dq[t * d + i] += 0.5 * p * (dp - delta) * value_at(r->k, b, s, h, i);
            e->dk[s * d + i] += 0.5 * p * (dp - delta) * value_at(r->q, b, t, h, i);
            e->dv[s * d + i] += p * value_at(r->dy, b, t, h, i);
        }
    }
}

/* The norm of the difference against that of the exact one. */
static double difference(const tensor *x, const double *exact, int64_t b, int64_t h)
{
    double error = 0.0, size = 0.0;
    for (int64_t t = 0; t < x->dim[1]; t++) {
        for (int64_t i = 0; i < x->dim[3]; i++) {
            double is = exact[t * x->dim[3] + i], ours = value_at(x, b, t, h, i);
            error += (ours - is) * (ours - is);
            size += is * is;
        }
    }
    return sqrt(error / size);
}

static void expect_exact(const run *r, bool causal, double tolerance)
{
    int64_t d = r->q->dim[3], queries = r->q->dim[1] * d, keys = r->k->dim[1] * d;
    for (int64_t i = 0; i < r->q->dim[0] * r->q->dim[2]; i++) {
        int64_t b = i / r->q->dim[2], h = i % r->q->dim[2];
        double *memory = calloc((size_t)(2 * queries + 3 * keys), sizeof *memory);
        gradients e = {memory, memory + queries, memory + 2 * queries, memory + 2 * queries + keys,
                     memory + 2 * queries + 2 * keys};
        for (int64_t t = 0; t < r->q->dim[1]; t++)
            exact_query(&e, r, b, h, t, causal);
        double worst[] = {difference(r->y, e.y, b, h), difference(r->dq, e.dq, b, h), difference(r->dk, e.dk, b, h),
                          difference(r->dv, e.dv, b, h)};
        for (int j = 0; j < 4; j++) {
            if (!(worst[j] <= tolerance))
                printf("%d x %d x %d, %s%s, %s is off by %.2e\n", (int)r->q->dim[1], (int)r->k->dim[1], (int)d,
                       dtype_name(r->type), causal ? ", causal" : "", (const char *[]){"y", "dq", "dk", "dv"}[j],
                       worst[j]);
            assert_true(worst[j] <= tolerance);
        }
        free(memory);
    }
}

/* f32: a few 1e-7, times some where dS is a difference. bf16: each rounding is 2e-3 on average, of p, dS and the
 * result; the op test allows as much. */
static const double f32_tolerance = 5e-6, bf16_tolerance = 1e-2;

static void test_sizes_of_no_tile(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{1, 1, 1},     {1, 65, 8},    {49, 64, 16},  {95, 66, 17}, {96, 129, 33},
                                       {193, 63, 64}, {200, 77, 104}, {33, 1, 130}, {241, 257, 7}, {17, 31, 129}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int causal = 0; causal < 2; causal++) {
            for (int bf16 = 0; bf16 < 2; bf16++) {
                run r = open_run_of(bf16 ? DT_BF16 : DT_F32, 2, 1, sizes[i][0], sizes[i][1], 2, sizes[i][2]);
                forward_backward(&r, causal);
                if (sizes[i][1] > 1 && !(causal && sizes[i][0] == 1)) /* one key gives scores no gradient */
                    expect_exact(&r, causal, bf16 ? bf16_tolerance : f32_tolerance);
                close_run(&r);
            }
        }
    }
}

/* Part 0, 1 or 2 of x (B,T,3*H,D) as (B,T,H,D). */
static tensor part_of(const tensor *x, int part)
{
    tensor  y = *x;
    int64_t heads = x->dim[2] / 3;
    y.dim[2] = heads;
    y.data = (char *)x->data + (size_t)(part * heads * x->dim[3]) * dtype_bytes(x->type);
    return y;
}

static void test_stacked(void **state)
{
    (void)state;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        run     r = open_run_of(bf16 ? DT_BF16 : DT_F32, 2, 2, 75, 75, 3, 40), views = r;
        tensor *x = make(&r, "x", 2, 75, 9, 40), *dx = make(&r, "dx", 2, 75, 9, 40);
        tensor  part[6];
        for (int i = 0; i < 6; i++)
            part[i] = part_of(i < 3 ? x : dx, i % 3);
        views.q = &part[0], views.k = &part[1], views.v = &part[2];
        views.dq = &part[3], views.dk = &part[4], views.dv = &part[5];
        forward_backward(&views, false);
        expect_exact(&views, false, bf16 ? bf16_tolerance : f32_tolerance);
        tensor_release(x);
        tensor_release(dx);
        close_run(&r);
    }
}

/* One key: y is v, dv is dy to the bit, and q and k have no influence. */
static void test_one_key(void **state)
{
    (void)state;
    run r = open_run(2, 2, 1, 1, 3, 8);
    forward_backward(&r, false);
    expect_same_bits(r.y, r.v);
    expect_same_bits(r.dv, r.dy);
    for (int64_t i = 0; i < tensor_count(r.dq); i++)
        assert_true(fabsf(((float *)r.dq->data)[i]) < 1e-6f && fabsf(((float *)r.dk->data)[i]) < 1e-6f);
    close_run(&r);
}

static void test_nan_stays_visible(void **state)
{
    (void)state;
    run r = open_run(2, 1, 3, 300, 1, 8);
    ((float *)r.k->data)[290 * 8] = NAN;
    forward_backward(&r, false);
    for (int64_t i = 0; i < tensor_count(r.y); i++)
        assert_true(isnan(((float *)r.y->data)[i]));
    close_run(&r);
}

static void test_exp(void **state)
{
    (void)state;
    double worst = 0.0;
    for (int i = 0; i < 2000000; i++) {
        float  x = -87.3f + 175.3f * (float)i / 2000000.0f;
        double exact = exp((double)x), ulp = (double)nextafterf((float)exact, INFINITY) - (double)(float)exact;
        double error = fabs((double)cpu_exp(x) - exact) / ulp;
        if (!(error <= worst) && worst == worst)
            worst = error;
    }
    printf("exp: %.3f ulp\n", worst);
    assert_true(worst <= 1.1);
    assert_true(cpu_exp(0.0f) == 1.0f && cpu_exp(-INFINITY) == 0.0f && cpu_exp(-1000.0f) == 0.0f);
    assert_true(isinf(cpu_exp(INFINITY)) && isinf(cpu_exp(100.0f)) && isnan(cpu_exp(NAN)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_do_not_change_bits), cmocka_unit_test(test_memory_is_bounded),
        cmocka_unit_test(test_long_sequences),             cmocka_unit_test(test_nan_stays_visible),
        cmocka_unit_test(test_one_key),                    cmocka_unit_test(test_exp),
        cmocka_unit_test(test_sizes_of_no_tile),           cmocka_unit_test(test_stacked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
