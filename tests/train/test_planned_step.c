/* A whole training step in planned memory: the log comes from the meta device, the step on the CPU then runs from one
 * block and gives the same bits as without a plan; and with gradients that are in the plan too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/meta/meta.h"
#include "autograd/planned.h"
#include "data/counter.h"
#include "infer/random_networks.h"
#include "train/parameters.h"
#include "train/step.h"

enum { SIDE = 16, SUBJECTS = 2, TOKENS = 7, PICTURE_TOKENS = 65, PICTURE_WIDTH = 48 };

typedef struct fixture {
    device     *dev;
    arena       memory;
    unet        unet;
    ms_adapter  adapter;
    parameters  list;
    optimizer  *optimizer;
    step_models models;
    batch       batch;
    float       loss; /* of pass */
} fixture;

static float *numbers(fixture *f, const char *name, int64_t count)
{
    float *out = ARENA_ARRAY(&f->memory, float, count);
    counter_uniform(out, name, 0, count);
    return out;
}

static void make_batch(fixture *f)
{
    static float   boxes[] = {0.05f, 0.2f, 0.55f, 0.95f, 0.45f, 0.1f, 0.95f, 0.9f}, timesteps[] = {500.0f};
    static int32_t drop[] = {0};
    const unet_config *c = &f->unet.config;
    f->batch = (batch){.B = 1, .S = SUBJECTS, .h = SIDE, .w = SIDE, .C = c->in_channels, .T = TOKENS,
                       .X = c->text_width, .P = c->pooled_width, .L = PICTURE_TOKENS, .D = PICTURE_WIDTH, .E = 48,
                       .boxes = boxes, .timesteps = timesteps, .drop_grounding = drop};
    f->batch.latents = numbers(f, "latents", SIDE * SIDE * c->in_channels);
    f->batch.noise = numbers(f, "noise", SIDE * SIDE * c->in_channels);
    f->batch.text = numbers(f, "text", TOKENS * c->text_width);
    f->batch.pooled = numbers(f, "pooled", c->pooled_width);
    f->batch.time_ids = numbers(f, "time_ids", 6);
    f->batch.image_hidden = numbers(f, "image_hidden", SUBJECTS * PICTURE_TOKENS * PICTURE_WIDTH);
    f->batch.phrases = numbers(f, "phrases", SUBJECTS * 48);
}

static void open_optimizer(fixture *f, bool passing)
{
    adamw how = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .passing = passing};
    assert_int_equal(optimizer_new(&f->optimizer, &f->memory, f->dev, f->list.trained, f->list.trained_count, how), OK);
}

static void open_fixture(fixture *f, device *dev, bool passing)
{
    scheduler_config scheduler;
    load_target      to = {.owner = &f->memory, .dev = dev, .type = DT_F32};
    f->dev = dev;
    assert_int_equal(random_unet(&f->unet, &to, "tiny"), OK);
    resampler_sizes sizes = {.dim = 64, .depth = 2, .heads = 1, .queries = 4, .image_width = PICTURE_WIDTH,
                             .phrase_width = 48, .hidden_width = 128, .out_width = f->unet.config.text_width};
    assert_int_equal(adapter_new(&f->adapter, &f->memory, dev, &sizes, &f->unet, 0), OK);
    assert_int_equal(scheduler_config_load(&scheduler, NULL), OK);
    f->models = (step_models){.unet = &f->unet, .adapter = &f->adapter};
    noise_schedule_make(&f->models.schedule, &f->memory, &scheduler);
    parameters_list(&f->list, &f->memory, &f->adapter, NULL);
    open_optimizer(f, passing);
    make_batch(f);
}

static void close_fixture(fixture *f)
{
    optimizer_free(f->optimizer);
    adapter_release(&f->adapter);
    unet_release(&f->unet);
    assert_int_equal(f->dev->memory->total, 0);
    arena_free(&f->memory);
    device_close(f->dev);
}

static float step(fixture *f)
{
    float loss = 0;
    ag    *g = ag_new(f->dev);
    optimizer_begin(f->optimizer);
    if (train_step(&loss, NULL, g, &f->models, &f->batch, 1) != OK)
        fail_msg("%s", err_message());
    ag_free(g);
    return loss;
}

/* All gradients, one after the other; heap. */
static float *gradients(const fixture *f, size_t *count)
{
    float *out = NULL;
    *count = 0;
    for (int i = 0; i < f->list.trained_count; i++) {
        const tensor *t = f->list.trained[i].t;
        size_t        n = (size_t)tensor_count(t);
        out = heap_grow(out, (*count + n) * sizeof *out);
        assert_int_equal(tensor_download(out + *count, DT_F32, parameter_gradient(&f->list.trained[i])), OK);
        *count += n;
    }
    return out;
}

static void plan_of_step(memory_plan *p, size_t *step_peak)
{
    fixture f = {0};
    device *meta;
    assert_int_equal(device_open_meta(&meta, NULL), OK);
    open_fixture(&f, meta, false);
    meta_reset(meta);
    assert_true(step(&f) == 0);
    const meta_report *r = meta_report_of(meta);
    *step_peak = meta->memory->peak[LIFE_STEP];
    assert_int_equal(plan_make(p, r->log.item, r->log.count), OK);
    close_fixture(&f);
}

static void same_bits(void **state)
{
    (void)state;
    memory_plan p;
    size_t      counted, measured, count, again;
    plan_of_step(&p, &counted);
    fixture f = {0};
    device *cpu;
    assert_int_equal(device_open_cpu(&cpu, 2), OK);
    open_fixture(&f, cpu, false);
    float loss = step(&f);
    float *expected = gradients(&f, &count);
    measured = cpu->memory->peak[LIFE_STEP];
    assert_int_equal(counted, measured); /* the meta device's step is the CPU's */

    allocator *inner = cpu->memory, *block_memory;
    char *block = aligned_alloc(64, (p.peak + 63) / 64 * 64);
    planned_allocator_open(&block_memory, &p, block, inner);
    size_t scratch = inner->peak[LIFE_SCRATCH];
    cpu->memory = block_memory;
    for (int i = 0; i < 2; i++) {
        planned_allocator_restart(block_memory);
        assert_true(step(&f) == loss);
        float *found = gradients(&f, &again);
        assert_int_equal(again, count);
        assert_memory_equal(found, expected, count * sizeof *found);
        free(found);
    }
    assert_int_equal(block_memory->peak[LIFE_STEP], measured);
    cpu->memory = inner;
    printf("%zu allocations, largest live set %zu, plan %zu bytes (%.4f), scratch beside it %zu\n", p.count, p.largest,
           p.peak, (double)p.peak / (double)p.largest, scratch);
    assert_true((double)p.peak <= 1.05 * (double)p.largest);
    assert_int_equal(planned_allocator_strays(block_memory), 0);
    planned_allocator_close(block_memory);
    free(block);
    free(expected);
    plan_free(&p);
    close_fixture(&f);
}

/* ---- gradients of the step's memory ---- */

typedef struct two_steps { /* of training */
    float  loss[2];
    float *gradients;   /* of the second; heap */
    float *weights;     /* after it; heap */
    size_t count;       /* of either */
    size_t state, step; /* bytes: held between steps, the step's plan */
} two_steps;

static err pass(ag *g, void *user)
{
    fixture *f = user;
    float    loss = 0;
    optimizer_expect(f->optimizer, g);
    err e = train_step(&loss, NULL, g, &f->models, &f->batch, 1);
    optimizer_take(f->optimizer);
    if (ag_device(g)->dataless) {
        optimizer_drop(f->optimizer);
        optimizer_begin(f->optimizer);
    } else {
        f->loss = loss;
    }
    return e;
}

static void update(two_steps *out, fixture *f)
{
    double length = 0;
    free(out->gradients);
    out->gradients = gradients(f, &out->count);
    assert_int_equal(optimizer_norm(&length, f->optimizer), OK);
    assert_true(length > 0);
    assert_int_equal(optimizer_update(f->optimizer, length, 1.0, 1e-3), OK);
    optimizer_drop(f->optimizer);
}

static float *weights(const fixture *f, size_t count)
{
    float *out = heap_get(count * sizeof *out), *at = out;
    for (int i = 0; i < f->list.trained_count; i++) {
        assert_int_equal(tensor_download(at, DT_F32, f->list.trained[i].t), OK);
        at += tensor_count(f->list.trained[i].t);
    }
    return out;
}

static void take_two_steps(two_steps *out, bool passing)
{
    fixture  f = {0};
    planned *p;
    device  *cpu;
    assert_int_equal(device_open_cpu(&cpu, 2), OK);
    open_fixture(&f, cpu, passing);
    assert_int_equal(planned_open(&p, cpu), OK);
    for (int i = 0; i < 2; i++) {
        optimizer_begin(f.optimizer);
        assert_int_equal(planned_run(p, NULL, 0, pass, &f), OK);
        out->loss[i] = f.loss;
        update(out, &f);
    }
    out->weights = weights(&f, out->count);
    out->state = cpu->memory->in_use[LIFE_STATE];
    out->step = planned_block(p);
    assert_int_equal(planned_strays(p), 0);
    planned_close(p);
    close_fixture(&f);
}

/* Gradients that are made where activations no longer lie are those that have a place of their own, and so are the updates;
 * what is saved is most of their memory. */
static void gradients_pass(void **state)
{
    (void)state;
    two_steps stay = {0}, passing = {0};
    take_two_steps(&stay, false);
    take_two_steps(&passing, true);
    size_t bytes = stay.count * sizeof(float);
    assert_int_equal(passing.count, stay.count);
    assert_memory_equal(passing.loss, stay.loss, sizeof stay.loss);
    assert_true(stay.loss[1] < stay.loss[0]);
    assert_memory_equal(passing.gradients, stay.gradients, bytes);
    assert_memory_equal(passing.weights, stay.weights, bytes);
    assert_true(stay.state >= passing.state + bytes);
    printf("gradients %zu bytes; a step's memory %zu beside them, %zu with them in it\n", bytes, stay.step, passing.step);
    assert_true(passing.step < stay.step + bytes / 2);
    free(stay.gradients);
    free(stay.weights);
    free(passing.gradients);
    free(passing.weights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bits), cmocka_unit_test(gradients_pass)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
