/* AdamW and clipping against torch's (tests/reference/make_optimizer.py, f64). 1e-6: a few roundings of f32 after
 * four updates; a wrong bias correction, eps inside the root or a skipped moment is far above it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "data/counter.h"
#include "support_golden.h"
#include "tests/test_device.h"
#include "train/optimizer.h"

static const double tolerance = 1e-6;

enum { COUNT = 4, STEPS = 4, MOST = 7 * 13 };

static const struct {
    const char *name;
    int         ndim;
    int64_t     dim[2];
} shapes[COUNT] = {{"weight", 2, {7, 13}}, {"bias", 1, {5}}, {"idle", 2, {3, 4}}, {"norm.weight", 1, {1}}};

typedef struct bench {
    arena      memory;
    device    *dev;
    parameter  param[COUNT];
    optimizer *o;
} bench;

static const float *values_of(bench *b, const tensor *t)
{
    float *out = arena_get(&b->memory, (size_t)tensor_count(t) * sizeof *out);
    assert_int_equal(tensor_download(out, DT_F32, t), OK);
    return out;
}

static void bench_open(bench *b, adamw how)
{
    *b = (bench){0};
    assert_int_equal(test_device_open(&b->dev, 2), OK);
    for (int i = 0; i < COUNT; i++) {
        tensor *t = NULL;
        float   values[MOST];
        int     ndim = shapes[i].ndim;
        err     e = tensor_new(&t, &b->memory, b->dev, LIFE_STATE, shapes[i].name, DT_F32, ndim, shapes[i].dim);
        assert_int_equal(e, OK);
        t->needs_grad = true;
        counter_fill(values, shapes[i].name, shapes[i].ndim, shapes[i].dim);
        assert_int_equal(tensor_upload(t, values, DT_F32), OK);
        b->param[i] = (parameter){.name = shapes[i].name, .t = t, .rate = 1};
    }
    assert_int_equal(optimizer_new(&b->o, &b->memory, b->dev, b->param, COUNT, how), OK);
}

static void bench_close(bench *b)
{
    optimizer_free(b->o);
    for (int i = 0; i < COUNT; i++) {
        assert_null(b->param[i].t->grad);
        tensor_release(b->param[i].t);
    }
    assert_int_equal(b->dev->memory->total, 0);
    device_close(b->dev);
    arena_free(&b->memory);
}

/* What backward leaves behind: size * uniform("NAME#k"), and nothing at all in a tensor that took no part. */
static void set_gradients(bench *b, int step, double size)
{
    optimizer_begin(b->o);
    for (int i = 0; i < COUNT; i++) {
        tensor *t = b->param[i].t;
        float   grad[MOST];
        bool    idle = !strcmp(shapes[i].name, "idle") || (!strcmp(shapes[i].name, "bias") && step == 1);
        for (int64_t k = 0; idle && k < tensor_count(t); k++)
            grad[k] = NAN; /* what a tensor that took no part holds must not matter */
        if (!idle)
            counter_uniform(grad, arena_print(&b->memory, "%s#%d", shapes[i].name, step + 1), 0, tensor_count(t));
        for (int64_t k = 0; k < tensor_count(t); k++)
            grad[k] *= (float)size;
        assert_int_equal(tensor_upload(t->grad, grad, DT_F32), OK);
        t->grad_fresh = idle;
    }
}

/* ---- against torch ---- */

static double number(const json_t *list, size_t i)
{
    const char *text = json_string_value(json_array_get(list, i));
    CHECK(text, "number %zu is missing", i);
    return strtod(text, NULL);
}

static json_t *settings(const golden *g, const char *key)
{
    json_t     *out = NULL;
    const char *text = safetensors_metadata(g->file, key);
    CHECK(text && json_text_parse(&out, text, strlen(text), key, JSON_REFUSE_DUPLICATES) == OK, "%s", key);
    return out;
}

static adamw how_of(const json_t *s)
{
    const json_t *betas = json_object_get(s, "betas");
    return (adamw){.beta1 = number(betas, 0), .beta2 = number(betas, 1), .eps = number(json_object_get(s, "eps"), 0),
                   .weight_decay = number(json_object_get(s, "weight_decay"), 0)};
}

/* All zeros in the reference asks for zeros. */
static bool agrees(bench *b, golden *g, const char *label, const char *part, const char *name, const tensor *ours)
{
    const char  *key = arena_print(&g->memory, "%s.%s.%s", label, part, name);
    const float *ref = golden_f32(g, key), *value = values_of(b, ours);
    bool         zero = true;
    for (int64_t i = 0; i < tensor_count(ours); i++)
        zero = zero && ref[i] == 0 && value[i] == 0;
    return zero || golden_agrees(g, key, ours, false, tolerance);
}

static void four_updates(const char *label)
{
    golden  g = golden_open("optimizer.safetensors");
    json_t *s = settings(&g, label), *rates = settings(&g, "rates");
    float  *norms = golden_f32(&g, arena_print(&g.memory, "%s.norms", label));
    double  limit = number(json_object_get(s, "max_norm"), 0);
    bench   b;
    bench_open(&b, how_of(s));
    for (int k = 0; k < STEPS; k++) {
        double length = NAN;
        set_gradients(&b, k, number(json_object_get(s, "sizes"), (size_t)k));
        assert_int_equal(optimizer_norm(&length, b.o), OK);
        assert_true(fabs(length - (double)norms[k]) <= 1e-6 * (double)norms[k]);
        assert_int_equal(optimizer_update(b.o, length, limit, number(rates, (size_t)k)), OK);
    }
    assert_int_equal(b.o->updates, STEPS);
    bool good = true;
    for (int i = 0; i < COUNT; i++) {
        good &= agrees(&b, &g, label, "p", shapes[i].name, b.param[i].t);
        good &= agrees(&b, &g, label, "m", shapes[i].name, b.o->m[i]);
        good &= agrees(&b, &g, label, "v", shapes[i].name, b.o->v[i]);
    }
    assert_true(good);
    bench_close(&b);
    json_decref(s);
    json_decref(rates);
    golden_close(&g);
}

static void clipped_as_torch(void **state)
{
    (void)state;
    four_updates("plain");
}

static void eps_is_outside_the_root(void **state)
{
    (void)state;
    four_updates("eps");
}

/* ---- its own promises ---- */

/* Gradients of nothing: the norm is 0, moments stay 0, and what is left is decay, p * (1 - lr * decay). */
static void without_gradients_only_decay(void **state)
{
    (void)state;
    bench  b;
    double length = NAN;
    bench_open(&b, (adamw){0.9, 0.999, 1e-8, 0.5, false, false, false});
    const float *before = values_of(&b, b.param[0].t);
    optimizer_begin(b.o);
    assert_int_equal(optimizer_norm(&length, b.o), OK);
    assert_true(length == 0);
    assert_int_equal(optimizer_update(b.o, length, 1.0, 0.5), OK);
    const float *p = values_of(&b, b.param[0].t), *m = values_of(&b, b.o->m[0]), *v = values_of(&b, b.o->v[0]);
    for (int i = 0; i < MOST; i++)
        assert_true(p[i] == before[i] * 0.75f && m[i] == 0 && v[i] == 0);
    bench_close(&b);
}

/* min(1, max / (norm + 1e-6)): a norm below the limit changes nothing, to the bit. */
static void small_gradients_are_not_scaled(void **state)
{
    (void)state;
    bench  clipped, unclipped;
    double length = NAN;
    bench_open(&clipped, (adamw){0.9, 0.999, 1e-8, 0.01, false, false, false});
    bench_open(&unclipped, (adamw){0.9, 0.999, 1e-8, 0.01, false, false, false});
    set_gradients(&clipped, 0, 1e-3);
    set_gradients(&unclipped, 0, 1e-3);
    assert_int_equal(optimizer_norm(&length, clipped.o), OK);
    assert_true(length > 0 && length < 0.1);
    assert_int_equal(optimizer_update(clipped.o, length, 0.1, 1e-3), OK);
    assert_int_equal(optimizer_update(unclipped.o, length, 0, 1e-3), OK);
    for (int i = 0; i < COUNT; i++)
        assert_memory_equal(values_of(&clipped, clipped.param[i].t), values_of(&unclipped, unclipped.param[i].t),
                            (size_t)tensor_count(clipped.param[i].t) * sizeof(float));
    bench_close(&clipped);
    bench_close(&unclipped);
}

/* Gradients, parameters and moments are training state: what the memory report counts them as. */
static void memory_is_state(void **state)
{
    (void)state;
    bench b;
    bench_open(&b, (adamw){0.9, 0.999, 1e-8, 0.01, false, false, false});
    size_t elements = 7 * 13 + 5 + 12 + 1;
    assert_true(b.dev->memory->in_use[LIFE_STATE] >= 4 * elements * sizeof(float));
    assert_int_equal(b.dev->memory->total, b.dev->memory->in_use[LIFE_STATE]);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clipped_as_torch),
        cmocka_unit_test(eps_is_outside_the_root),
        cmocka_unit_test(without_gradients_only_decay),
        cmocka_unit_test(small_gradients_are_not_scaled),
        cmocka_unit_test(memory_is_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
