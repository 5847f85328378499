/* Steps in planned memory: the bits of a step that runs without a plan, every allocation foreseen, the block as large as
 * was said before, and nothing lost when a step fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/planned.h"
#include "data/counter.h"

enum { HEADS = 2, SIZE = 16, WIDTH = HEADS * SIZE, MOST = 96 };

typedef struct world {
    arena   memory;
    device *dev;
    tensor *w, *filter;
} world;

typedef struct job {
    world  *world;
    int64_t rows;
    float   out[2 * MOST * WIDTH], loss;
    err     fail;         /* given back at the end of a step with data */
    int     dry, real;    /* calls */
    bool    more;         /* takes more than it took when it was planned */
} job;

static void world_open(world *w)
{
    *w = (world){0};
    assert_int_equal(device_open_cpu(&w->dev, 2), OK);
    assert_int_equal(tensor_new(&w->w, &w->memory, w->dev, LIFE_STATE, "w", DT_F32, DIMS(3 * WIDTH, WIDTH)), OK);
    assert_int_equal(tensor_new(&w->filter, &w->memory, w->dev, LIFE_WEIGHTS, "filter", DT_F32, DIMS(WIDTH, 3, 3, WIDTH)), OK);
    counter_fill(w->w->data, "w", 2, w->w->dim);
    counter_fill(w->filter->data, "filter", 4, w->filter->dim);
    w->w->needs_grad = true;
}

static void world_close(world *w)
{
    tensor_release(w->w);
    tensor_release(w->filter);
    assert_int_equal(w->dev->memory->total, 0);
    device_close(w->dev);
    arena_free(&w->memory);
}

/* Convolution, norm, self-attention, loss, backward: primitives with scratch among them. */
static err step(ag *g, void *user)
{
    job    *j = user;
    float   input[2 * MOST * WIDTH];
    int64_t n = j->rows;
    *(ag_device(g)->dataless ? &j->dry : &j->real) += 1;
    counter_uniform(input, "input", 0, 2 * n * WIDTH);
    tensor *x = ag_input(g, "x", DT_F32, DIMS(2, n, 1, WIDTH), input, DT_F32);
    tensor *y = ag_conv2d(g, x, j->world->filter, NULL, x, (conv_geometry){1, 1, 1, 1, 1});
    y = ag_layer_norm(g, y, NULL, NULL, 1e-5f);
    tensor *qkv = ag_reshape(g, ag_linear(g, y, j->world->w, NULL, NULL), DIMS(2, n, 3, HEADS, SIZE));
    tensor *part[3];
    for (int i = 0; i < 3; i++)
        part[i] = ag_reshape(g, ag_cast(g, ag_slice(g, qkv, 2, i, 1), DT_F32), DIMS(2, n, HEADS, SIZE));
    y = ag_attention(g, part[0], part[1], part[2], 0.25f, false);
    if (j->more && !ag_device(g)->dataless)
        y = ag_scale(g, y, 1.0f);
    tensor *loss = ag_mse(g, ag_reshape(g, y, x->ndim, x->dim), x);
    TRY(ag_status(g));
    TRY(tensor_download(&j->loss, DT_F32, loss));
    TRY(tensor_download(j->out, DT_F32, y));
    TRY(ag_backward(g, loss));
    if (j->fail != OK && !ag_device(g)->dataless)
        return err_set(j->fail, "as asked");
    return OK;
}

static void same_bits(void **state)
{
    (void)state;
    world    w;
    planned *p;
    size_t   foreseen;
    job     *free_run = heap_get(sizeof *free_run), *planned_job = heap_get(sizeof *planned_job);
    world_open(&w);
    assert_int_equal(planned_open(&p, w.dev), OK);
    static const int64_t rows[] = {32, MOST, 7, 32};
    size_t largest = 0;
    for (int i = 0; i < 4; i++) {
        *free_run = *planned_job = (job){.world = &w, .rows = rows[i]};
        ag *g = ag_new(w.dev);
        assert_int_equal(step(g, free_run), OK);
        ag_free(g);
        assert_int_equal(planned_foresee(&foreseen, p, &rows[i], 1, step, planned_job), OK);
        assert_int_equal(planned_job->dry, i < 3); /* the last has the key of the first */
        assert_int_equal(planned_job->real, 0);
        largest = foreseen > largest ? foreseen : largest;
        assert_int_equal(planned_run(p, &rows[i], 1, step, planned_job), OK);
        assert_int_equal(planned_job->dry, i < 3);
        assert_int_equal(planned_block(p), largest);
        assert_true(planned_job->loss == free_run->loss && free_run->loss > 0);
        assert_memory_equal(planned_job->out, free_run->out, (size_t)(2 * rows[i] * WIDTH) * sizeof(float));
    }
    assert_int_equal(planned_strays(p), 0);
    assert_int_equal(w.dev->memory->in_use[LIFE_STEP], largest);
    planned_close(p);
    free(free_run);
    free(planned_job);
    world_close(&w);
}

/* With its scratch in the plan the device gives nothing but the block. */
static void scratch_is_planned(void **state)
{
    (void)state;
    world    w;
    planned *p;
    int64_t  rows = MOST;
    job     *j = heap_get(sizeof *j);
    world_open(&w);
    *j = (job){.world = &w, .rows = rows};
    assert_int_equal(planned_open(&p, w.dev), OK);
    assert_int_equal(planned_run(p, &rows, 1, step, j), OK);
    assert_int_equal(w.dev->memory->peak[LIFE_SCRATCH], 0);
    assert_int_equal(w.dev->memory->peak[LIFE_STEP], planned_block(p));
    planned_close(p);
    free(j);
    world_close(&w);
}

static void failures(void **state)
{
    (void)state;
    world    w;
    planned *p;
    int64_t  rows = 8;
    job     *j = heap_get(sizeof *j);
    world_open(&w);
    assert_int_equal(planned_open(&p, w.dev), OK);
    *j = (job){.world = &w, .rows = rows, .fail = E_NUMERIC};
    assert_int_equal(planned_run(p, &rows, 1, step, j), E_NUMERIC);
    j->fail = OK;
    assert_int_equal(planned_run(p, &rows, 1, step, j), OK);
    assert_int_equal(planned_strays(p), 0);
    j->more = true; /* what was not foreseen comes from the device, and is counted */
    float loss = j->loss;
    assert_int_equal(planned_run(p, &rows, 1, step, j), OK);
    assert_true(j->loss == loss);
    assert_true(planned_strays(p) > 0);
    planned_close(p);
    free(j);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits), cmocka_unit_test(scratch_is_planned), cmocka_unit_test(failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
