/* A whole training step in planned memory: the log comes from the meta device, the step on the CPU then runs from one
 * block and gives the same bits as without a plan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/meta/meta.h"
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

static void open_fixture(fixture *f, device *dev)
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
    assert_int_equal(optimizer_new(&f->optimizer, &f->memory, dev, f->list.trained, f->list.trained_count,
                                   (adamw){.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01}), OK);
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
    open_fixture(&f, meta);
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
    open_fixture(&f, cpu);
    float loss = step(&f);
    float *expected = gradients(&f, &count);
    measured = cpu->memory->peak[LIFE_STEP];
    assert_int_equal(counted, measured); /* the meta device's step is the CPU's */

    allocator *inner = cpu->memory, *planned;
    char *block = aligned_alloc(64, (p.peak + 63) / 64 * 64);
    planned_allocator_open(&planned, &p, block, inner);
    size_t scratch = inner->peak[LIFE_SCRATCH];
    cpu->memory = planned;
    for (int i = 0; i < 2; i++) {
        planned_allocator_restart(planned);
        assert_true(step(&f) == loss);
        float *found = gradients(&f, &again);
        assert_int_equal(again, count);
        assert_memory_equal(found, expected, count * sizeof *found);
        free(found);
    }
    assert_int_equal(planned->peak[LIFE_STEP], measured);
    cpu->memory = inner;
    printf("%zu allocations, largest live set %zu, plan %zu bytes (%.4f), scratch beside it %zu\n", p.count, p.largest,
           p.peak, (double)p.peak / (double)p.largest, scratch);
    assert_true((double)p.peak <= 1.05 * (double)p.largest);
    assert_int_equal(planned_allocator_strays(planned), 0);
    planned_allocator_close(planned);
    free(block);
    free(expected);
    plan_free(&p);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
