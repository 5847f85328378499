/* Blocks computed again in backward: the same bits as without, less memory, nothing left behind, also after errors. */
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

enum { ROWS = 48, WIDTH = 64, BLOCKS = 4, PARAMETERS = 2 };

typedef struct net {
    arena   memory;
    device *dev;
    ag     *g;
    tensor *frozen[BLOCKS], *scale, *first; /* scale (WIDTH) and first (WIDTH,WIDTH) are trained */
} net;

/* What a block reads beside x, as a model hands it over. */
typedef struct block_user {
    tensor *w, *gate, *condition;
} block_user;

static tensor *weight(net *n, const char *name, lifetime life, int ndim, const int64_t *dim)
{
    tensor *t = NULL;
    assert_int_equal(tensor_new(&t, &n->memory, n->dev, life, name, DT_F32, ndim, dim), OK);
    counter_fill(t->data, name, ndim, dim);
    t->needs_grad = life == LIFE_STATE;
    return t;
}

static void net_open(net *n)
{
    static const char *const names[BLOCKS] = {"block.0.weight", "block.1.weight", "block.2.weight", "block.3.weight"};
    *n = (net){0};
    assert_int_equal(device_open_cpu(&n->dev, 2), OK);
    n->g = ag_new(n->dev);
    for (int i = 0; i < BLOCKS; i++)
        n->frozen[i] = weight(n, names[i], LIFE_WEIGHTS, DIMS(WIDTH, WIDTH));
    n->scale = weight(n, "scale", LIFE_STATE, DIMS(WIDTH));
    n->first = weight(n, "first.weight", LIFE_STATE, DIMS(WIDTH, WIDTH));
}

static void net_close(net *n)
{
    ag_free(n->g);
    for (int i = 0; i < BLOCKS; i++)
        tensor_release(n->frozen[i]);
    tensor_release(n->scale);
    tensor_release(n->first);
    assert_int_equal(n->dev->memory->total, 0);
    device_close(n->dev);
    arena_free(&n->memory);
}

static tensor *block(ag *g, const void *user, tensor *x)
{
    const block_user *u = user;
    int     scope = ag_scope_open(g);
    tensor *h = ag_gelu(g, ag_linear(g, ag_layer_norm(g, x, NULL, NULL, 1e-5f), u->w, NULL, NULL));
    h = ag_mul(g, ag_mul(g, h, u->gate), u->condition);
    ag_result_next(g);
    return ag_scope_close(g, scope, ag_linear(g, h, u->w, NULL, x));
}

/* *gradient: of scale, then of first; heap. Returns the loss; *peak in bytes of the step. */
static float run(net *n, bool again, float **gradient, size_t *peak)
{
    float   input[ROWS * WIDTH], loss = 0;
    counter_uniform(input, "input", 0, ROWS * WIDTH);
    ag     *g = n->g;
    int     scope = ag_scope_open(g);
    tensor *x = ag_linear(g, ag_input(g, "x", DT_F32, DIMS(ROWS, WIDTH), input, DT_F32), n->first, NULL, NULL);
    tensor *gate = ag_scale(g, n->scale, 0.5f), *condition = ag_silu(g, x); /* read by every block, gone after the last */
    for (int i = 0; i < BLOCKS; i++) {
        block_user u = {n->frozen[i], gate, condition};
        tensor    *used[] = {gate, NULL, condition};
        x = again ? ag_recompute(g, block, &u, sizeof u, x, used, 3) : block(g, &u, x);
        memset(&u, 0xA5, sizeof u);
    }
    x = ag_scope_close(g, scope, x);
    tensor *target = ag_input(g, "target", DT_F32, DIMS(ROWS, WIDTH), input, DT_F32);
    tensor *mean = ag_mse(g, x, target);
    n->dev->memory->peak[LIFE_STEP] = 0;
    err e = ag_status(g);
    if (e == OK)
        e = tensor_download(&loss, DT_F32, mean);
    if (e == OK)
        e = ag_backward(g, mean);
    *peak = n->dev->memory->peak[LIFE_STEP];
    *gradient = NULL;
    if (e == OK) {
        *gradient = heap_get((WIDTH + WIDTH * WIDTH) * sizeof(float));
        assert_int_equal(tensor_download(*gradient, DT_F32, n->scale->grad), OK);
        assert_int_equal(tensor_download(*gradient + WIDTH, DT_F32, n->first->grad), OK);
    }
    ag_reset(g);
    assert_int_equal(n->dev->memory->in_use[LIFE_STEP], 0);
    return loss;
}

static void same_bits_less_memory(void **state)
{
    (void)state;
    net    n;
    float *kept, *again;
    size_t kept_peak, again_peak;
    net_open(&n);
    float loss = run(&n, false, &kept, &kept_peak);
    for (int i = 0; i < 2; i++) {
        assert_true(run(&n, true, &again, &again_peak) == loss);
        assert_memory_equal(again, kept, (WIDTH + WIDTH * WIDTH) * sizeof(float));
        free(again);
    }
    printf("backward's peak: %zu bytes kept, %zu computed again\n", kept_peak, again_peak);
    assert_true(2 * again_peak < kept_peak + kept_peak / 2);
    free(kept);
    net_close(&n);
}

/* Nothing trained behind a block: it is just called. */
static void frozen_blocks_record_nothing(void **state)
{
    (void)state;
    net   n;
    float input[ROWS * WIDTH];
    net_open(&n);
    counter_uniform(input, "input", 0, ROWS * WIDTH);
    tensor    *x = ag_input(n.g, "x", DT_F32, DIMS(ROWS, WIDTH), input, DT_F32);
    tensor    *ones = ag_silu(n.g, x);
    block_user u = {n.frozen[0], ones, ones};
    tensor    *y = ag_recompute(n.g, block, &u, sizeof u, x, &ones, 1);
    assert_non_null(y);
    assert_false(y->needs_grad);
    assert_int_equal(ag_tape_length(n.g), 0);
    net_close(&n);
}

/* ---- memory that runs out ---- */

typedef struct failing {
    allocator  face;
    allocator *inner;
    int64_t    left; /* gets that succeed */
} failing;

static err failing_get(allocator *a, void **out, size_t bytes, lifetime life)
{
    failing *f = (failing *)a;
    if (f->left-- <= 0)
        return err_set(E_MEMORY, "no more");
    return f->inner->get(f->inner, out, bytes, life);
}

static void failing_put(allocator *a, void *memory, size_t bytes, lifetime life)
{
    failing *f = (failing *)a;
    f->inner->put(f->inner, memory, bytes, life);
}

static void every_failing_get_leaves_nothing(void **state)
{
    (void)state;
    net    n;
    float *gradient = NULL;
    size_t peak;
    int64_t good = 0;
    net_open(&n);
    allocator *inner = n.dev->memory;
    while (!gradient) {
        failing f = {.face = {failing_get, failing_put, {0}, {0}, 0, 0}, .inner = inner, .left = good++};
        n.dev->memory = &f.face;
        run(&n, true, &gradient, &peak);
        n.dev->memory = inner;
        assert_int_equal(inner->in_use[LIFE_STEP], 0);
        assert_true(good < 10000);
    }
    printf("%lld allocations, each failed once\n", (long long)good - 1);
    assert_true(good > 50);
    free(gradient);
    net_close(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_less_memory),
        cmocka_unit_test(frozen_blocks_record_nothing),
        cmocka_unit_test(every_failing_get_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
