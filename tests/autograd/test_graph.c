/* The graph itself: what is recorded and kept, when memory goes back, where backward stops, how gradients add up, and
 * how errors stick. Values are small whole numbers, so that sums are exact and compared exactly. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/ag.h"
#include "data/counter.h"

typedef struct bench {
    arena   memory; /* outlives the steps */
    device *dev;
    ag     *g;
} bench;

static bench bench_open(void)
{
    bench b = {0};
    assert_int_equal(device_open_cpu(&b.dev, 2), OK);
    b.g = ag_new(b.dev);
    return b;
}

static size_t step_bytes(const bench *b)
{
    return b->dev->memory->in_use[LIFE_STEP];
}

static void bench_close(bench *b)
{
    ag_reset(b->g);
    assert_int_equal(step_bytes(b), 0);
    ag_free(b->g);
    assert_int_equal(b->dev->memory->total, 0);
    device_close(b->dev);
    arena_free(&b->memory);
}

/* Weights, frozen or trained, outlive the steps; value i is first + i * step. */
static tensor *weight(bench *b, const char *name, lifetime life, float first, float step, int ndim, const int64_t *dim)
{
    tensor *t = NULL;
    assert_int_equal(tensor_new(&t, &b->memory, b->dev, life, name, DT_F32, ndim, dim), OK);
    for (int64_t i = 0; i < tensor_count(t); i++)
        ((float *)t->data)[i] = first + (float)i * step;
    t->needs_grad = life == LIFE_STATE;
    return t;
}

static tensor *frozen(bench *b, const char *name, int ndim, const int64_t *dim)
{
    tensor *t = weight(b, name, LIFE_WEIGHTS, 0, 0, ndim, dim);
    counter_fill(t->data, name, ndim, dim);
    return t;
}

static void release(tensor *t)
{
    if (t->needs_grad)
        tensor_release(t->grad);
    tensor_release(t);
}

/* What an f32 step tensor of so many elements takes of the allocator. */
static size_t bytes_of(bench *b, int64_t count)
{
    tensor *t = NULL;
    size_t  before = step_bytes(b);
    assert_int_equal(tensor_new(&t, &b->memory, b->dev, LIFE_STEP, "probe", DT_F32, DIMS(count)), OK);
    size_t after = step_bytes(b);
    tensor_release(t);
    return after - before;
}

static tensor *input(bench *b, const char *name, float first, float step, int ndim, const int64_t *dim)
{
    int64_t count = 1;
    for (int i = 0; i < ndim; i++)
        count *= dim[i];
    float *value = ARENA_ARRAY(&b->memory, float, count);
    for (int64_t i = 0; i < count; i++)
        value[i] = first + (float)i * step;
    return ag_input(b->g, name, DT_F32, ndim, dim, value, DT_F32);
}

static void expect_values(const tensor *t, const float *wanted, int64_t count)
{
    assert_non_null(t);
    assert_int_equal(tensor_count(t), count);
    float *found = malloc((size_t)count * sizeof *found);
    assert_int_equal(tensor_download(found, DT_F32, t), OK);
    for (int64_t i = 0; i < count; i++)
        if (!(found[i] == wanted[i]))
            fail_msg("%s[%lld] is %g, expected %g", t->name, (long long)i, (double)found[i], (double)wanted[i]);
    free(found);
}
#define EXPECT(t, ...) \
    expect_values(t, (const float[]){__VA_ARGS__}, (int64_t)(sizeof((const float[]){__VA_ARGS__}) / sizeof(float)))

/* A loss whose gradient with respect to y is 2 y / n. */
static tensor *square(bench *b, tensor *y)
{
    tensor *zero = y ? input(b, "zero", 0, 0, y->ndim, y->dim) : NULL;
    return ag_mse(b->g, y, zero);
}

static void backward(bench *b, tensor *loss)
{
    if (!loss || ag_backward(b->g, loss) != OK)
        fail_msg("%s", err_message());
}

/* ---- what is kept ---- */

static void frozen_networks_record_and_keep_nothing(void **state)
{
    (void)state;
    bench   b = bench_open();
    tensor *w = frozen(&b, "w", DIMS(8, 8)), *bias = frozen(&b, "b", DIMS(8));
    tensor *kernel = frozen(&b, "c", DIMS(8, 3, 3, 8));
    tensor *x = input(&b, "x", -1, 0.01f, DIMS(2, 5, 5, 8));
    size_t  before = step_bytes(&b);
    int     scope = ag_scope_open(b.g);
    tensor *y = ag_conv2d(b.g, x, kernel, bias, NULL, (conv_geometry){1, 1, 1, 1, 1});
    y = ag_group_norm(b.g, y, NULL, bias, bias, 4, 1e-5f, true);
    y = ag_linear(b.g, ag_layer_norm(b.g, y, bias, bias, 1e-5f), w, bias, y);
    tensor *heads = ag_reshape(b.g, y, DIMS(2, 25, 2, 4));
    y = ag_attention(b.g, heads, heads, heads, 0.5f, false);
    y = ag_mul(b.g, ag_silu(b.g, y), ag_gelu(b.g, y));
    assert_non_null(y);
    assert_int_equal(ag_tape_length(b.g), 0);
    assert_false(y->needs_grad);
    assert_ptr_equal(ag_scope_close(b.g, scope, y), y);
    assert_int_equal(step_bytes(&b) - before, bytes_of(&b, 2 * 25 * 8));
    assert_non_null(y->data);
    tensor *loss = square(&b, y);
    assert_int_equal(ag_backward(b.g, loss), OK); /* nothing to do */
    assert_null(w->grad);
    release(w);
    release(bias);
    release(kernel);
    bench_close(&b);
}

static void scopes_release_all_but_the_result(void **state)
{
    (void)state;
    bench   b = bench_open();
    tensor *x = input(&b, "x", 1, 1, DIMS(64));
    size_t  one = bytes_of(&b, 64), base = step_bytes(&b);
    int     outer = ag_scope_open(b.g);
    tensor *first = ag_scale(b.g, x, 2);
    int     inner = ag_scope_open(b.g);
    tensor *second = ag_scale(b.g, first, 2), *third = ag_scale(b.g, second, 2);
    assert_int_equal(step_bytes(&b) - base, 3 * one);
    assert_ptr_equal(ag_scope_close(b.g, inner, third), third);
    assert_int_equal(step_bytes(&b) - base, 2 * one);
    assert_null(second->data);
    assert_non_null(third->data); /* belongs to the outer scope now */
    tensor *view = ag_reshape(b.g, third, DIMS(8, 8));
    assert_ptr_equal(ag_scope_close(b.g, outer, view), view);
    assert_int_equal(step_bytes(&b) - base, one); /* the view keeps the storage it shares */
    assert_null(third->data);
    assert_null(first->data);
    assert_true(((float *)view->data)[63] == 64 * 8);
    int last = ag_scope_open(b.g);
    ag_scale(b.g, x, 3);
    assert_null(ag_scope_close(b.g, last, NULL));
    assert_int_equal(step_bytes(&b) - base, one);
    bench_close(&b);
}

/* Behind something trained: a frozen linear keeps its weight, which stays anyway, and no activation. */
static void frozen_linears_keep_no_activation(void **state)
{
    (void)state;
    bench   b = bench_open();
    tensor *w = frozen(&b, "w", DIMS(16, 16));
    tensor *shift = weight(&b, "shift", LIFE_STATE, 1, 1, DIMS(16));
    tensor *x = input(&b, "x", 1, 1, DIMS(4, 16));
    size_t  base = step_bytes(&b), one = bytes_of(&b, 64);
    int     scope = ag_scope_open(b.g);
    tensor *y = ag_add(b.g, x, shift);
    for (int i = 0; i < 5; i++)
        y = ag_linear(b.g, y, w, NULL, NULL);
    ag_scope_close(b.g, scope, y);
    assert_int_equal(ag_tape_length(b.g), 6);
    assert_int_equal(step_bytes(&b) - base, one);
    tensor *trained = weight(&b, "trained", LIFE_STATE, 0, 0.01f, DIMS(16, 16));
    scope = ag_scope_open(b.g);
    tensor *z = ag_linear(b.g, ag_linear(b.g, y, w, NULL, NULL), trained, NULL, NULL);
    ag_scope_close(b.g, scope, z);
    assert_int_equal(step_bytes(&b) - base, 3 * one); /* y, z, and the input of the trained one */
    backward(&b, square(&b, z));
    release(w);
    release(shift);
    release(trained);
    bench_close(&b);
}

/* y from x + shift by an op whose weights are views that its scope may release before backward reads them. */
typedef tensor *(*viewed)(bench *b, tensor *x, tensor *kernel, tensor *gain);

static tensor *viewed_linear(bench *b, tensor *x, tensor *kernel, tensor *gain)
{
    (void)gain;
    return ag_linear(b->g, x, ag_reshape(b->g, kernel, DIMS(3, 3)), NULL, NULL); /* as 1x1 convolutions are */
}

static tensor *viewed_conv2d(bench *b, tensor *x, tensor *kernel, tensor *gain)
{
    (void)gain;
    return ag_conv2d(b->g, x, ag_reshape(b->g, kernel, DIMS(3, 1, 1, 3)), NULL, NULL, (conv_geometry){1, 0, 0, 0, 0});
}

static tensor *viewed_layer_norm(bench *b, tensor *x, tensor *kernel, tensor *gain)
{
    (void)kernel;
    tensor *w = ag_reshape(b->g, gain, DIMS(3));
    return ag_layer_norm(b->g, x, w, w, 1e-5f);
}

static tensor *viewed_group_norm(bench *b, tensor *x, tensor *kernel, tensor *gain)
{
    (void)kernel;
    tensor *w = ag_reshape(b->g, gain, DIMS(3));
    return ag_group_norm(b->g, x, NULL, w, w, 1, 1e-5f, true);
}

static tensor *viewed_mul(bench *b, tensor *x, tensor *kernel, tensor *gain)
{
    (void)kernel;
    return ag_mul(b->g, x, ag_reshape(b->g, gain, DIMS(3)));
}

static void gradient_through(float out[3], bench *b, viewed op, bool scoped, tensor *shift, tensor *kernel,
                             tensor *gain)
{
    tensor *x = ag_add(b->g, input(b, "x", -1, 0.2f, DIMS(1, 2, 2, 3)), shift);
    int     scope = ag_scope_open(b->g);
    tensor *y = op(b, x, kernel, gain);
    if (scoped)
        ag_scope_close(b->g, scope, y);
    backward(b, square(b, y));
    memcpy(out, shift->grad->data, 3 * sizeof *out);
    ag_reset(b->g);
}

static void views_of_weights_live_until_backward(void **state)
{
    (void)state;
    const viewed ops[] = {viewed_linear, viewed_conv2d, viewed_layer_norm, viewed_group_norm, viewed_mul};
    bench        b = bench_open();
    tensor      *shift = weight(&b, "shift", LIFE_STATE, 1, 1, DIMS(3)), *gain = frozen(&b, "gain", DIMS(1, 3));
    tensor      *kernel = frozen(&b, "kernel", DIMS(3, 1, 1, 3));
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        float scoped[3], held[3];
        gradient_through(held, &b, ops[i], false, shift, kernel, gain);
        gradient_through(scoped, &b, ops[i], true, shift, kernel, gain);
        assert_memory_equal(scoped, held, sizeof held);
        assert_true(isfinite(held[0]) && held[0] != 0);
    }
    tensor_release(kernel);
    tensor_release(gain);
    tensor_release(shift); /* its gradients were the graph's */
    bench_close(&b);
}

/* ---- backward ---- */

static void backward_stops_where_nothing_trained_lies_behind(void **state)
{
    (void)state;
    bench   b = bench_open();
    tensor *w = frozen(&b, "w", DIMS(4, 4));
    tensor *early = ag_linear(b.g, input(&b, "x", 1, 1, DIMS(2, 4)), w, NULL, NULL);
    early = ag_silu(b.g, early);
    assert_int_equal(ag_tape_length(b.g), 0);
    tensor *shift = weight(&b, "shift", LIFE_STATE, 1, 1, DIMS(4));
    tensor *unused = weight(&b, "unused", LIFE_STATE, 1, 1, DIMS(4));
    tensor *late = ag_linear(b.g, ag_add(b.g, early, shift), w, NULL, early);
    ag_add(b.g, early, unused); /* recorded, but the loss does not see it */
    tensor *loss = square(&b, late);
    assert_int_equal(ag_tape_length(b.g), 4);
    backward(&b, loss);
    assert_int_equal(ag_tape_length(b.g), 0);
    assert_non_null(shift->grad);
    assert_null(early->grad);
    assert_null(w->grad);
    assert_null(unused->grad);
    ag_reset(b.g);
    assert_null(shift->grad); /* a buffer from the graph goes with it */
    release(w);
    release(shift);
    release(unused);
    bench_close(&b);
}

static void fan_out_adds_up(void **state)
{
    (void)state;
    bench   b = bench_open();
    tensor *p = weight(&b, "p", LIFE_STATE, 1, 1, DIMS(3)); /* 1 2 3 */
    /* y = p * p + p + p + 4 p: dy/dp = 2 p + 6; loss = mean(y^2) * 3 / 2: dloss/dy = y = 7, 16, 27 */
    tensor *y = ag_add(b.g, ag_add(b.g, ag_mul(b.g, p, p), ag_add(b.g, p, p)), ag_scale(b.g, p, 4));
    EXPECT(y, 7, 16, 27);
    backward(&b, ag_scale(b.g, square(&b, y), 1.5f));
    const float *g = p->grad->data, wanted[] = {7 * 8, 16 * 10, 27 * 12};
    for (int i = 0; i < 3; i++)
        assert_true(fabsf(g[i] - wanted[i]) <= 1e-5f * wanted[i]); /* 1.5 * 2/3 is not exact */
    ag_reset(b.g);
    release(p);
    bench_close(&b);
}

static void slices_and_reshapes_pass_gradients(void **state)
{
    (void)state;
    bench   b = bench_open();
    tensor *p = weight(&b, "p", LIFE_STATE, 1, 1, DIMS(2, 6)); /* 1..6 / 7..12 */
    /* rows of 2 x 3 x 2: columns 1.. of the middle, then row 1 of it; overlapping slices of one tensor */
    tensor *cube = ag_reshape(b.g, p, DIMS(2, 3, 2));
    tensor *middle = ag_slice(b.g, cube, 1, 1, 2); /* 3 4 5 6 / 9 10 11 12 */
    EXPECT(middle, 3, 4, 5, 6, 9, 10, 11, 12);
    tensor *corner = ag_slice(b.g, ag_slice(b.g, middle, 0, 1, 1), 2, 1, 1); /* 10 12 */
    EXPECT(corner, 10, 12);
    tensor *again = ag_slice(b.g, cube, 1, 2, 1); /* 5 6 11 12 */
    tensor *both = ag_concat(b.g, ag_reshape(b.g, ag_cast(b.g, corner, DT_F32), DIMS(1, 2)),
                             ag_reshape(b.g, ag_cast(b.g, again, DT_F32), DIMS(2, 2)), 0);
    EXPECT(both, 10, 12, 5, 6, 11, 12);
    backward(&b, ag_scale(b.g, square(&b, both), 3)); /* dloss/dboth = both */
    EXPECT(p->grad, 0, 0, 0, 0, 5, 6, 0, 0, 0, 10, 11, 24);
    ag_reset(b.g);

    /* two reshapes of one tensor: the second adds */
    tensor *sum = ag_add(b.g, ag_reshape(b.g, p, DIMS(12)), ag_reshape(b.g, p, DIMS(1, 12)));
    assert_null(sum); /* (1,12) does not broadcast to (12) */
    ag_reset(b.g);
    sum = ag_add(b.g, ag_reshape(b.g, p, DIMS(1, 12)), ag_reshape(b.g, p, DIMS(12)));
    backward(&b, ag_scale(b.g, square(&b, sum), 6)); /* dloss/dsum = sum = 2 p, twice */
    EXPECT(p->grad, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48);
    ag_reset(b.g);
    release(p);
    bench_close(&b);
}

/* ---- gradients that outlive the step ---- */

static tensor *persistent(bench *b, const char *name, float first, int64_t n)
{
    tensor *p = weight(b, name, LIFE_STATE, first, 1, DIMS(n));
    assert_int_equal(tensor_new(&p->grad, &b->memory, b->dev, LIFE_STATE, name, DT_F32, p->ndim, p->dim), OK);
    for (int64_t i = 0; i < n; i++)
        ((float *)p->grad->data)[i] = NAN; /* nothing is there yet */
    p->grad_fresh = true;
    return p;
}

static void one_step(bench *b, tensor *p, float factor)
{
    backward(b, square(b, ag_scale(b->g, p, factor))); /* dloss/dp = factor^2 p for two elements */
    ag_reset(b->g);
}

static void gradients_accumulate_until_they_are_fresh_again(void **state)
{
    (void)state;
    bench   b = bench_open();
    tensor *p = persistent(&b, "p", 3, 2), *idle = persistent(&b, "idle", 1, 2);
    one_step(&b, p, 1);
    EXPECT(p->grad, 3, 4);
    one_step(&b, p, 2);
    EXPECT(p->grad, 3 + 12, 4 + 16);
    assert_false(p->grad_fresh);
    assert_true(idle->grad_fresh); /* took no part: its reader must take it for zero */
    assert_true(isnan(((float *)idle->grad->data)[0]));
    p->grad_fresh = true; /* what optimizer_begin does */
    one_step(&b, p, 2);
    EXPECT(p->grad, 12, 16);
    /* two backwards before the reset */
    p->grad_fresh = true;
    backward(&b, square(&b, ag_scale(b.g, p, 1)));
    backward(&b, square(&b, ag_scale(b.g, p, 1)));
    EXPECT(p->grad, 6, 8);
    release(p);
    release(idle);
    bench_close(&b);
}

static void reset_leaves_nothing_of_the_step(void **state)
{
    (void)state;
    bench   b = bench_open();
    tensor *p = persistent(&b, "p", 1, 8), *w = frozen(&b, "w", DIMS(8, 8));
    size_t  resting = b.dev->memory->total;
    for (int round = 0; round < 3; round++) {
        tensor *x = input(&b, "x", 1, 1, DIMS(4, 8));
        tensor *y = ag_linear(b.g, ag_layer_norm(b.g, ag_add(b.g, x, p), NULL, NULL, 1e-5f), w, NULL, x);
        tensor *loss = square(&b, ag_gelu(b.g, y));
        if (round == 1)
            backward(&b, loss);
        if (round == 2)
            assert_null(ag_linear(b.g, x, p, NULL, NULL));
        assert_true(step_bytes(&b) > 0);
        ag_reset(b.g);
        assert_int_equal(step_bytes(&b), 0);
        assert_int_equal(b.dev->memory->total, resting);
        assert_int_equal(ag_tape_length(b.g), 0);
        assert_int_equal(ag_status(b.g), OK);
    }
    release(p);
    release(w);
    bench_close(&b);
}

/* After backward only what the scopes hold is left: saved tensors and gradients of activations are gone. */
static void backward_releases_what_it_has_used(void **state)
{
    (void)state;
    bench   b = bench_open();
    tensor *p = persistent(&b, "p", 1, 64);
    tensor *x = input(&b, "x", 0.01f, 0.01f, DIMS(16, 64));
    int     scope = ag_scope_open(b.g);
    tensor *y = ag_add(b.g, x, p);
    for (int i = 0; i < 6; i++)
        y = ag_gelu(b.g, y);
    tensor *loss = ag_scope_close(b.g, scope, square(&b, y));
    size_t  kept = step_bytes(&b);
    assert_true(kept >= bytes_of(&b, 16 * 64) * 7); /* x and what six GELUs and the loss read */
    backward(&b, loss);
    assert_int_equal(step_bytes(&b), bytes_of(&b, 16 * 64) + bytes_of(&b, 1)); /* x, loss */
    release(p);
    bench_close(&b);
}

/* ---- errors ---- */

static void errors_stick(void **state)
{
    (void)state;
    bench   b = bench_open();
    tensor *x = input(&b, "x", 1, 1, DIMS(2, 3)), *w = input(&b, "w", 1, 1, DIMS(4, 5)), *p = persistent(&b, "p", 1, 3);
    assert_null(ag_linear(b.g, x, w, NULL, NULL));
    assert_int_equal(ag_status(b.g), E_SHAPE);
    const char *first = arena_copy_string(&b.memory, err_message());
    assert_non_null(strstr(first, "linear"));
    assert_non_null(strstr(first, "x(2,3)"));
    assert_non_null(strstr(first, "w(4,5)"));
    assert_null(ag_silu(b.g, x)); /* good inputs too: the step is lost */
    assert_null(ag_add(b.g, x, p));
    assert_null(ag_add(b.g, NULL, p));
    assert_null(ag_slice(b.g, NULL, 0, 0, 9));
    assert_null(ag_input(b.g, "late", DT_F32, DIMS(1), &(float){1}, DT_F32));
    assert_int_equal(ag_tape_length(b.g), 0);
    assert_string_equal(err_message(), first);
    assert_int_equal(ag_fail(b.g, E_NUMERIC), E_NUMERIC); /* keeps the first */
    assert_int_equal(ag_status(b.g), E_SHAPE);
    assert_int_equal(ag_backward_seeded(b.g), E_SHAPE);
    ag_reset(b.g);
    assert_int_equal(ag_status(b.g), OK);
    EXPECT(ag_add(b.g, input(&b, "x", 1, 1, DIMS(2, 3)), p), 2, 4, 6, 5, 7, 9);
    release(p);
    bench_close(&b);
}

static void wrong_shapes_name_all_inputs(void **state)
{
    (void)state;
    bench b = bench_open();
    for (int which = 0; which < 8; which++) {
        tensor *x = input(&b, "x", 1, 1, DIMS(2, 3, 4)), *y = input(&b, "y", 1, 1, DIMS(2, 5));
        tensor *out = NULL;
        switch (which) {
        case 0: out = ag_add(b.g, x, y); break;
        case 1: out = ag_mul(b.g, x, y); break;
        case 2: out = ag_concat(b.g, x, y, 1); break;
        case 3: out = ag_mse(b.g, x, y); break;
        case 4: out = ag_conv2d(b.g, x, y, NULL, NULL, (conv_geometry){1, 0, 0, 0, 0}); break;
        case 5: out = ag_attention(b.g, x, y, y, 1, false); break;
        case 6: out = ag_layer_norm(b.g, x, y, NULL, 1e-5f); break;
        default: out = ag_linear(b.g, x, y, NULL, NULL); break;
        }
        assert_null(out);
        assert_int_equal(ag_status(b.g), E_SHAPE);
        if (!strstr(err_message(), "x(2,3,4)") || !strstr(err_message(), "y(2,5)"))
            fail_msg("case %d: '%s' lacks a shape", which, err_message());
        ag_reset(b.g);
    }
    tensor *x = input(&b, "x", 1, 1, DIMS(2, 3, 4));
    assert_null(ag_slice(b.g, x, 1, 2, 2));
    assert_non_null(strstr(err_message(), "slice: the slice leaves the tensor: got x(2,3,4)"));
    ag_reset(b.g);
    x = input(&b, "x", 1, 1, DIMS(2, 3, 4));
    assert_null(ag_reshape(b.g, x, DIMS(5, 5)));
    assert_non_null(strstr(err_message(), "reshape: the number of elements changes: got x(2,3,4)"));
    bench_close(&b);
}

/* An allocation that fails inside an op ends the step as E_MEMORY, and nothing leaks. */
static void memory_that_is_refused_ends_the_step(void **state)
{
    (void)state;
    bench   b = bench_open();
    tensor *p = persistent(&b, "p", 1, 4);
    tensor *x = ag_add(b.g, input(&b, "x", 1, 1, DIMS(1, 4)), p);
    tensor *tall = ag_upsample(b.g, ag_reshape(b.g, x, DIMS(1, 1, 1, 4)), (int64_t)1 << 23, (int64_t)1 << 23);
    assert_null(tall);
    assert_int_equal(ag_status(b.g), E_MEMORY);
    assert_non_null(strstr(err_message(), "upsample"));
    release(p);
    bench_close(&b);
}

/* ---- bits ---- */

static void run_network(bench *b, float *out, tensor *p, tensor *w)
{
    tensor *x = input(b, "x", -1, 0.013f, DIMS(3, 40, 16));
    tensor *y = ag_linear(b->g, ag_layer_norm(b->g, ag_add(b->g, x, p), NULL, NULL, 1e-5f), w, NULL, x);
    tensor *heads = ag_reshape(b->g, y, DIMS(3, 40, 2, 8));
    y = ag_add(b->g, ag_reshape(b->g, ag_attention(b->g, heads, heads, heads, 0.3f, false), DIMS(3, 40, 16)), y);
    backward(b, square(b, ag_gelu(b->g, y)));
    memcpy(out, p->grad->data, 16 * sizeof *out);
    ag_reset(b->g);
}

static void the_same_bits_twice(void **state)
{
    (void)state;
    bench   b = bench_open();
    float   first[16], second[16];
    tensor *p = persistent(&b, "p", 0.1f, 16), *w = frozen(&b, "w", DIMS(16, 16));
    run_network(&b, first, p, w);
    p->grad_fresh = true;
    run_network(&b, second, p, w);
    assert_memory_equal(first, second, sizeof first);
    assert_true(isfinite(first[0]) && first[0] != 0);
    release(p);
    release(w);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frozen_networks_record_and_keep_nothing),
        cmocka_unit_test(scopes_release_all_but_the_result),
        cmocka_unit_test(frozen_linears_keep_no_activation),
        cmocka_unit_test(views_of_weights_live_until_backward),
        cmocka_unit_test(backward_stops_where_nothing_trained_lies_behind),
        cmocka_unit_test(fan_out_adds_up),
        cmocka_unit_test(slices_and_reshapes_pass_gradients),
        cmocka_unit_test(gradients_accumulate_until_they_are_fresh_again),
        cmocka_unit_test(reset_leaves_nothing_of_the_step),
        cmocka_unit_test(backward_releases_what_it_has_used),
        cmocka_unit_test(errors_stick),
        cmocka_unit_test(wrong_shapes_name_all_inputs),
        cmocka_unit_test(memory_that_is_refused_ends_the_step),
        cmocka_unit_test(the_same_bits_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
