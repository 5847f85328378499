/* Gradients that are told of while backward goes on: whole when told, each once, the same bits as without the telling, and
 * a product made early (an adapter's keys and values) is not told of last. */
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

enum { ROWS = 8, WIDTH = 32, BLOCKS = 3, LEAVES = BLOCKS + 2, NUMBERS = 2 * WIDTH * WIDTH };

/* x = first(input); kv_i = group_i(x) for all blocks, up front; then block i: x += gate * silu(frozen x) * kv_i. */
typedef struct net {
    arena   memory;
    device *dev;
    ag     *g;
    tensor *first, *gate, *frozen, *group[BLOCKS], *half[BLOCKS]; /* half: rows of a group, what an optimizer trains */
} net;

typedef struct told {
    net    *n;
    int     count;
    tensor *leaf[2 * LEAVES];
    int64_t tape[2 * LEAVES];             /* calls still to be gone through */
    float   value[2 * LEAVES][NUMBERS];
} told;

static tensor *weight(net *n, const char *name, lifetime life, int64_t rows)
{
    tensor *t = NULL;
    assert_int_equal(tensor_new(&t, &n->memory, n->dev, life, name, DT_F32, DIMS(rows, WIDTH)), OK);
    counter_fill(t->data, name, t->ndim, t->dim);
    t->needs_grad = life == LIFE_STATE;
    if (t->needs_grad)
        assert_int_equal(tensor_new(&t->grad, &n->memory, n->dev, LIFE_STATE, name, DT_F32, t->ndim, t->dim), OK);
    return t;
}

static void net_open(net *n)
{
    static const char *const names[BLOCKS] = {"group.0.weight", "group.1.weight", "group.2.weight"};
    *n = (net){0};
    assert_int_equal(device_open_cpu(&n->dev, 1), OK);
    n->g = ag_new(n->dev);
    n->first = weight(n, "first.weight", LIFE_STATE, WIDTH);
    n->gate = weight(n, "gate", LIFE_STATE, 1);
    n->frozen = weight(n, "frozen.weight", LIFE_WEIGHTS, WIDTH);
    for (int i = 0; i < BLOCKS; i++) {
        n->group[i] = weight(n, names[i], LIFE_STATE, 2 * WIDTH);
        n->half[i] = tensor_rows_view(&n->memory, n->group[i], "half", WIDTH, WIDTH);
    }
}

static void drop(tensor *t)
{
    if (t->grad)
        tensor_release(t->grad);
    tensor_release(t);
}

static void net_close(net *n)
{
    ag_free(n->g);
    for (int i = 0; i < BLOCKS; i++) {
        tensor_release(n->half[i]);
        drop(n->group[i]);
    }
    drop(n->first);
    drop(n->gate);
    drop(n->frozen);
    assert_int_equal(n->dev->memory->total, 0);
    device_close(n->dev);
    arena_free(&n->memory);
}

typedef struct block_user {
    tensor *frozen, *gate, *kv;
} block_user;

static tensor *block(ag *g, const void *user, tensor *x)
{
    const block_user *u = user;
    int     scope = ag_scope_open(g);
    tensor *h = ag_mul(g, ag_silu(g, ag_linear(g, x, u->frozen, NULL, NULL)), u->gate);
    tensor *part = ag_cast(g, ag_slice(g, u->kv, 1, WIDTH / 2, WIDTH), DT_F32);
    return ag_scope_close(g, scope, ag_add(g, x, ag_mul(g, h, part)));
}

static err note(void *user, tensor *t)
{
    told *w = user;
    assert_true(w->count < 2 * LEAVES);
    w->leaf[w->count] = t;
    w->tape[w->count] = ag_tape_length(w->n->g);
    if (!t->grad_fresh)
        memcpy(w->value[w->count], t->grad->data, (size_t)tensor_count(t) * sizeof(float));
    w->count++;
    return OK;
}

/* reads: how many of the groups are read at all. */
static void run(net *n, told *w, bool again, int reads)
{
    float input[ROWS * WIDTH], zero[ROWS * WIDTH] = {0};
    counter_uniform(input, "input", 0, ROWS * WIDTH);
    ag *g = n->g;
    tensor *leaf[LEAVES] = {n->first, n->gate, n->group[0], n->group[1], n->group[2]}, *kv[BLOCKS];
    for (int i = 0; i < LEAVES; i++)
        leaf[i]->grad_fresh = true;
    if (w) {
        *w = (told){.n = n};
        ag_watch(g, note, w);
    }
    tensor *x = ag_linear(g, ag_input(g, "x", DT_F32, DIMS(ROWS, WIDTH), input, DT_F32), n->first, NULL, NULL);
    for (int i = 0; i < BLOCKS; i++)
        kv[i] = ag_linear(g, x, n->group[i], NULL, NULL);
    for (int i = 0; i < reads; i++) {
        block_user user = {n->frozen, n->gate, kv[i]};
        tensor    *used[] = {n->gate, kv[i]};
        x = again ? ag_recompute(g, block, &user, sizeof user, x, used, 2) : block(g, &user, x);
    }
    tensor *loss = ag_mse(g, x, ag_input(g, "zero", DT_F32, DIMS(ROWS, WIDTH), zero, DT_F32));
    assert_int_equal(ag_backward(g, loss), OK);
    ag_reset(g);
}

static void keep(float *to, const tensor *t)
{
    memcpy(to, t->grad->data, (size_t)tensor_count(t) * sizeof(float));
}

static int place_of(const told *w, const tensor *t)
{
    int found = -1;
    for (int i = 0; i < w->count; i++) {
        if (w->leaf[i] != t)
            continue;
        assert_int_equal(found, -1); /* told of once */
        found = i;
    }
    assert_true(found >= 0);
    return found;
}

static void check(bool again)
{
    net   n;
    told *w = test_malloc(sizeof *w);
    net_open(&n);
    tensor *leaf[LEAVES] = {n.first, n.gate, n.group[0], n.group[1], n.group[2]};
    float (*without)[NUMBERS] = test_malloc(sizeof(float[LEAVES][NUMBERS]));
    run(&n, NULL, again, BLOCKS);
    for (int i = 0; i < LEAVES; i++)
        keep(without[i], leaf[i]);
    run(&n, w, again, BLOCKS);
    assert_int_equal(w->count, LEAVES);
    for (int i = 0; i < LEAVES; i++) {
        int    at = place_of(w, leaf[i]);
        size_t bytes = (size_t)tensor_count(leaf[i]) * sizeof(float);
        assert_false(leaf[i]->grad_fresh);
        assert_memory_equal(leaf[i]->grad->data, without[i], bytes); /* the same bits */
        assert_memory_equal(w->value[at], without[i], bytes);        /* whole when told */
    }
    /* the last block's group first, while most of backward is still to come; the first layer last */
    assert_int_equal(place_of(w, n.group[BLOCKS - 1]), 0);
    for (int i = 1; i < BLOCKS; i++)
        assert_true(place_of(w, n.group[i]) < place_of(w, n.group[i - 1]));
    assert_int_equal(place_of(w, n.first), LEAVES - 1);
    for (int i = 1; i < LEAVES; i++)
        assert_true(w->tape[i] <= w->tape[i - 1]);
    assert_true(w->tape[0] > w->tape[LEAVES - 1] + BLOCKS);
    run(&n, NULL, again, BLOCKS); /* forgotten by the reset */
    assert_int_equal(w->count, LEAVES);
    test_free(without);
    test_free(w);
    net_close(&n);
}

static void whole_when_told(void **state)
{
    (void)state;
    check(false);
}

static void whole_when_told_of_blocks_computed_again(void **state)
{
    (void)state;
    check(true);
}

/* A product whose output nobody reads: told of, with nothing in it. */
static void what_took_no_part(void **state)
{
    net   n;
    told *w = test_malloc(sizeof *w);
    (void)state;
    net_open(&n);
    run(&n, w, false, BLOCKS - 1);
    assert_int_equal(w->count, LEAVES);
    place_of(w, n.group[BLOCKS - 1]);
    assert_true(n.group[BLOCKS - 1]->grad_fresh);
    assert_false(n.group[0]->grad_fresh);
    test_free(w);
    net_close(&n);
}

static err refuse(void *user, tensor *t)
{
    (void)user;
    return err_set(E_DISTRIBUTED, "%s is refused", t->name);
}

static void an_error_is_backwards(void **state)
{
    net   n;
    float input[ROWS * WIDTH] = {0};
    (void)state;
    net_open(&n);
    ag_watch(n.g, refuse, NULL);
    tensor *x = ag_input(n.g, "x", DT_F32, DIMS(ROWS, WIDTH), input, DT_F32);
    tensor *loss = ag_mse(n.g, ag_linear(n.g, x, n.first, NULL, NULL), x);
    assert_int_equal(ag_backward(n.g, loss), E_DISTRIBUTED);
    assert_int_equal(ag_status(n.g), E_DISTRIBUTED);
    assert_string_equal(err_message(), "first.weight is refused");
    net_close(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_when_told),
        cmocka_unit_test(whole_when_told_of_blocks_computed_again),
        cmocka_unit_test(what_took_no_part),
        cmocka_unit_test(an_error_is_backwards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
