/* Every op of the list against its goldens; the harness against ops that are wrong on purpose. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support_ops.h"

static const op_suite *const suites[] = {&suite_basic, &suite_attention};
enum { SUITES = sizeof suites / sizeof *suites };

/* The CPU refuses bf16 for no op. */
static int run_row(op_bench *b, const op_case *c, int *gradients)
{
    op_verdict v = op_bench_run(b, c), half = op_bench_run_bf16(b, c);
    bool       ok = v.worst <= 1.0, half_ok = half.worst <= 1.0 || half.same;
    printf("%-4s %-26s %-54s %6.1f %% of tolerance %s\n", ok ? "ok" : "FAIL", c->name, c->op->signature, 100 * v.worst,
           v.why);
    if (!half.same)
        printf("%-4s %-26s %-54s %6.1f %% of tolerance, %.4f %s\n", half_ok ? "ok" : "FAIL",
               c->name, "  bf16", 100 * half.worst, half.relative, half.why);
    for (int k = 0; k < op_count; k++)
        if (op_all[k] == c->op)
            gradients[k] += 1 + (v.gradients ? 1 << 16 : 0);
    return !ok + !half_ok;
}

static int run_suite(const op_suite *s, const char *only, int *gradients)
{
    op_bench *b = op_bench_open(s->golden);
    int       bad = 0;
    for (int i = 0; i < s->count; i++)
        if (!only || !strcmp(s->cases[i].op->name, only))
            bad += run_row(b, &s->cases[i], gradients);
    op_bench_close(b);
    return bad;
}

/* Every op has a row, and one with gradients where it has a backward. *state: the name of the only op, or NULL. */
static void test_rows(void **state)
{
    const char *only = *state;
    int         rows[64] = {0}, missing = 0, bad = 0;
    assert_true(op_count <= 64);
    for (int i = 0; i < SUITES; i++)
        bad += run_suite(suites[i], only, rows);
    for (int k = 0; k < op_count; k++) {
        if ((rows[k] && (rows[k] >> 16 || !op_all[k]->backward)) || (only && strcmp(only, op_all[k]->name)))
            continue;
        printf("FAIL op %s has no row%s\n", op_all[k]->name, rows[k] ? " with gradients" : "");
        missing++;
    }
    assert_int_equal(bad, 0);
    assert_int_equal(missing, 0);
}

/* ---- broken ops ---- */

static err right_forward(ag *g, op_call *c)
{
    device *d = ag_device(g);
    op_save(c, 0, c->in[0]);
    return d->p->unary(d, c->out, c->in[0], UNARY_SILU);
}

static err write_slope(ag *g, op_call *c, int64_t n, float sign, bool never_add, bool always_add)
{
    tensor *grad;
    bool    add;
    TRY(op_grad(g, c, 0, &grad, &add));
    add = (add && !never_add) || always_add;
    tensor dx = *grad, dy = *c->out->grad, x = *c->saved[0];
    tensor_set_shape(&dx, DIMS(n));
    tensor_set_shape(&dy, DIMS(n));
    tensor_set_shape(&x, DIMS(n));
    device *d = ag_device(g);
    TRY(d->p->unary_dx(d, &dx, &dy, &x, UNARY_SILU, add));
    return sign < 0 ? d->p->scale(d, &dx, &dx, sign, false) : OK;
}

static err right_backward(ag *g, op_call *c)
{
    return write_slope(g, c, tensor_count(c->in[0]), 1, false, false);
}

static err no_accumulate(ag *g, op_call *c)
{
    return write_slope(g, c, tensor_count(c->in[0]), 1, true, false);
}

static err always_accumulate(ag *g, op_call *c)
{
    return write_slope(g, c, tensor_count(c->in[0]), 1, false, true);
}

static err wrong_sign(ag *g, op_call *c)
{
    return write_slope(g, c, tensor_count(c->in[0]), -1, false, false);
}

static err last_element_left_out(ag *g, op_call *c)
{
    return write_slope(g, c, tensor_count(c->in[0]) - 1, 1, false, false);
}

static err wrong_formula(ag *g, op_call *c)
{
    device *d = ag_device(g);
    op_save(c, 0, c->in[0]);
    return d->p->unary(d, c->out, c->in[0], UNARY_GELU);
}

static err one_past_the_end(ag *g, op_call *c)
{
    TRY(right_forward(g, c));
    ((float *)c->out->data)[tensor_count(c->out)] = 0.0f;
    return OK;
}

static err changes_its_input(ag *g, op_call *c)
{
    TRY(right_backward(g, c));
    ((float *)c->saved[0]->data)[0] += 1.0f;
    return OK;
}

typedef struct mutant {
    op          broken;
    const char *expected; /* part of the verdict */
} mutant;

#define MUTANT(text, f, b, expectation)                                                                             \
    {{.name = text, .signature = "(...) -> (...)", .inputs = 1, .shape = shape_like_first, .forward = (f),           \
      .backward = (b)}, expectation}

static const mutant mutants[] = {
    MUTANT("silu as it should be", right_forward, right_backward, NULL),
    MUTANT("forgets to accumulate", right_forward, no_accumulate, "grad0 (added)"),
    MUTANT("accumulates into nothing", right_forward, always_accumulate, "grad0 (fresh)"),
    MUTANT("wrong sign", right_forward, wrong_sign, "grad0 (fresh)"),
    MUTANT("leaves the last element out", right_forward, last_element_left_out, "grad0 (fresh)"),
    MUTANT("wrong formula", wrong_formula, right_backward, "y (fresh)"),
    MUTANT("writes past the end", one_past_the_end, right_backward, "past the end"),
    MUTANT("changes its input", right_forward, changes_its_input, "was changed"),
};

static tensor *run_mutant(ag *g, tensor **in, const op_case *c)
{
    return ag_apply(g, (op_call){.op = c->with.op, .in = {in[0]}});
}

static void test_broken_ops_are_caught(void **state)
{
    if (getenv("MSD_TEST_DEVICE")) /* the broken ops write from the host */
        skip();
    (void)state;
    for (size_t i = 0; i < sizeof mutants / sizeof *mutants; i++) {
        const mutant *m = &mutants[i];
        op_bench     *b = op_bench_open(suite_basic.golden);
        op_case       c = {"silu", &op_silu, "(7,13)*8", run_mutant, .with.op = &m->broken};
        op_verdict    v = op_bench_run(b, &c);
        bool          passed = v.worst <= 1.0 && !v.why[0];
        bool          right = m->expected ? !passed && strstr(v.why, m->expected) : passed;
        printf("%-4s %s: %s\n", right ? "ok" : "FAIL", m->broken.name, v.why[0] ? v.why : "passes");
        op_bench_close(b);
        assert_true(right);
    }
}

/* ---- what the tape keeps ---- */

static const op_case *case_named(const char *name)
{
    for (int i = 0; i < suite_basic.count; i++)
        if (!strcmp(suite_basic.cases[i].name, name))
            return &suite_basic.cases[i];
    fail_msg("no case '%s'", name);
    return NULL;
}

/* An op keeps what its backward reads for the trainable inputs, and nothing else. */
static void test_what_the_tape_keeps(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int         trainable;
        unsigned    weights;
        size_t      floats;
    } rows[] = {
        {"linear_all", 0, 6, 0},
        {"linear_all", 1, 6, 2 * 3 * 7},
        {"linear_all", 2, 6, 0},
        {"linear_all", 3, 6, 0},
        {"conv_residual", 0, 6, 0},
        {"conv_residual", 3, 6, 0},
        {"add_bias", 0, 0, 0},
        {"add_bias", 1, 0, 0},
        {"scale", 0, 0, 0},
        {"mul_bias", 0, 0, 33},
        {"mul_bias", 1, 0, 300 * 33},
        {"silu", 0, 0, 7 * 13},
        /* and mean and rstd: of each group, of each row */
        {"group_norm_vec_silu", 0, 12, 3 * 3 * 5 * 9 + 3 * 9 + 2 * 3 * 3},
        {"layer_norm", 0, 6, 3 * 5 * 7 + 2 * 15},
    };
    op_bench *b = op_bench_open(suite_basic.golden);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(op_bench_kept(b, case_named(rows[i].name), rows[i].trainable, rows[i].weights),
                         rows[i].floats * sizeof(float));
    op_bench_close(b);
}

/* ---- messages ---- */

static void test_shape_errors(void **state)
{
    (void)state;
    arena   memory = {0};
    device *d = NULL;
    tensor *x, *w, *picture, *kernel;
    assert_int_equal(device_open_cpu(&d, 1), OK);
    assert_int_equal(tensor_new(&x, &memory, d, LIFE_WEIGHTS, "x", DT_F32, DIMS(77, 2048)), OK);
    assert_int_equal(tensor_new(&w, &memory, d, LIFE_WEIGHTS, "proj.weight", DT_F32, DIMS(4, 1280)), OK);
    assert_int_equal(tensor_new(&picture, &memory, d, LIFE_WEIGHTS, "picture", DT_F32, DIMS(1, 2, 2, 3)), OK);
    assert_int_equal(tensor_new(&kernel, &memory, d, LIFE_WEIGHTS, "kernel", DT_F32, DIMS(5, 3, 3, 3)), OK);
    ag *g = ag_new(d);
    assert_null(ag_linear(g, x, w, NULL, NULL));
    assert_int_equal(ag_status(g), E_SHAPE);
    assert_string_equal(err_message(), "linear: inner dimensions differ: got x(77,2048) proj.weight(4,1280), "
                                       "the rule is (...,k) (m,k) (m)? (...,m)? -> (...,m)");
    assert_null(ag_silu(g, x)); /* the first error stays */
    assert_int_equal(ag_status(g), E_SHAPE);
    ag_reset(g);
    assert_null(ag_conv2d(g, picture, kernel, NULL, NULL, (conv_geometry){1, 0, 0, 0, 0}));
    assert_int_equal(ag_status(g), E_SHAPE);
    ag_reset(g);
    assert_null(ag_add(g, x, w));
    ag_reset(g);
    assert_null(ag_group_norm(g, picture, NULL, x, x, 2, 1e-5f, false));
    ag_free(g);
    tensor *all[] = {x, w, picture, kernel};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        tensor_release(all[i]);
    device_close(d);
    arena_free(&memory);
}

/* An argument: the rows of that op alone. */
int main(int count, char **arguments)
{
    const struct CMUnitTest rows[] = {cmocka_unit_test_prestate(test_rows, count > 1 ? arguments[1] : NULL)};
    if (count > 1)
        return cmocka_run_group_tests(rows, NULL, NULL);
    const struct CMUnitTest tests[] = {
        rows[0],
        cmocka_unit_test(test_broken_ops_are_caught),
        cmocka_unit_test(test_what_the_tape_keeps),
        cmocka_unit_test(test_shape_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
