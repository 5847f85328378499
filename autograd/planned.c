#include "autograd/planned.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/meta/meta.h"
#include "autograd/planner.h"

typedef struct entry {
    planned_step step;
    int          keys;
    int64_t      key[PLANNED_MAX_KEYS];
    memory_plan  plan;
    struct entry *next;
} entry;

struct planned {
    device *dev, *meta;
    device  face;       /* dev, whose memory is the plan of the step that runs or ran last */
    device  direct;     /* the same for calls that face's were noted for */
    replays *replays;   /* NULL: dev keeps no calls */
    ag     *graph, *dry;
    entry  *first;
    void   *block;
    size_t  bytes;
    int64_t strays;
};

err planned_open(planned **out, device *dev)
{
    device *meta;
    *out = NULL;
    TRY(device_open_meta(&meta, dev));
    planned *p = heap_get(sizeof *p);
    *p = (planned){.dev = dev, .meta = meta, .face = *dev, .direct = *dev, .dry = ag_new(meta)};
    p->graph = ag_new(&p->face);
    if (dev->capture && !dev->dataless)
        p->replays = replays_new(&p->direct);
    *out = p;
    return OK;
}

/* What the last step left is to be given back by now. */
static void end_step(planned *p)
{
    if (p->face.memory == p->dev->memory)
        return;
    planned_allocator_close(p->face.memory);
    p->face.memory = p->direct.memory = p->dev->memory;
}

static void give_block(planned *p)
{
    end_step(p);
    if (p->block)
        p->dev->memory->put(p->dev->memory, p->block, p->bytes, LIFE_STEP);
    p->block = NULL;
    p->bytes = 0;
}

void planned_close(planned *p)
{
    if (!p)
        return;
    replays_free(p->replays);
    ag_free(p->graph);
    ag_free(p->dry);
    give_block(p);
    for (entry *e = p->first, *next; e; e = next) {
        next = e->next;
        plan_free(&e->plan);
        free(e);
    }
    device_close(p->meta);
    free(p);
}

static entry *find(const planned *p, const int64_t *key, int keys, planned_step step)
{
    for (entry *e = p->first; e; e = e->next)
        if (e->step == step && e->keys == keys && (!keys || !memcmp(e->key, key, (size_t)keys * sizeof *key)))
            return e;
    return NULL;
}

static err make_entry(entry **out, planned *p, const int64_t *key, int keys, planned_step step, void *user)
{
    meta_reset(p->meta);
    err e = step(p->dry, user);
    if (e == OK)
        e = ag_status(p->dry);
    ag_reset(p->dry);
    TRY(e);
    memory_plan plan;
    const meta_report *r = meta_report_of(p->meta);
    TRY(plan_make(&plan, r->log.item, r->log.count));
    entry *made = heap_get(sizeof *made);
    *made = (entry){.step = step, .keys = keys, .plan = plan, .next = p->first};
    if (keys)
        memcpy(made->key, key, (size_t)keys * sizeof *key);
    p->first = *out = made;
    return OK;
}

static err entry_of(entry **out, planned *p, const int64_t *key, int keys, planned_step step, void *user)
{
    CHECK(keys >= 0 && keys <= PLANNED_MAX_KEYS, "a key of %d numbers", keys);
    *out = find(p, key, keys, step);
    return *out ? OK : make_entry(out, p, key, keys, step, user);
}

err planned_foresee(size_t *bytes, planned *p, const int64_t *key, int keys, planned_step step, void *user)
{
    entry *e;
    TRY(entry_of(&e, p, key, keys, step, user));
    *bytes = e->plan.peak;
    return OK;
}

/* One block for all steps: it grows to the largest that ran. */
static err take_block(planned *p, size_t bytes)
{
    end_step(p);
    if (bytes <= p->bytes)
        return OK;
    if (p->block)
        replays_forget(p->replays);
    give_block(p);
    err e = p->dev->memory->get(p->dev->memory, &p->block, bytes, LIFE_STEP);
    if (e == E_MEMORY && replays_forget(p->replays))
        e = p->dev->memory->get(p->dev->memory, &p->block, bytes, LIFE_STEP);
    if (e != OK) {
        p->block = NULL;
        return e;
    }
    p->bytes = bytes;
    return OK;
}

static err do_step(planned *p, planned_step step, void *user)
{
    err result = step(p->graph, user);
    if (result == OK)
        result = ag_status(p->graph);
    ag_reset(p->graph);
    return result;
}

static err run_noted(planned *p, planned_step step, void *user)
{
    replays_begin(p->replays, &p->face);
    err result = do_step(p, step, user);
    if (result == OK)
        return replays_do(p->replays, &p->face);
    replays_abandon(p->replays, &p->face);
    return result;
}

static err run_in_plan(planned *p, const int64_t *key, int keys, planned_step step, void *user, bool noted)
{
    entry     *e;
    allocator *memory;
    if (p->dev->dataless) /* itself a plan in the making */
        return do_step(p, step, user);
    TRY(entry_of(&e, p, key, keys, step, user));
    TRY(take_block(p, e->plan.peak));
    planned_allocator_open(&memory, &e->plan, p->block, p->dev->memory);
    p->face.memory = p->direct.memory = memory;
    err result = noted ? run_noted(p, step, user) : do_step(p, step, user);
    p->strays += planned_allocator_strays(memory);
    return result;
}

err planned_run(planned *p, const int64_t *key, int keys, planned_step step, void *user)
{
    return run_in_plan(p, key, keys, step, user, false);
}

err planned_replay(planned *p, const int64_t *key, int keys, planned_step step, void *user)
{
    return run_in_plan(p, key, keys, step, user, p->replays != NULL);
}

void planned_log(planned *p, logger *log)
{
    if (p->replays)
        replays_log(p->replays, log);
}

replay_counts planned_replays(const planned *p)
{
    return replays_count(p->replays);
}

void planned_tell(const planned *p, logger *log)
{
    replay_counts n = planned_replays(p);
    if (n.replayed + n.plain)
        log_info(log, "%s graphs: %" PRId64 " of %" PRId64 " steps launched whole, as %" PRId64 " graph%s", p->dev->kind,
                 n.replayed, n.replayed + n.plain, n.kept, n.kept == 1 ? "" : "s");
}

void planned_rest(planned *p)
{
    give_block(p);
}

size_t planned_block(const planned *p)
{
    return p->bytes;
}

int64_t planned_strays(const planned *p)
{
    return p->strays;
}
