#include "support_ops.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "data/counter.h"
#include "support_guard.h"
#include "tests/test_values.h"

struct op_bench {
    device      *d;
    bool         guarded;
    safetensors *golden;
};

typedef struct input {
    bool         present;
    dtype        type;
    int          ndim;
    int64_t      dim[TENSOR_MAX_DIM], count;
    void        *host; /* what the tensor holds, in its type */
    const float *gradient; /* the golden one, or NULL: not differentiable */
} input;

/* What one run gave, in f32 on the host. */
typedef struct result {
    float *y, *gradient[OP_MAX_INPUTS];
} result;

typedef enum precision { IN_F32, ROUNDED_IN_F32, IN_BF16 } precision; /* the second is only a reference for the third */

typedef struct fixture {
    op_bench            *b;
    const op_case       *c;
    arena                memory;
    input                in[OP_MAX_INPUTS];
    int                  inputs;
    const stored_tensor *y;
    float               *y_golden, *dy;
    precision            precision;
    result               own; /* of ROUNDED_IN_F32 */
    op_verdict           verdict;
} fixture;

static void must(err e)
{
    CHECK(e == OK, "%s", err_message());
}

op_bench *op_bench_open(const char *golden)
{
    op_bench *b = heap_get(sizeof *b);
    arena     text = {0};
    const char *kind = getenv("MSD_TEST_DEVICE"); /* NULL: the CPU */
    must(device_open(&b->d, kind ? kind : "cpu", 2));
    b->guarded = !strcmp(b->d->kind, "cpu"); /* the guard writes into what it hands out */
    must(safetensors_open(&b->golden, arena_print(&text, "%s/%s", MSD_GOLDENS, golden)));
    if (b->guarded)
        b->d->memory = guard_new(b->d->memory);
    arena_free(&text);
    return b;
}

void op_bench_close(op_bench *b)
{
    if (b->guarded)
        b->d->memory = guard_free(b->d->memory);
    device_close(b->d);
    safetensors_close(b->golden);
    free(b);
}

device *op_bench_device(op_bench *b)
{
    return b->d;
}

static void fail(fixture *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fail(fixture *f, const char *format, ...)
{
    va_list arguments;
    f->verdict.worst = INFINITY;
    if (f->verdict.why[0])
        return;
    va_start(arguments, format);
    vsnprintf(f->verdict.why, sizeof f->verdict.why, format, arguments);
    va_end(arguments);
}

/* ---- inputs ---- */

static const stored_tensor *golden_of(fixture *f, const char *format, int i)
{
    char leaf[32];
    snprintf(leaf, sizeof leaf, format, i);
    return tensor_table_find(&f->b->golden->tensors, arena_print(&f->memory, "%s.%s", f->c->name, leaf));
}

static float *golden_values(fixture *f, const stored_tensor *t)
{
    float *values = arena_get(&f->memory, (size_t)t->count * sizeof *values);
    stored_to_f32(values, t->type, t->data, t->count);
    return values;
}

static void stored_input(fixture *f, input *in, int i)
{
    const stored_tensor *t = golden_of(f, "%d", i);
    CHECK(t, "%s: the golden file has no input %d", f->c->name, i);
    in->type = stored_dtype(t->type);
    in->ndim = t->ndim;
    in->count = t->count;
    CHECK(t->ndim <= TENSOR_MAX_DIM && in->type != DTYPE_COUNT, "%s: input %d", f->c->name, i);
    memcpy(in->dim, t->dim, (size_t)t->ndim * sizeof *t->dim);
    in->host = memcpy(arena_get(&f->memory, t->bytes), t->data, t->bytes);
}

/* "(2,3)*4" */
static void counted_input(fixture *f, input *in, int i, const char *word)
{
    const char *at = word;
    char       *end = NULL;
    in->type = DT_F32;
    in->count = 1;
    while (*at == '(' || *at == ',') {
        CHECK(in->ndim < TENSOR_MAX_DIM, "%s: %s", f->c->name, word);
        in->dim[in->ndim] = strtoll(at + 1, &end, 10);
        in->count *= in->dim[in->ndim++];
        at = end;
    }
    CHECK(*at == ')', "%s: '%s' is no shape", f->c->name, word);
    float factor = at[1] == '*' ? strtof(at + 2, NULL) : 1.0f, *values;
    values = in->host = arena_get(&f->memory, (size_t)in->count * sizeof *values);
    counter_uniform(values, arena_print(&f->memory, "%s.%d", f->c->name, i), 0, in->count);
    for (int64_t k = 0; k < in->count; k++)
        values[k] *= factor;
}

static void open_fixture(fixture *f, op_bench *b, const op_case *c)
{
    *f = (fixture){.b = b, .c = c};
    char *words = arena_copy_string(&f->memory, c->inputs), *rest = NULL;
    for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        CHECK(f->inputs < OP_MAX_INPUTS, "%s: too many inputs", c->name);
        input *in = &f->in[f->inputs];
        in->present = strcmp(word, "-") != 0;
        if (!strcmp(word, "stored"))
            stored_input(f, in, f->inputs);
        else if (in->present)
            counted_input(f, in, f->inputs, word);
        const stored_tensor *gradient = golden_of(f, "grad%d", f->inputs);
        if (gradient) {
            CHECK(gradient->count == in->count, "%s: grad%d has another size", c->name, f->inputs);
            in->gradient = golden_values(f, gradient);
        }
        f->inputs++;
    }
    f->y = golden_of(f, "y", 0);
    CHECK(f->y, "the golden file has no case '%s'", c->name);
    f->y_golden = golden_values(f, f->y);
    f->dy = arena_get(&f->memory, (size_t)f->y->count * sizeof *f->dy);
    counter_uniform(f->dy, arena_print(&f->memory, "%s.dy", c->name), 0, f->y->count);
}

/* Floating inputs and dy to the nearest bf16, still held as f32. */
static void round_inputs(fixture *f)
{
    for (int i = 0; i < f->inputs; i++) {
        input *in = &f->in[i];
        float *values = in->host;
        for (int64_t k = 0; in->present && in->type == DT_F32 && !(f->c->stays >> i & 1u) && k < in->count; k++)
            values[k] = bf16_to_f32(f32_to_bf16(values[k]));
    }
    for (int64_t k = 0; k < f->y->count; k++)
        f->dy[k] = bf16_to_f32(f32_to_bf16(f->dy[k]));
}

/* The inputs that were rounded become bf16; how many there are. */
static int narrow_inputs(fixture *f)
{
    int narrowed = 0;
    for (int i = 0; i < f->inputs; i++) {
        input       *in = &f->in[i];
        const float *values = in->host;
        if (!in->present || in->type != DT_F32 || f->c->stays >> i & 1u)
            continue;
        uint16_t *half = arena_get(&f->memory, (size_t)in->count * sizeof *half);
        for (int64_t k = 0; k < in->count; k++)
            half[k] = f32_to_bf16(values[k]);
        in->type = DT_BF16;
        in->host = half;
        narrowed++;
    }
    return narrowed;
}

/* ---- comparing ---- */

static void note_share(fixture *f, double share)
{
    if (share > f->verdict.worst)
        f->verdict.worst = share;
}

/* `start` is what the buffer held before; adding to it costs a rounding of the sum for each writer, of which there are
 * at most three. */
static void compare_elements(fixture *f, const char *what, const char *how, const float *ours, const float *golden,
                             int64_t n, float start)
{
    double square = 0, tolerance = f->c->tolerance > 0 ? f->c->tolerance : OP_TOLERANCE;
    for (int64_t i = 0; i < n; i++)
        square += (double)golden[i] * (double)golden[i];
    double rms = n ? sqrt(square / (double)n) : 0;
    for (int64_t i = 0; i < n; i++) {
        double reference = (double)golden[i], difference = fabs((double)ours[i] - (double)start - reference);
        double allowed = tolerance * (fabs(reference) + rms);
        if (start != 0.0f)
            allowed += 3 * 0x1p-24 * (fabs((double)start) + fabs(reference) + rms);
        double share = difference == 0.0 ? 0.0 : difference / allowed;
        if (isnan(share)) /* else the next element would hide it */
            share = INFINITY;
        if (share > 1.0)
            fail(f, "%s (%s): element %" PRId64 " is %.9g, reference %.9g, %.3g %% of tolerance", what, how, i,
                 (double)ours[i] - (double)start, reference, 100 * share);
        note_share(f, share);
    }
}

/* As a whole: the norm of the difference against that of the reference; `start` as above, with bf16's roundings. */
static void compare_norms(fixture *f, const char *what, const char *how, const float *ours, const float *reference,
                          int64_t n, float start, double tolerance)
{
    double norm = 0, difference = 0;
    for (int64_t i = 0; i < n; i++) {
        double r = (double)reference[i], e = (double)ours[i] - (double)start - r;
        norm += r * r;
        difference += e * e;
    }
    norm = sqrt(norm), difference = sqrt(difference);
    double allowed = tolerance * norm;
    if (start != 0.0f)
        allowed += 3 * 0x1p-9 * (sqrt((double)n) * fabs((double)start) + norm);
    double share = difference == 0.0 ? 0.0 : difference / allowed;
    if (isnan(share))
        share = INFINITY;
    if (share > 1.0)
        fail(f, "%s (bf16, %s): differs by %.3g, the reference has the norm %.3g", what, how, difference, norm);
    note_share(f, share);
    if (start == 0.0f && norm > 0 && difference / norm > f->verdict.relative)
        f->verdict.relative = difference / norm;
}

static void compare(fixture *f, const char *what, const char *how, const float *ours, const float *golden,
                    const float *own, int64_t n, float start)
{
    if (start == 0.0f)
        test_values_note(f->c->name, ours, f->precision != IN_BF16 ? NULL : own ? own : golden, n);
    if (f->precision == IN_F32) {
        compare_elements(f, what, how, ours, golden, n, start);
    } else if (f->precision == IN_BF16) {
        if (!f->c->far)
            compare_norms(f, what, how, ours, golden, n, start, BF16_TOLERANCE);
        if (own)
            compare_norms(f, what, how, ours, own, n, start, BF16_OWN_TOLERANCE);
    }
}

static bool same_shape(const tensor *ours, const stored_tensor *golden)
{
    return ours->ndim == golden->ndim && !memcmp(ours->dim, golden->dim, (size_t)ours->ndim * sizeof *ours->dim);
}

static float *download(fixture *f, const tensor *t)
{
    float *values = arena_get(&f->memory, (size_t)tensor_count(t) * sizeof *values);
    must(tensor_download(values, DT_F32, t));
    return values;
}

/* ---- one run ---- */

typedef enum way { FRESH, ADDED, PASSED, TRAINED } way;

typedef struct parameter_inputs {
    const op *op;
    unsigned  always; /* bit i: where input i is trainable, it is a parameter */
    unsigned  may_be;
} parameter_inputs;

static const parameter_inputs parameters[] = {
    {&op_linear, 6, 6}, {&op_layer_norm, 6, 6}, {&op_embedding, 1, 1}, {&op_add, 0, 3},   {&op_mul, 0, 2},  {&op_concat, 0, 3},
    {&op_select, 0, 6}, {&op_reshape, 0, 1},    {&op_slice, 0, 1},     {&op_cast, 0, 1},
};

/* Training state has f32 gradients. */
static lifetime life_of(const fixture *f, int i, way w)
{
    for (size_t k = 0; k < sizeof parameters / sizeof *parameters; k++)
        if (parameters[k].op == f->c->op && (w == TRAINED ? parameters[k].may_be : parameters[k].always) >> i & 1u)
            return LIFE_STATE;
    return LIFE_WEIGHTS;
}

static void make_inputs(fixture *f, tensor **t, unsigned trainable, way w)
{
    device *d = f->b->d;
    for (int i = 0; i < f->inputs; i++) {
        const input *in = &f->in[i];
        t[i] = NULL;
        if (!in->present)
            continue;
        const char *name = arena_print(&f->memory, "in%d", i);
        lifetime life = life_of(f, i, w);
        must(tensor_new(&t[i], &f->memory, d, life, name, in->type, in->ndim, in->dim));
        must(tensor_upload(t[i], in->host, in->type));
        t[i]->needs_grad = trainable >> i & 1u;
        if (w != ADDED || !t[i]->needs_grad)
            continue;
        tensor *g = NULL;
        dtype   type = life == LIFE_STATE ? DT_F32 : in->type;
        must(tensor_new(&g, &f->memory, d, LIFE_STATE, name, type, in->ndim, in->dim));
        must(d->p->fill(d, g, 1.0f));
        t[i]->grad = g;
    }
}

static void check_inputs(fixture *f, tensor **t, const char *how)
{
    for (int i = 0; i < f->inputs; i++) {
        if (!t[i])
            continue;
        size_t bytes = (size_t)f->in[i].count * dtype_bytes(t[i]->type);
        void  *now = arena_get(&f->memory, bytes);
        must(tensor_download(now, t[i]->type, t[i]));
        if (memcmp(now, f->in[i].host, bytes))
            fail(f, "input %d (%s): was changed", i, how);
    }
    if (f->b->guarded && guard_damaged(f->b->d->memory))
        fail(f, "(%s): wrote past the end of a tensor", how);
}

static void seed(fixture *f, ag *g, tensor *y)
{
    must(tensor_new(&y->grad, ag_arena(g), f->b->d, LIFE_STEP, "dy", y->type, y->ndim, y->dim));
    must(tensor_upload(y->grad, f->dy, DT_F32));
    y->grad_fresh = false;
}

static void check_gradients(fixture *f, tensor **t, result *r, way w, const char *how)
{
    for (int i = 0; i < f->inputs; i++) {
        if (!t[i] || !t[i]->needs_grad)
            continue;
        if (!t[i]->grad || t[i]->grad_fresh) {
            fail(f, "input %d (%s): got no gradient", i, how);
            continue;
        }
        char what[16];
        snprintf(what, sizeof what, "grad%d", i);
        r->gradient[i] = download(f, t[i]->grad);
        if (t[i]->grad->type != (life_of(f, i, w) == LIFE_STATE ? DT_F32 : t[i]->type))
            fail(f, "%s (%s): is %s", what, how, dtype_name(t[i]->grad->type));
        compare(f, what, how, r->gradient[i], f->in[i].gradient, f->own.gradient[i], f->in[i].count,
                w == ADDED ? 1.0f : 0.0f);
        f->verdict.gradients++;
    }
}

static void release_inputs(fixture *f, ag *g, tensor **t)
{
    ag_free(g);
    for (int i = 0; i < f->inputs; i++) {
        if (!t[i])
            continue;
        tensor_release(t[i]->grad); /* NULL where the graph made it */
        tensor_release(t[i]);
    }
    const allocator *a = f->b->d->memory;
    for (int life = 0; life < LIFETIME_COUNT; life++)
        if (a->in_use[life])
            fail(f, "%zu bytes of %s were not released", a->in_use[life], lifetime_name((lifetime)life));
}

/* The output; what else the row made is gone, as after a layer of a network. */
static tensor *forward(fixture *f, ag *g, tensor **t, way w)
{
    tensor *in[OP_MAX_INPUTS];
    int     scope = ag_scope_open(g);
    for (int i = 0; i < f->inputs; i++)
        in[i] = t[i] && w == PASSED ? ag_reshape(g, t[i], t[i]->ndim, t[i]->dim) : t[i];
    return ag_scope_close(g, scope, f->c->run(g, in, f->c));
}

static result run(fixture *f, unsigned trainable, way w, const char *how)
{
    result  r = {0};
    tensor *t[OP_MAX_INPUTS];
    ag     *g = ag_new(f->b->d);
    make_inputs(f, t, trainable, w);
    tensor *y = forward(f, g, t, w);
    if (!y || ag_status(g) != OK) {
        f->verdict.refused |= ag_status(g) == E_DEVICE;
        fail(f, "(%s): %s", how, err_message());
    } else if (!same_shape(y, f->y)) {
        fail(f, "(%s): y is %s, reference %s", how, tensor_shape_text(&f->memory, y),
             stored_shape_text(&f->memory, f->y->ndim, f->y->dim));
    } else {
        r.y = download(f, y);
        compare(f, "y", how, r.y, f->y_golden, f->own.y, f->y->count, 0.0f);
        if (trainable) {
            seed(f, g, y);
            if (ag_backward_seeded(g) != OK) {
                f->verdict.refused |= ag_status(g) == E_DEVICE;
                fail(f, "(%s) backward: %s", how, err_message());
            }
            check_gradients(f, t, &r, w, how);
        }
    }
    check_inputs(f, t, how);
    release_inputs(f, g, t);
    return r;
}

/* ---- the runs of a row ---- */

static bool same_bits(const float *a, const float *b, int64_t count)
{
    return !a || !b || !memcmp(a, b, (size_t)count * sizeof *a);
}

static void expect_same_bits(fixture *f, const result *a, const result *b)
{
    if (!same_bits(a->y, b->y, f->y->count))
        fail(f, "y: the second run has other bits");
    for (int i = 0; i < f->inputs; i++)
        if (!same_bits(a->gradient[i], b->gradient[i], f->in[i].count))
            fail(f, "grad%d: the second run has other bits", i);
}

static void run_frozen(fixture *f)
{
    tensor *t[OP_MAX_INPUTS];
    ag     *g = ag_new(f->b->d);
    make_inputs(f, t, 0, FRESH);
    tensor *y = forward(f, g, t, FRESH);
    if (ag_tape_length(g))
        fail(f, "(frozen): %" PRId64 " calls on the tape", ag_tape_length(g));
    size_t own = y && y->mem->life == LIFE_STEP ? y->mem->bytes : 0, kept = f->b->d->memory->in_use[LIFE_STEP];
    if (kept != own)
        fail(f, "(frozen): %zu bytes are kept, the output has %zu", kept, own);
    check_inputs(f, t, "frozen");
    release_inputs(f, g, t);
}

static unsigned trainable_inputs(const fixture *f)
{
    unsigned all = 0;
    for (int i = 0; i < f->inputs; i++)
        all |= f->in[i].gradient ? 1u << i : 0;
    return all;
}

static void run_ways(fixture *f)
{
    unsigned all = trainable_inputs(f);
    result first = run(f, all, FRESH, "fresh"), again = run(f, all, FRESH, "again");
    expect_same_bits(f, &first, &again);
    run_frozen(f);
    run(f, all, PASSED, "passed");
    if (all)
        run(f, all, ADDED, "added");
    for (int i = 0; i < f->inputs && all & (all - 1); i++)
        if (f->in[i].gradient)
            run(f, 1u << i, FRESH, "alone");
    if (all && f->precision == IN_BF16)
        run(f, all, TRAINED, "trained");
}

op_verdict op_bench_run(op_bench *b, const op_case *c)
{
    fixture f;
    open_fixture(&f, b, c);
    run_ways(&f);
    op_verdict v = f.verdict;
    arena_free(&f.memory);
    return v;
}

op_verdict op_bench_run_bf16(op_bench *b, const op_case *c)
{
    fixture f;
    open_fixture(&f, b, c);
    round_inputs(&f);
    f.precision = ROUNDED_IN_F32;
    f.own = run(&f, trainable_inputs(&f), FRESH, "rounded");
    f.precision = IN_BF16;
    f.verdict.same = !narrow_inputs(&f);
    if (!f.verdict.same)
        run_ways(&f);
    op_verdict v = f.verdict;
    arena_free(&f.memory);
    return v;
}

size_t op_bench_kept(op_bench *b, const op_case *c, int trainable, unsigned weights)
{
    fixture f;
    tensor *t[OP_MAX_INPUTS];
    open_fixture(&f, b, c);
    ag *g = ag_new(b->d);
    make_inputs(&f, t, 1u << trainable, FRESH);
    CHECK(forward(&f, g, t, FRESH) && ag_tape_length(g) == 1, "%s: %s", c->name, err_message());
    ag_scope_close(g, 0, NULL);
    size_t kept = 0;
    for (int i = 0; i < f.inputs; i++) {
        if (weights >> i & 1u)
            kept -= t[i]->mem->bytes;
        else
            tensor_release(t[i]);
    }
    kept += b->d->memory->total;
    release_inputs(&f, g, t);
    arena_free(&f.memory);
    return kept;
}
