/* What the rows of the op test do not show of the CPU's primitives: copies between types and strides, the optimizer,
 * bits that do not depend on the number of threads, sums longer than a chunk, and the normal distribution
 * function. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/cpu/normal.h"
#include "autograd/device.h"
#include "base/half.h"
#include "data/counter.h"
#include "data/safetensors.h"

typedef struct world {
    device *d;
    arena   memory;
    tensor *made[32];
    int     count;
} world;

static world open_world(int threads)
{
    world w = {0};
    assert_int_equal(device_open_cpu(&w.d, threads), OK);
    return w;
}

static void close_world(world *w)
{
    for (int i = 0; i < w->count; i++)
        tensor_release(w->made[i]);
    device_close(w->d);
    arena_free(&w->memory);
}

static tensor *empty(world *w, dtype type, int ndim, const int64_t *dim)
{
    tensor *t = NULL;
    assert_true(w->count < 32);
    assert_int_equal(tensor_new(&t, &w->memory, w->d, LIFE_STEP, "t", type, ndim, dim), OK);
    return w->made[w->count++] = t;
}

static tensor *filled(world *w, const char *name, int ndim, const int64_t *dim)
{
    tensor *t = empty(w, DT_F32, ndim, dim);
    counter_uniform(t->data, name, 0, tensor_count(t));
    return t;
}

/* ---- memory ---- */

static void test_casts(void **state)
{
    (void)state;
    static const float exact[] = {0.0f, 1.0f, 2.5f, 200.0f, 17.0f}, whole[] = {0.0f, 1.0f, 2.0f, 200.0f, 17.0f};
    static const dtype types[] = {DT_F32, DT_BF16, DT_F16, DT_I32, DT_U8};
    const size_t n = sizeof exact / sizeof *exact;
    world        w = open_world(1);
    for (size_t i = 0; i < 5; i++) {
        for (size_t j = 0; j < 5; j++) {
            tensor *a = empty(&w, types[i], DIMS(5)), *b = empty(&w, types[j], DIMS(5));
            float   back[5];
            assert_int_equal(tensor_upload(a, exact, DT_F32), OK);
            assert_int_equal(w.d->p->copy(w.d, b, a, false), OK);
            assert_int_equal(tensor_download(back, DT_F32, b), OK);
            bool integer = types[i] == DT_I32 || types[i] == DT_U8 || types[j] == DT_I32 || types[j] == DT_U8;
            assert_memory_equal(back, integer ? whole : exact, n * sizeof *back);
            tensor_release(a);
            tensor_release(b);
            w.count -= 2;
        }
    }
    close_world(&w);
}

static void test_rounding_and_nan(void **state)
{
    (void)state;
    world   w = open_world(1);
    float   values[] = {1.00390625f, 1.01171875f, NAN, 70000.0f}; /* ties of bf16: to even; more than f16 has */
    tensor *b = empty(&w, DT_BF16, DIMS(4)), *h = empty(&w, DT_F16, DIMS(4));
    float   back[4];
    assert_int_equal(tensor_upload(b, values, DT_F32), OK);
    assert_int_equal(tensor_download(back, DT_F32, b), OK);
    assert_true(back[0] == 1.0f && back[1] == 1.015625f && isnan(back[2]));
    assert_int_equal(tensor_upload(h, values, DT_F32), OK);
    assert_int_equal(tensor_download(back, DT_F32, h), OK);
    assert_true(isnan(back[2]) && isinf(back[3]));
    int32_t large[] = {16777217, -2147483647 - 1, 49407, 0}, again[4]; /* not exact in f32 */
    tensor *ids = empty(&w, DT_I32, DIMS(4));
    assert_int_equal(tensor_upload(ids, large, DT_I32), OK);
    assert_int_equal(tensor_download(again, DT_I32, ids), OK);
    assert_memory_equal(again, large, sizeof large);
    close_world(&w);
}

static float download_one(const tensor *t, int64_t i)
{
    return t->type == DT_BF16 ? bf16_to_f32(((const uint16_t *)t->data)[i]) : ((const float *)t->data)[i];
}

static bool same_number(float a, float b)
{
    return isnan(a) ? isnan(b) : f32_bits(a) == f32_bits(b);
}

enum { ALL = 65536 };

/* Every bf16 and f16 there is, subnormals, infinities and NaN too, through the loops that the device runs: they are compiled
 * for several machines, and only scalars are compared bit by bit with the definition (tests/base/test_half.c). */
static void test_every_half(void **state)
{
    (void)state;
    world     w = open_world(2);
    uint16_t *bits = heap_get(ALL * sizeof *bits);
    tensor   *b = empty(&w, DT_BF16, DIMS(ALL)), *f = empty(&w, DT_F32, DIMS(ALL)), *again = empty(&w, DT_BF16, DIMS(ALL));
    for (int i = 0; i < ALL; i++)
        bits[i] = (uint16_t)i;
    assert_int_equal(tensor_upload(b, bits, DT_BF16), OK);
    assert_memory_equal(b->data, bits, ALL * sizeof *bits); /* NaN bits stay */
    assert_int_equal(w.d->p->copy(w.d, f, b, false), OK);
    assert_int_equal(w.d->p->copy(w.d, again, f, false), OK);
    for (int i = 0; i < ALL; i++) {
        assert_true(same_number(download_one(f, i), bf16_to_f32(bits[i])));
        assert_true(same_number(download_one(again, i), bf16_to_f32(bits[i])));
    }
    assert_int_equal(tensor_upload(f, bits, DT_F16), OK);
    assert_int_equal(tensor_upload(b, bits, DT_F16), OK);
    for (int i = 0; i < ALL; i++) {
        assert_true(same_number(download_one(f, i), f16_to_f32(bits[i])));
        assert_true(same_number(download_one(b, i), bf16_to_f32(f32_to_bf16(f16_to_f32(bits[i])))));
    }
    free(bits);
    close_world(&w);
}

/* Between each two neighbours of bf16: the middle goes to the even one, what lies beside it to the nearer. Through the
 * copy and through the arithmetic kernels, which round on their own. */
static void test_every_rounding(void **state)
{
    (void)state;
    world   w = open_world(2);
    tensor *f = empty(&w, DT_F32, DIMS(3, ALL)), *b = empty(&w, DT_BF16, DIMS(3, ALL)), *y = empty(&w, DT_BF16, DIMS(3, ALL));
    tensor *part = empty(&w, DT_BF16, DIMS(3, ALL)), *sum = empty(&w, DT_BF16, DIMS(3, ALL));
    float  *value = f->data;
    for (int i = 0; i < ALL; i++)
        for (int k = 0; k < 3; k++)
            value[k * ALL + i] = f32_from_bits((uint32_t)i << 16 | (0x7FFFu + (uint32_t)k));
    assert_int_equal(w.d->p->copy(w.d, b, f, false), OK);
    for (int i = 0; i < ALL; i++) {
        float low = bf16_to_f32((uint16_t)i), high = bf16_to_f32((uint16_t)(i + 1));
        if ((i & 0x7FFF) >= 0x7F80) { /* NaN: the upper 16 bits of infinity with something below them, too */
            for (int k = 0; k < 3; k++)
                assert_true(isnan(download_one(b, k * ALL + i)));
            continue;
        }
        assert_true(same_number(download_one(b, i), low));
        assert_true(same_number(download_one(b, ALL + i), i % 2 ? high : low));
        assert_true(same_number(download_one(b, 2 * ALL + i), high));
    }
    /* a sum of two bf16 whose exact value is such a middle: b + ulp / 2 */
    for (int i = 0; i < ALL; i++) {
        int exponent = i >> 7 & 0xFF;
        for (int k = 0; k < 3; k++) {
            int half = exponent > 8 && exponent < 255 ? (i & 0x8000) | (exponent - 8) << 7 : 0;
            ((uint16_t *)part->data)[k * ALL + i] = (uint16_t)half;
            ((uint16_t *)y->data)[k * ALL + i] = (uint16_t)i;
        }
    }
    assert_int_equal(w.d->p->add(w.d, sum, y, part), OK);
    for (int64_t i = 0; i < 3 * ALL; i++)
        assert_true(same_number(download_one(sum, i), bf16_to_f32(f32_to_bf16(download_one(y, i) + download_one(part, i)))));
    close_world(&w);
}

/* What is not finite is not finite afterwards: a NaN anywhere is seen in the result of every kernel. */
static void test_nan_survives(void **state)
{
    (void)state;
    world             w = open_world(2);
    const primitives *p = w.d->p;
    for (int half = 0; half < 2; half++) {
        dtype   type = half ? DT_BF16 : DT_F32;
        float   values[70] = {0};
        tensor *x = empty(&w, type, DIMS(1, 70)), *y = empty(&w, type, DIMS(1, 70)), *gate = empty(&w, type, DIMS(1, 35));
        tensor *c = empty(&w, type, DIMS(70)), *mean = empty(&w, DT_F32, DIMS(1, 1)), *rstd = empty(&w, DT_F32, DIMS(1, 1));
        assert_int_equal(p->fill(w.d, c, 1.0f), OK);
        for (int at = 3; at < 70; at += 33) { /* in the vector loop and after it */
            values[at] = NAN;
            values[at - 1] = INFINITY;
            assert_int_equal(tensor_upload(x, values, DT_F32), OK);
            for (int f = UNARY_SILU; f <= UNARY_QUICK_GELU; f++) {
                assert_int_equal(p->unary(w.d, y, x, (unary)f), OK);
                assert_true(isnan(download_one(y, at)) && download_one(y, at - 1) == INFINITY);
            }
            assert_int_equal(p->add(w.d, y, x, c), OK);
            assert_true(isnan(download_one(y, at)) && download_one(y, at - 1) == INFINITY && download_one(y, 0) == 1.0f);
            assert_int_equal(p->geglu(w.d, gate, x), OK);
            assert_true(isnan(download_one(gate, at % 35)));
            assert_int_equal(p->layer_norm(w.d, y, NULL, NULL, x, c, c, 1e-5f), OK);
            assert_true(isnan(download_one(y, 0)));
            assert_int_equal(p->group_norm(w.d, y, mean, rstd, x, NULL, c, c, 1, 1e-5f, true), OK);
            assert_true(isnan(download_one(y, 69)));
        }
    }
    close_world(&w);
}

/* Data of files may begin at any byte; more than a chunk, so that several threads take part. */
static void test_unaligned_upload(void **state)
{
    (void)state;
    enum { N = 40000 };
    world          w = open_world(3);
    unsigned char *file = heap_get(2 * N + 1);
    float         *back = heap_get(N * sizeof *back);
    for (int i = 0; i < N; i++) {
        uint16_t h = f32_to_f16((float)(i % 2048));
        memcpy(file + 1 + 2 * i, &h, 2);
    }
    tensor *t = empty(&w, DT_F32, DIMS(N));
    assert_int_equal(tensor_upload(t, file + 1, DT_F16), OK);
    assert_int_equal(tensor_download(back, DT_F32, t), OK);
    for (int i = 0; i < N; i++)
        assert_true(back[i] == (float)(i % 2048));
    free(file);
    free(back);
    close_world(&w);
}

/* x (3,4,6)[:, 1:3, ::2] as a view, and into a view */
static void test_strided(void **state)
{
    (void)state;
    world   w = open_world(2);
    tensor *x = filled(&w, "x", DIMS(3, 4, 6)), *y = empty(&w, DT_F32, DIMS(3, 2, 3));
    tensor  part = *x;
    part.dim[1] = 2;
    part.dim[2] = 3;
    part.stride[2] = 2;
    part.data = (float *)x->data + 6;
    assert_int_equal(w.d->p->copy(w.d, y, &part, false), OK);
    const float *from = x->data, *to = y->data;
    for (int i = 0; i < 18; i++)
        assert_true(to[i] == from[i / 6 * 24 + (i / 3 % 2 + 1) * 6 + i % 3 * 2]);
    assert_int_equal(w.d->p->copy(w.d, y, &part, true), OK);
    assert_true(to[7] == 2 * from[24 + 6 + 2]);
    float before = from[1], host[18];
    assert_int_equal(tensor_download(host, DT_F32, &part), OK);
    assert_true(host[17] == from[2 * 24 + 2 * 6 + 4]);
    assert_int_equal(w.d->p->fill(w.d, &part, 7.0f), OK);
    assert_true(from[6] == 7.0f && from[8] == 7.0f && from[1] == before && from[7] != 7.0f && from[18] != 7.0f);
    close_world(&w);
}

/* ---- optimizer ---- */

static const float *golden(safetensors *s, const char *name)
{
    const stored_tensor *t = tensor_table_find(&s->tensors, name);
    assert_non_null(t);
    return (const float *)(const void *)t->data;
}

/* torch.optim.AdamW in f64, three steps of this machine's f32: a few roundings of values of size 1. */
static void expect_near(const char *what, const tensor *ours, const float *reference)
{
    const double tolerance = 1e-6;
    double       worst = 0, size = 0;
    for (int64_t i = 0; i < tensor_count(ours); i++)
        size = fmax(size, fabs((double)reference[i]));
    for (int64_t i = 0; i < tensor_count(ours); i++) {
        double e = fabs((double)((const float *)ours->data)[i] - (double)reference[i]) / (tolerance * size);
        assert_true(e <= 1.0); /* NaN fails */
        worst = fmax(worst, e);
    }
    printf("ok   %s: %.1f %% of tolerance\n", what, 100 * worst);
}

static void test_adamw(void **state)
{
    (void)state;
    world        w = open_world(2);
    safetensors *s = NULL;
    assert_int_equal(safetensors_open(&s, MSD_GOLDENS "/ops_basic.safetensors"), OK);
    tensor *p = filled(&w, "adamw.p", DIMS(37)), *m = empty(&w, DT_F32, DIMS(37)), *v = empty(&w, DT_F32, DIMS(37));
    assert_int_equal(w.d->p->fill(w.d, m, 0.0f), OK);
    assert_int_equal(w.d->p->fill(w.d, v, 0.0f), OK);
    for (int step = 0; step < 3; step++) {
        tensor *g = step == 2 ? NULL : filled(&w, step ? "adamw.g1" : "adamw.g0", DIMS(37));
        assert_int_equal(w.d->p->adamw(w.d, p, m, v, NULL, g, 0.25f, 3e-3, 0.8, 0.95, 1e-6, 0.1, step + 1), OK);
    }
    expect_near("adamw p", p, golden(s, "adamw.p"));
    expect_near("adamw m", m, golden(s, "adamw.m"));
    expect_near("adamw v", v, golden(s, "adamw.v"));
    safetensors_close(s);
    close_world(&w);
}

/* The copy is the master rounded to nearest even, and the master does not feel it. */
static void test_adamw_copy(void **state)
{
    (void)state;
    enum { N = 20011 };
    world   w = open_world(2);
    tensor *p[2], *m[2], *v[2], *g = filled(&w, "adamw.g0", DIMS(N)), *copy = empty(&w, DT_BF16, DIMS(N));
    for (int i = 0; i < 2; i++) {
        p[i] = filled(&w, "adamw.p", DIMS(N));
        m[i] = empty(&w, DT_F32, DIMS(N));
        v[i] = empty(&w, DT_F32, DIMS(N));
        assert_int_equal(w.d->p->fill(w.d, m[i], 0.0f), OK);
        assert_int_equal(w.d->p->fill(w.d, v[i], 0.0f), OK);
        assert_int_equal(w.d->p->adamw(w.d, p[i], m[i], v[i], i ? copy : NULL, g, 1.0f, 3e-3, 0.8, 0.95, 1e-6, 0.1, 1), OK);
    }
    assert_memory_equal(p[0]->data, p[1]->data, N * sizeof(float));
    for (int i = 0; i < N; i++)
        assert_int_equal(((uint16_t *)copy->data)[i], f32_to_bf16(((float *)p[1]->data)[i]));
    assert_int_equal(w.d->p->adamw(w.d, p[0], m[0], v[0], g, g, 1.0f, 3e-3, 0.8, 0.95, 1e-6, 0.1, 2), E_SHAPE);
    close_world(&w);
}

static void test_sum_squares(void **state)
{
    (void)state;
    world   w = open_world(3);
    tensor *x = filled(&w, "x", DIMS(100003));
    double  ours = 0, exact = 0;
    for (int64_t i = 0; i < 100003; i++)
        exact += (double)((float *)x->data)[i] * (double)((float *)x->data)[i];
    assert_int_equal(w.d->p->sum_squares(w.d, &ours, x), OK);
    assert_true(fabs(ours - exact) <= 1e-12 * exact); /* the order alone differs */
    ((float *)x->data)[99999] = NAN;
    assert_int_equal(w.d->p->sum_squares(w.d, &ours, x), OK);
    assert_true(isnan(ours));
    close_world(&w);
}

/* ---- the same bits for any number of threads ---- */

enum { RESULTS = 12 };

static void run_all(world *w, tensor **r)
{
    device           *d = w->d;
    const primitives *p = d->p;
    tensor *x = filled(w, "x", DIMS(2, 700, 36)), *dy = filled(w, "dy", DIMS(2, 700, 36));
    tensor *c = filled(w, "c", DIMS(36)), *vec = filled(w, "vec", DIMS(2, 36));
    tensor *mean = empty(w, DT_F32, DIMS(2, 4)), *rstd = empty(w, DT_F32, DIMS(2, 4));
    tensor  rows = *x, dy_rows = *dy;
    tensor_set_shape(&rows, DIMS(1400, 36));
    tensor_set_shape(&dy_rows, DIMS(1400, 36));
    for (int i = 0; i < 6; i++)
        r[i] = empty(w, DT_F32, DIMS(2, 700, 36));
    for (int i = 6; i < RESULTS; i++)
        r[i] = empty(w, DT_F32, DIMS(36));
    tensor *row_mean = empty(w, DT_F32, DIMS(1400)), *row_rstd = empty(w, DT_F32, DIMS(1400));
    tensor  y_rows = *r[2], dx_rows = *r[3];
    tensor_set_shape(&y_rows, DIMS(1400, 36));
    tensor_set_shape(&dx_rows, DIMS(1400, 36));
    assert_int_equal(p->group_norm(d, r[0], mean, rstd, x, vec, c, c, 4, 1e-5f, true), OK);
    assert_int_equal(p->group_norm_dx(d, r[1], dy, x, vec, c, c, mean, rstd, 4, true, false), OK);
    assert_int_equal(p->layer_norm(d, &y_rows, row_mean, row_rstd, &rows, c, c, 1e-5f), OK);
    assert_int_equal(p->layer_norm_dx(d, &dx_rows, &dy_rows, &rows, c, row_mean, row_rstd, false), OK);
    assert_int_equal(p->layer_norm_dwb(d, r[6], r[7], &dy_rows, &rows, row_mean, row_rstd, false, false), OK);
    assert_int_equal(p->unary(d, r[4], x, UNARY_GELU), OK);
    assert_int_equal(p->mul(d, r[5], x, dy), OK);
    assert_int_equal(p->sum_rows(d, r[8], &dy_rows, false), OK);
    assert_int_equal(p->reduce_to(d, r[9], dy, x, false), OK);
    double sum = 0;
    assert_int_equal(p->sum_squares(d, &sum, x), OK);
    assert_int_equal(p->fill(d, r[10], (float)sum), OK);
    assert_int_equal(p->fill(d, r[11], 0.0f), OK);
    tensor one = *r[11];
    tensor_set_shape(&one, DIMS(1));
    assert_int_equal(p->reduce_to(d, &one, dy, x, false), OK);
}

static void test_threads_do_not_change_bits(void **state)
{
    (void)state;
    world   one = open_world(1);
    tensor *expected[RESULTS], *got[RESULTS];
    run_all(&one, expected);
    for (int threads = 2; threads <= 5; threads++) {
        world many = open_world(threads);
        run_all(&many, got);
        for (int i = 0; i < RESULTS; i++)
            assert_memory_equal(got[i]->data, expected[i]->data, (size_t)tensor_count(got[i]) * sizeof(float));
        close_world(&many);
    }
    close_world(&one);
}

/* ---- reduce_to against plain sums ---- */

static void test_reduce_to(void **state)
{
    (void)state;
    world   w = open_world(2);
    tensor *dy = filled(&w, "dy", DIMS(3, 70, 2, 130)), *db = empty(&w, DT_F32, DIMS(70, 1, 130));
    tensor *column = empty(&w, DT_F32, DIMS(70, 2, 1));
    assert_int_equal(w.d->p->reduce_to(w.d, db, dy, NULL, false), OK);
    assert_int_equal(w.d->p->reduce_to(w.d, column, dy, dy, false), OK);
    const float *from = dy->data;
    for (int i = 0; i < 70; i++) {
        double squares[2] = {0};
        for (int c = 0; c < 130; c++) {
            double sum = 0;
            for (int k = 0; k < 6; k++) {
                double v = (double)from[((k / 2 * 70 + i) * 2 + k % 2) * 130 + c];
                sum += v;
                squares[k % 2] += v * v;
            }
            assert_true(((float *)db->data)[i * 130 + c] == (float)sum);
        }
        for (int k = 0; k < 2; k++) /* sums of 390 in another order, rounded to f32 */
            assert_true(fabs((double)((float *)column->data)[i * 2 + k] - squares[k]) <= 1e-7 * squares[k]);
    }
    close_world(&w);
}

static void test_normal_cdf(void **state)
{
    (void)state;
    double worst = 0, tail = 0;
    for (int i = -1000000; i <= 1000000; i++) {
        float  x = (float)i * 1e-5f;
        double exact = 0.5 * erfc((double)x * -0.70710678118654752), e = fabs((double)cpu_normal_cdf(x) - exact);
        assert_true(e <= 1e-7);
        worst = fmax(worst, e);
        if (x > -6.0f)
            tail = fmax(tail, e / exact);
    }
    printf("ok   normal cdf: within %.2e, %.2e of the value\n", worst, tail);
    assert_true(tail <= 1.1e-5);
    assert_true(cpu_normal_cdf(INFINITY) == 1.0f && cpu_normal_cdf(-INFINITY) == 0.0f && cpu_normal_cdf(0.0f) == 0.5f);
    assert_true(isnan(cpu_normal_cdf(NAN)));
}

/* A call whose tensors are of several types is refused, not computed wrongly. */
static void test_mixtures_are_refused(void **state)
{
    (void)state;
    world             w = open_world(1);
    const primitives *p = w.d->p;
    tensor *x = empty(&w, DT_BF16, DIMS(2, 4)), *y = empty(&w, DT_BF16, DIMS(2, 4)), *f = filled(&w, "w", DIMS(2, 4));
    tensor *h = empty(&w, DT_F16, DIMS(2, 4)), *c = filled(&w, "c", DIMS(4)), *m = empty(&w, DT_F32, DIMS(2));
    assert_int_equal(p->unary(w.d, f, x, UNARY_SILU), E_DEVICE);
    assert_string_equal(err_message(), "cpu unary: t is f32, t is bf16; expected one type for both; cast the inputs");
    assert_int_equal(p->unary(w.d, h, h, UNARY_SILU), E_DEVICE);
    assert_string_equal(err_message(), "cpu unary: t is f16, expected f32 or bf16; leave --dtype at auto");
    assert_int_equal(p->add(w.d, y, x, f), E_DEVICE);
    assert_int_equal(p->layer_norm(w.d, y, NULL, NULL, x, c, NULL, 1e-5f), E_DEVICE);
    assert_int_equal(p->geglu(w.d, y, f), E_DEVICE);
    assert_int_equal(p->mse(w.d, m, x, f), E_DEVICE);
    assert_int_equal(p->reduce_to(w.d, x, f, NULL, false), E_DEVICE); /* a bf16 gradient of f32 */
    assert_int_equal(p->reduce_to(w.d, f, x, NULL, false), OK);       /* a parameter's */
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_casts),
        cmocka_unit_test(test_rounding_and_nan),
        cmocka_unit_test(test_every_half),
        cmocka_unit_test(test_every_rounding),
        cmocka_unit_test(test_nan_survives),
        cmocka_unit_test(test_unaligned_upload),
        cmocka_unit_test(test_strided),
        cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_adamw_copy),
        cmocka_unit_test(test_sum_squares),
        cmocka_unit_test(test_threads_do_not_change_bits),
        cmocka_unit_test(test_reduce_to),
        cmocka_unit_test(test_normal_cdf),
        cmocka_unit_test(test_mixtures_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
