/* Steps whose calls a device keeps and does again: the bits of a step done call by call, whatever changes from one
 * step to the next; and what happens when the device cannot. On the CPU with a capture of the test's own; with
 * MSD_TEST_DEVICE=cuda on the card, by CUDA's graphs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/calls_noted.h"
#include "autograd/planned.h"
#include "data/counter.h"
#include "support_capture.h"

enum { HEADS = 2, SIZE = 16, WIDTH = HEADS * SIZE, MOST = 24, STEPS = 6 };

/* A device's memory; short: blocks of steps are refused while anything is kept. */
typedef struct short_memory {
    allocator          face;
    allocator         *inner;
    const capture_log *log;
    bool               is_short;
    int                refused;
} short_memory;

typedef struct world {
    arena        memory;
    short_memory memory_of_dev;  /* of the CPU */
    device      *dev;
    capture_log *log;            /* NULL on a card */
    tensor      *w, *filter[2];  /* w is trained: its gradient is the world's */
    planned     *kept, *plain;   /* planned_replay, planned_run */
} world;

typedef struct job {
    world  *world;
    int64_t rows;
    int     number;              /* of the step: other inputs */
    int     filter;
    int64_t key;                 /* beside rows; the step does not look at it */
    float   scale;
    bool    fails, asks, more;   /* at its end; sums up in between; takes more than was planned */
    float   out[2 * MOST * WIDTH], loss, gradient[WIDTH * 3 * WIDTH];
    double  squares;
} job;

static err get_short(allocator *a, void **out, size_t bytes, lifetime life)
{
    short_memory *s = (short_memory *)a;
    if (life != LIFE_STEP || !s->is_short || !s->log->alive)
        return s->inner->get(s->inner, out, bytes, life);
    s->refused++;
    return err_set(E_MEMORY, "as asked");
}

static void put_short(allocator *a, void *memory, size_t bytes, lifetime life)
{
    short_memory *s = (short_memory *)a;
    s->inner->put(s->inner, memory, bytes, life);
}

static void fill(tensor *t, const char *name)
{
    float *value = heap_get((size_t)tensor_count(t) * sizeof *value);
    counter_fill(value, name, t->ndim, t->dim);
    assert_int_equal(tensor_upload(t, value, DT_F32), OK);
    free(value);
}

static void world_open(world *w)
{
    const char *kind = getenv("MSD_TEST_DEVICE"); /* NULL: the CPU */
    *w = (world){0};
    assert_int_equal(device_open(&w->dev, kind ? kind : "cpu", 2), OK);
    if (!w->dev->capture)
        w->log = capture_attach(w->dev);
    int64_t dim[] = {3 * WIDTH, WIDTH}, filter[] = {WIDTH, 3, 3, WIDTH};
    assert_int_equal(tensor_new(&w->w, &w->memory, w->dev, LIFE_STATE, "w", DT_F32, 2, dim), OK);
    assert_int_equal(tensor_new(&w->w->grad, &w->memory, w->dev, LIFE_STATE, "w", DT_F32, 2, dim), OK);
    fill(w->w, "w");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tensor_new(&w->filter[i], &w->memory, w->dev, LIFE_WEIGHTS, "filter", DT_F32, 4, filter), OK);
        fill(w->filter[i], i ? "other filter" : "filter");
    }
    w->w->needs_grad = true;
    if (w->log) {
        w->memory_of_dev = (short_memory){.face = {.get = get_short, .put = put_short}, .inner = w->dev->memory,
                                          .log = w->log};
        w->dev->memory = &w->memory_of_dev.face;
    }
    assert_int_equal(planned_open(&w->kept, w->dev), OK);
    assert_int_equal(planned_open(&w->plain, w->dev), OK);
}

static void world_close(world *w)
{
    planned_close(w->kept);
    planned_close(w->plain);
    if (w->log)
        w->dev->memory = w->memory_of_dev.inner;
    tensor_release(w->w->grad);
    tensor_release(w->w);
    tensor_release(w->filter[0]);
    tensor_release(w->filter[1]);
    assert_int_equal(w->dev->memory->total, 0);
    if (w->log) {
        assert_int_equal(w->log->alive, 0);
        assert_int_equal(w->log->pinned, 0);
        capture_detach(w->dev);
    }
    device_close(w->dev);
    arena_free(&w->memory);
}

/* On the CPU, whose capture is this file's own; skips the test elsewhere. */
static void world_with_log(world *w)
{
    world_open(w);
    if (w->log)
        return;
    world_close(w);
    skip();
}

/* Convolution, norm, self-attention, loss, backward. What it uploads is gone when it returns. */
static err step(ag *g, void *user)
{
    job    *j = user;
    float   input[2 * MOST * WIDTH];
    int64_t n = j->rows;
    bool    real = !ag_device(g)->dataless;
    counter_uniform(input, "input", 100000 * (uint64_t)j->number, 2 * n * WIDTH);
    tensor *x = ag_input(g, "x", DT_F32, DIMS(2, n, 1, WIDTH), input, DT_F32);
    tensor *y = ag_conv2d(g, x, j->world->filter[j->filter], NULL, x, (conv_geometry){1, 1, 1, 1, 1});
    y = ag_layer_norm(g, ag_scale(g, y, j->scale), NULL, NULL, 1e-2f);
    tensor *qkv = ag_reshape(g, ag_linear(g, y, j->world->w, NULL, NULL), DIMS(2, n, 3, HEADS, SIZE));
    tensor *part[3];
    for (int i = 0; i < 3; i++)
        part[i] = ag_reshape(g, ag_cast(g, ag_slice(g, qkv, 2, i, 1), DT_F32), DIMS(2, n, HEADS, SIZE));
    y = ag_attention(g, part[0], part[1], part[2], 0.25f, false);
    if (j->more && real)
        y = ag_scale(g, y, 1.0f);
    tensor *loss = ag_mse(g, ag_reshape(g, y, x->ndim, x->dim), x);
    TRY(ag_status(g));
    if (j->asks && real)
        TRY(ag_device(g)->p->sum_squares(ag_device(g), &j->squares, y));
    TRY(tensor_download(&j->loss, DT_F32, loss));
    TRY(tensor_download(j->out, DT_F32, y));
    bool fresh = j->world->w->grad_fresh;
    TRY(ag_backward(g, loss));
    if (!real)
        j->world->w->grad_fresh = fresh;
    memset(input, 0xff, sizeof input);
    return j->fails && real ? err_set(E_NUMERIC, "as asked") : OK;
}

/* Runs it, with the gradient fresh or added to; heap. */
static job *run(world *w, planned *p, job how, bool fresh, err expected)
{
    job *j = heap_get(sizeof *j);
    *j = how;
    j->world = w;
    memset(j->out, 0, sizeof j->out);
    if (fresh)
        w->w->grad_fresh = true;
    int64_t key[] = {j->rows, j->key};
    err     e = p == w->kept ? planned_replay(p, key, 2, step, j) : planned_run(p, key, 2, step, j);
    if (e != expected)
        fail_msg("%d: %s", e, err_message());
    assert_int_equal(tensor_download(j->gradient, DT_F32, w->w->grad), OK);
    return j;
}

static void same(job *a, job *b)
{
    assert_true(a->loss == b->loss && a->loss > 0 && a->squares == b->squares);
    assert_memory_equal(a->out, b->out, sizeof a->out);
    assert_memory_equal(a->gradient, b->gradient, sizeof a->gradient);
    free(a);
    free(b);
}

/* Both ways, from the same gradient. */
static void both(world *w, job how)
{
    job *a = run(w, w->kept, how, true, OK);
    same(a, run(w, w->plain, how, true, OK));
}

static void counts(const world *w, int64_t plain, int64_t kept, int64_t replayed)
{
    replay_counts n = planned_replays(w->kept);
    assert_int_equal(n.plain, plain);
    assert_int_equal(n.kept, kept);
    assert_int_equal(n.replayed, replayed);
}

static void every_primitive_is_noted(void **state)
{
    (void)state;
    typedef void (*function)(void);
    function row[sizeof(primitives) / sizeof(function)];
    memcpy(row, &noting_primitives, sizeof row);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        assert_true(row[i] != NULL);
}

static void same_bits(void **state)
{
    (void)state;
    world w;
    float loss = 0;
    world_open(&w);
    for (int i = 0; i < STEPS; i++) {
        job *a = run(&w, w.kept, (job){.rows = 20, .number = i, .scale = 0.5f}, true, OK);
        assert_true(a->loss != loss); /* the inputs are other ones */
        loss = a->loss;
        same(a, run(&w, w.plain, (job){.rows = 20, .number = i, .scale = 0.5f}, true, OK));
    }
    counts(&w, 1, 1, STEPS - 1);
    assert_int_equal(planned_strays(w.kept), 0);
    world_close(&w);
}

/* Another number or another shape is another list: nothing old is done. */
static void other_calls(void **state)
{
    (void)state;
    world w;
    world_open(&w);
    for (int i = 0; i < 3; i++)
        both(&w, (job){.rows = 20, .number = i, .scale = 0.5f});
    counts(&w, 1, 1, 2);
    both(&w, (job){.rows = 20, .number = 3, .scale = 0.25f});
    both(&w, (job){.rows = 8, .number = 4, .scale = 0.5f});
    counts(&w, 3, 1, 2);
    both(&w, (job){.rows = 20, .number = 5, .scale = 0.25f});
    both(&w, (job){.rows = 8, .number = 6, .scale = 0.5f});
    both(&w, (job){.rows = 20, .number = 7, .scale = 0.5f});
    counts(&w, 3, 3, 5);
    both(&w, (job){.rows = MOST, .number = 8, .scale = 0.5f}); /* in a larger block: all that was kept goes */
    assert_true(!w.log || w.log->alive == 0);
    for (int i = 0; i < 3; i++)
        both(&w, (job){.rows = 20, .number = i, .scale = 0.5f});
    counts(&w, 5, 4, 7);
    both(&w, (job){.rows = 20, .number = 9, .scale = 0.5f, .filter = 1}); /* another address */
    both(&w, (job){.rows = 20, .number = 9, .scale = 0.5f, .key = 1}); /* another plan: other scratch */
    counts(&w, 7, 4, 7);
    world_close(&w);
}

/* As micro-batches do: the first writes the gradient, those after it add. */
static void gradients(void **state)
{
    (void)state;
    world w;
    world_open(&w);
    for (int i = 0; i < 4; i++) {
        job *a[2];
        for (int way = 0; way < 2; way++) {
            planned *p = way ? w.plain : w.kept;
            free(run(&w, p, (job){.rows = 8, .number = 3 * i, .scale = 0.5f}, true, OK));
            free(run(&w, p, (job){.rows = 8, .number = 3 * i + 1, .scale = 0.5f}, false, OK));
            a[way] = run(&w, p, (job){.rows = 8, .number = 3 * i + 2, .scale = 0.5f}, false, OK);
        }
        same(a[0], a[1]);
    }
    counts(&w, 2, 2, 10);
    world_close(&w);
}

/* What the plan did not foresee, and what the host waits for: done call by call. */
static void at_once(void **state)
{
    (void)state;
    world w;
    world_open(&w);
    for (int i = 0; i < 3; i++)
        both(&w, (job){.rows = 8, .number = i, .scale = 0.5f, .more = i == 1});
    assert_true(planned_strays(w.kept) > 0);
    counts(&w, 2, 1, 1);
    for (int i = 0; i < 2; i++)
        both(&w, (job){.rows = 8, .number = i, .scale = 0.5f, .asks = true});
    counts(&w, 4, 1, 1);
    world_close(&w);
}

static void a_failing_step(void **state)
{
    (void)state;
    world w;
    world_open(&w);
    for (int i = 0; i < 2; i++)
        both(&w, (job){.rows = 8, .number = i, .scale = 0.5f});
    float *before = heap_get(sizeof(job)), *after = heap_get(sizeof(job));
    assert_int_equal(tensor_download(before, DT_F32, w.w->grad), OK);
    job *a = run(&w, w.kept, (job){.rows = 8, .number = 2, .scale = 0.5f, .fails = true}, true, E_NUMERIC);
    assert_int_equal(tensor_download(after, DT_F32, w.w->grad), OK);
    assert_memory_equal(before, after, sizeof a->gradient); /* none of its calls was done */
    assert_true(a->loss == 0);
    free(a);
    free(before);
    free(after);
    both(&w, (job){.rows = 8, .number = 3, .scale = 0.5f});
    counts(&w, 1, 1, 2);
    world_close(&w);
}

/* A file's lines. */
static int lines(FILE *f)
{
    int count = 0;
    rewind(f);
    for (int c; (c = fgetc(f)) != EOF;)
        count += c == '\n';
    return count;
}

/* Without graphs of any kind of reason steps are what they were; that is said once. */
static void refusals(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        world w;
        world_open(&w);
        if (!w.log) {
            world_close(&w);
            skip();
        }
        logger log = {.stream = tmpfile()};
        assert_non_null(log.stream);
        planned_log(w.kept, &log);
        w.log->refuse_begin = way == 0 ? E_DEVICE : OK;
        w.log->refuse_end = way % 2 ? E_DEVICE : OK;
        w.log->takes_memory = way >= 2;
        for (int i = 0; i < 4; i++)
            both(&w, (job){.rows = 8, .number = i, .scale = 0.5f});
        for (int i = 0; i < 3; i++)
            both(&w, (job){.rows = 9, .number = i, .scale = 0.5f});
        counts(&w, 7, 0, 0);
        assert_int_equal(planned_replays(w.kept).refused, 2);
        assert_int_equal(w.log->begins, 2); /* once for each list */
        assert_int_equal(w.log->launches, 0);
        assert_int_equal(lines(log.stream), 1);
        fclose(log.stream);
        world_close(&w);
    }
}

static void a_failing_launch(void **state)
{
    (void)state;
    world w;
    world_with_log(&w);
    for (int i = 0; i < 2; i++)
        both(&w, (job){.rows = 8, .number = i, .scale = 0.5f});
    w.log->refuse_launch = E_DEVICE;
    free(run(&w, w.kept, (job){.rows = 8, .number = 2, .scale = 0.5f}, true, E_DEVICE));
    w.log->refuse_launch = OK;
    both(&w, (job){.rows = 8, .number = 3, .scale = 0.5f});
    world_close(&w);
}

static void no_pinned_memory(void **state)
{
    (void)state;
    world w;
    world_with_log(&w);
    w.log->refuse_pin = E_MEMORY;
    for (int i = 0; i < 2; i++)
        both(&w, (job){.rows = 8, .number = i, .scale = 0.5f});
    counts(&w, 2, 0, 0);
    w.log->refuse_pin = OK;
    for (int i = 0; i < 3; i++)
        both(&w, (job){.rows = 8, .number = i, .scale = 0.5f});
    counts(&w, 3, 1, 2);
    assert_int_equal(w.log->pins, 1);
    world_close(&w);
}

/* More lists than are remembered: the one not used for longest goes. */
static void many_lists(void **state)
{
    (void)state;
    enum { LISTS = 70, REMEMBERED = 64 };
    world w;
    world_with_log(&w);
    for (int i = 0; i < LISTS; i++)
        for (int twice = 0; twice < 2; twice++)
            both(&w, (job){.rows = 2, .number = twice, .scale = 0.01f * (float)(i + 1)});
    counts(&w, LISTS, LISTS, LISTS);
    assert_int_equal(w.log->alive, REMEMBERED);
    both(&w, (job){.rows = 2, .number = 1, .scale = 0.01f * LISTS});
    counts(&w, LISTS, LISTS, LISTS + 1);
    both(&w, (job){.rows = 2, .number = 1, .scale = 0.01f});
    counts(&w, LISTS + 1, LISTS, LISTS + 1);
    world_close(&w);
}

static void memory_is_short(void **state)
{
    (void)state;
    world w;
    world_with_log(&w);
    for (int i = 0; i < 2; i++)
        both(&w, (job){.rows = 8, .number = i, .scale = 0.5f});
    planned_rest(w.kept);
    w.memory_of_dev.is_short = true;
    both(&w, (job){.rows = 8, .number = 2, .scale = 0.5f}); /* its block is had once nothing is kept */
    w.memory_of_dev.is_short = false;
    assert_int_equal(w.memory_of_dev.refused, 1);
    counts(&w, 2, 1, 1);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_primitive_is_noted),
        cmocka_unit_test(same_bits), cmocka_unit_test(other_calls), cmocka_unit_test(gradients),
        cmocka_unit_test(at_once), cmocka_unit_test(a_failing_step), cmocka_unit_test(refusals),
        cmocka_unit_test(a_failing_launch), cmocka_unit_test(no_pinned_memory), cmocka_unit_test(many_lists),
        cmocka_unit_test(memory_is_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
