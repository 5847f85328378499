#include "autograd/replay.h"

#include <stdlib.h>

#include "autograd/planner.h"

enum { MOST = 64 }; /* lists that are remembered: shapes of a run, twice for gradients that are written or added to */

typedef struct replay {
    call_list list;
    captured *kept;    /* NULL: not yet, or */
    bool      refused; /* never */
    struct replay *next;
} replay;

struct replays {
    device  *to;
    noting   notes;
    replay  *first; /* the one used last */
    int      count;
    logger  *log;
    replay_counts counts;
};

static bool has_strays(const noting *n)
{
    return planned_allocator_strays(n->to->memory) > 0;
}

replays *replays_new(device *to)
{
    replays *r = heap_get(sizeof *r);
    *r = (replays){.to = to, .notes = {.to = to, .direct = has_strays}};
    return r;
}

static void free_replay(replays *r, replay *one)
{
    r->to->capture->drop(r->to, one->kept);
    calls_free(&one->list);
    free(one);
    r->count--;
}

bool replays_forget(replays *r)
{
    if (!r || !r->first)
        return false;
    for (replay *one = r->first, *next; one; one = next) {
        next = one->next;
        free_replay(r, one);
    }
    r->first = NULL;
    return true;
}

void replays_free(replays *r)
{
    if (!r)
        return;
    replays_forget(r);
    noting_free(&r->notes);
    free(r);
}

void replays_log(replays *r, logger *log)
{
    r->log = log;
}

void replays_begin(replays *r, device *dev)
{
    noting_begin(&r->notes, dev);
    planned_allocator_place(r->notes.list.place, r->to->memory);
}

void replays_abandon(replays *r, device *dev)
{
    noting_end(&r->notes, dev);
}

/* ---- remembering ---- */

/* The list that was noted, moved to the front; NULL: it is new. */
static replay *find(replays *r)
{
    for (replay **at = &r->first; *at; at = &(*at)->next) {
        replay *one = *at;
        if (!calls_same(&one->list, &r->notes.list))
            continue;
        *at = one->next;
        one->next = r->first;
        return r->first = one;
    }
    return NULL;
}

static void forget_last(replays *r)
{
    replay **at = &r->first;
    while ((*at)->next)
        at = &(*at)->next;
    replay *last = *at;
    *at = NULL;
    free_replay(r, last);
}

/* Takes the noted list over. */
static void remember(replays *r)
{
    replay *made = heap_get(sizeof *made);
    *made = (replay){.list = r->notes.list, .next = r->first};
    r->notes.list = (call_list){0};
    r->first = made;
    if (++r->count > MOST)
        forget_last(r);
}

/* ---- doing ---- */

static err finish(replays *r)
{
    TRY(r->to->capture->wait(r->to));
    noting_deliver(&r->notes);
    return OK;
}

static err do_plainly(replays *r, const call_list *list)
{
    r->counts.plain++;
    planned_allocator_restart(r->to->memory); /* scratch is taken in the order of the calls */
    TRY(calls_run(list, r->to));
    return finish(r);
}

/* Scratch that is not the plan's may be another's at the next launch. */
static err keep_calls(replay *one, device *to)
{
    int64_t outside = planned_allocator_outside(to->memory);
    planned_allocator_restart(to->memory);
    TRY(calls_run(&one->list, to));
    if (planned_allocator_outside(to->memory) > outside)
        return err_set(E_DEVICE, "a call takes memory that is not in the plan");
    return OK;
}

static void refuse(replays *r, replay *one)
{
    one->refused = true;
    if (!r->counts.refused++)
        log_info(r->log, "%s keeps no graph of this step, which is done call by call: %s", r->to->kind, err_message());
}

static void keep(replays *r, replay *one)
{
    const struct capture *c = r->to->capture;
    if (c->begin(r->to) != OK) {
        refuse(r, one);
        return;
    }
    if (keep_calls(one, r->to) != OK)
        refuse(r, one); /* for this reason, and not that the capture then ends badly */
    if (c->end(r->to, &one->kept) != OK && !one->refused)
        refuse(r, one);
    if (one->refused) {
        c->drop(r->to, one->kept);
        one->kept = NULL;
        return;
    }
    r->counts.kept++;
}

static err do_kept(replays *r, replay *one)
{
    if (!one->kept && !one->refused)
        keep(r, one);
    if (!one->kept)
        return do_plainly(r, &one->list);
    r->counts.replayed++;
    TRY(r->to->capture->launch(r->to, one->kept));
    return finish(r);
}

err replays_do(replays *r, device *dev)
{
    noting_end(&r->notes, dev);
    if (r->notes.over) {
        r->counts.plain++;
        return OK;
    }
    replay *one = find(r);
    if (one)
        return do_kept(r, one);
    TRY(do_plainly(r, &r->notes.list));
    remember(r);
    return OK;
}

replay_counts replays_count(const replays *r)
{
    return r ? r->counts : (replay_counts){0};
}
