/* The planner on 1,000 random graphs and on edge cases, the allocator that replays a plan, and the meta device's log of
 * a step against what the CPU's allocator counts for the same step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/ag.h"
#include "autograd/meta/meta.h"
#include "autograd/planner.h"

enum { GRAPHS = 1000, MAX_ITEMS = 160 };

static uint64_t draw(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static void no_overlap(const memory_plan *p)
{
    for (size_t i = 0; i < p->count; i++) {
        assert_int_equal(p->offset[i] % 64, 0);
        assert_true(p->offset[i] + p->item[i].bytes <= p->peak);
        for (size_t j = 0; j < i; j++) {
            bool together = p->item[i].birth < p->item[j].death && p->item[j].birth < p->item[i].death;
            bool share = p->offset[i] < p->offset[j] + p->item[j].bytes &&
                         p->offset[j] < p->offset[i] + p->item[i].bytes;
            assert_false(together && share);
        }
    }
}

/* A network run forward, its tensors kept for the backward or not, then backward: gradients come and go. */
static size_t random_graph(allocation *item, uint64_t *state)
{
    size_t  layers = 4 + draw(state) % 24, n = 0;
    int64_t now = 0, end = 1000000;
    size_t  kept[64] = {0};
    for (size_t l = 0; l < layers; l++) {
        size_t  width = 64 + draw(state) % 65536;
        size_t  parts = 1 + draw(state) % 3;
        for (size_t k = 0; k < parts; k++) {
            bool keep = draw(state) % 3 == 0;
            item[n] = (allocation){.bytes = width * (1 + draw(state) % 8), .life = LIFE_STEP, .birth = now++};
            item[n].death = keep ? 0 : now + 1 + (int64_t)(draw(state) % 5);
            kept[l] = keep ? n + 1 : kept[l];
            n++;
        }
    }
    for (size_t l = layers; l-- > 0;) {
        item[n] = (allocation){.bytes = 64 + draw(state) % 300000, .life = LIFE_STEP, .birth = now};
        item[n++].death = now + 2 + (int64_t)(draw(state) % 3);
        now += 2;
        if (kept[l])
            item[kept[l] - 1].death = now;
    }
    for (size_t i = 0; i < n; i++)
        if (!item[i].death)
            item[i].death = draw(state) % 8 ? now + 1 : draw(state) % 2 ? end : PLAN_ALIVE;
    return n;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void random_graphs(void **unused)
{
    (void)unused;
    static double     ratio[GRAPHS];
    static allocation item[MAX_ITEMS];
    uint64_t          state = 2024;
    for (int g = 0; g < GRAPHS; g++) {
        memory_plan p;
        size_t      n = random_graph(item, &state);
        assert_true(n <= MAX_ITEMS);
        assert_int_equal(plan_make(&p, item, n), OK);
        no_overlap(&p);
        assert_true(p.peak >= p.largest);
        ratio[g] = (double)p.peak / (double)p.largest;
        plan_free(&p);
    }
    qsort(ratio, GRAPHS, sizeof *ratio, ascending);
    printf("peak / largest live set: median %.4f, 95 %% %.4f, worst %.4f\n", ratio[GRAPHS / 2],
           ratio[GRAPHS * 95 / 100], ratio[GRAPHS - 1]);
    assert_true(ratio[GRAPHS / 2] <= 1.05);
}

static void edges(void **unused)
{
    (void)unused;
    memory_plan p;
    assert_int_equal(plan_make(&p, NULL, 0), OK);
    assert_int_equal(p.peak, 0);
    plan_free(&p);
    /* dies when the other is born: the same place; nothing of 0 bytes is shared either */
    allocation handed[] = {{100, LIFE_STEP, 0, 5}, {100, LIFE_STEP, 5, 9}, {0, LIFE_STEP, 0, PLAN_ALIVE}};
    assert_int_equal(plan_make(&p, handed, 3), OK);
    assert_int_equal(p.offset[0], p.offset[1]);
    assert_int_equal(p.peak, 128 + 64);
    plan_free(&p);
    allocation turned[] = {{100, LIFE_STEP, 5, 20}, {100, LIFE_STEP, 0, 5}}; /* the later one is placed first */
    assert_int_equal(plan_make(&p, turned, 2), OK);
    assert_int_equal(p.peak, 128);
    plan_free(&p);
    allocation huge[] = {{SIZE_MAX / 2 + 1, LIFE_STEP, 0, 5}, {SIZE_MAX / 2 + 1, LIFE_STEP, 0, 5}};
    assert_int_equal(plan_make(&p, huge, 2), E_MEMORY);
    plan_free(&p);
}

/* A get that the plan does not foresee goes to the inner allocator, and so does one whose place is still in use. */
static void strays(void **unused)
{
    (void)unused;
    device *cpu;
    assert_int_equal(device_open_cpu(&cpu, 1), OK);
    allocation  item[] = {{100, LIFE_STEP, 0, 2}, {100, LIFE_STEP, 2, 4}};
    memory_plan p;
    allocator  *a;
    void       *first, *second, *third, *weights;
    assert_int_equal(plan_make(&p, item, 2), OK);
    char       *block = aligned_alloc(64, (p.peak + 63) / 64 * 64);
    planned_allocator_open(&a, &p, block, cpu->memory);
    assert_int_equal(a->get(a, &weights, 1000, LIFE_WEIGHTS), OK);
    assert_int_equal(planned_allocator_strays(a), 0);
    assert_int_equal(a->get(a, &first, 100, LIFE_STEP), OK);
    assert_int_equal(a->get(a, &second, 100, LIFE_STEP), OK); /* planned for the place of first, which lives */
    assert_ptr_not_equal(first, second);
    assert_int_equal(planned_allocator_strays(a), 1);
    assert_int_equal(a->get(a, &third, 8, LIFE_STEP), OK); /* beyond the plan */
    assert_int_equal(planned_allocator_strays(a), 2);
    assert_int_equal(a->in_use[LIFE_STEP], 208);
    a->put(a, first, 100, LIFE_STEP);
    a->put(a, second, 100, LIFE_STEP);
    a->put(a, third, 8, LIFE_STEP);
    planned_allocator_restart(a);
    assert_int_equal(a->get(a, &second, 100, LIFE_STEP), OK);
    assert_ptr_equal(first, second);
    a->put(a, second, 100, LIFE_STEP);
    assert_int_equal(a->get(a, &second, 96, LIFE_STEP), OK); /* another size than planned */
    assert_int_equal(planned_allocator_strays(a), 3);
    a->put(a, second, 96, LIFE_STEP);
    a->put(a, weights, 1000, LIFE_WEIGHTS);
    assert_int_equal(a->total, 0);
    planned_allocator_close(a);
    free(block);
    plan_free(&p);
    device_close(cpu);
}

/* The calls of a noted step are done when its tensors have all been given places: scratch of an early call then gets the place
 * of a tensor that a later one makes and that outlives the step. */
static void kept_beyond_a_step(void **unused)
{
    (void)unused;
    device *cpu;
    assert_int_equal(device_open_cpu(&cpu, 1), OK);
    allocation  item[] = {{100, LIFE_SCRATCH, 0, 2}, {100, LIFE_STEP, 2, 8}, {100, LIFE_STEP, 3, 8}, {64, LIFE_SCRATCH, 4, 5}};
    memory_plan p;
    allocator  *a;
    void       *kept[2], *early, *late;
    assert_int_equal(plan_make(&p, item, 4), OK);
    assert_int_equal(p.offset[0], p.offset[1]);
    char *block = aligned_alloc(64, (p.peak + 63) / 64 * 64);
    planned_allocator_open(&a, &p, block, cpu->memory);
    assert_int_equal(a->get(a, &kept[0], 100, LIFE_STEP), OK);
    assert_int_equal(a->get(a, &kept[1], 100, LIFE_STEP), OK);
    planned_allocator_restart(a);
    assert_int_equal(a->get(a, &early, 100, LIFE_SCRATCH), OK);
    assert_ptr_equal(early, kept[0]);
    a->put(a, early, 100, LIFE_SCRATCH);
    assert_int_equal(a->get(a, &late, 64, LIFE_SCRATCH), OK);
    a->put(a, kept[0], 100, LIFE_STEP); /* the first of three, before scratch */
    a->put(a, late, 64, LIFE_SCRATCH);
    a->put(a, kept[1], 100, LIFE_STEP);
    assert_int_equal(planned_allocator_outside(a), 0);
    assert_int_equal(a->total, 0);
    planned_allocator_close(a);
    free(block);
    plan_free(&p);
    device_close(cpu);
}

/* ---- the meta device ---- */

/* y = silu(x w^T + b), loss = mse(y, 0), backward */
static err small_step(device *d, float *loss)
{
    static const float ones[64] = {1};
    arena   memory = {0};
    tensor *w = NULL, *b = NULL;
    assert_int_equal(tensor_new(&w, &memory, d, LIFE_STATE, "w", DT_F32, DIMS(8, 4)), OK);
    assert_int_equal(tensor_new(&b, &memory, d, LIFE_STATE, "b", DT_F32, DIMS(8)), OK);
    assert_int_equal(tensor_upload(w, ones, DT_F32), OK);
    assert_int_equal(tensor_upload(b, ones, DT_F32), OK);
    w->needs_grad = b->needs_grad = true;
    ag     *g = ag_new(d);
    tensor *x = ag_input(g, "x", DT_F32, DIMS(6, 4), ones, DT_F32);
    tensor *target = ag_input(g, "target", DT_F32, DIMS(6, 8), ones, DT_F32);
    tensor *mean = ag_mse(g, ag_silu(g, ag_linear(g, x, w, b, NULL)), target);
    err     e = ag_status(g);
    if (e == OK)
        e = tensor_download(loss, DT_F32, mean);
    if (e == OK)
        e = ag_backward(g, mean);
    ag_free(g);
    tensor_release(w);
    tensor_release(b);
    arena_free(&memory);
    return e;
}

static void meta_counts_a_step(void **unused)
{
    (void)unused;
    device *meta, *cpu;
    float   loss = 1;
    assert_int_equal(device_open_meta(&meta, NULL), OK);
    assert_int_equal(device_open_cpu(&cpu, 1), OK);
    assert_int_equal(small_step(meta, &loss), OK);
    assert_true(loss == 0);
    const meta_report *r = meta_report_of(meta);
    assert_int_equal(r->by_kind[META_LINEAR].calls, 2); /* forward, weight gradient; x needs none */
    assert_true(meta_multiply_adds(meta) == 2 * 6 * 4 * 8);
    assert_int_equal(small_step(cpu, &loss), OK);
    assert_true(loss > 0);
    for (int life = 0; life < LIFE_SCRATCH; life++)
        assert_int_equal(meta->memory->peak[life], cpu->memory->peak[life]);
    memory_plan p;
    assert_int_equal(plan_make(&p, r->log.item, r->log.count), OK);
    no_overlap(&p);
    for (size_t i = 0; i < p.count; i++)
        assert_true(p.item[i].death != PLAN_ALIVE);
    assert_true(p.peak >= meta->memory->peak[LIFE_STEP]);
    plan_free(&p);
    meta_reset(meta);
    assert_true(meta_multiply_adds(meta) == 0);
    assert_int_equal(r->log.count, 0);
    device_close(meta);
    device_close(cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_graphs), cmocka_unit_test(edges), cmocka_unit_test(strays), cmocka_unit_test(kept_beyond_a_step),
        cmocka_unit_test(meta_counts_a_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
