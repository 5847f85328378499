#include "autograd/completion.h"

#include <stdlib.h>

struct whole_event {
    tensor *leaf;
    int     at;    /* the call after whose turn it comes */
    int     first; /* the first call that reads the leaf */
    int     reads; /* calls that read it */
    bool    early; /* `first` does its weights' part then */
};

/* The tensor whose gradient belongs to a trainable input: itself, or the stack that it is rows of. NULL: it is none. */
static tensor *leaf_of(tensor *t)
{
    return t && t->needs_grad && !t->recorded ? (t->base ? t->base : t) : NULL;
}

/* ---- what blocks read in silence ---- */

void completion_note(completion *w, const op_call *c)
{
    for (int i = 0; i < c->op->inputs; i++) {
        tensor *leaf = leaf_of(c->in[i]);
        if (!leaf)
            continue;
        if (w->noted_count == w->noted_room) {
            w->noted_room = w->noted_room ? 2 * w->noted_room : 64;
            w->noted = heap_grow(w->noted, (size_t)w->noted_room * sizeof *w->noted);
        }
        w->noted[w->noted_count++] = leaf;
    }
}

void completion_attach(completion *w, arena *owner, struct block *b, int from)
{
    b->leaves = w->noted_count - from;
    b->leaf = ARENA_ARRAY(owner, tensor *, b->leaves);
    for (int i = 0; i < b->leaves; i++)
        b->leaf[i] = w->noted[from + i];
    w->noted_count = from;
}

/* ---- planning ---- */

typedef struct planning {
    completion *w;
    op_call   **tape;
    int        *reader; /* (count): the first call that reads the output of this one; 0: none */
    int         room;
} planning;

static void leaf_read(planning *p, tensor *leaf, int at)
{
    completion *w = p->w;
    if (leaf->watched) {
        w->event[leaf->watched - 1].reads++;
        return;
    }
    if (w->events == p->room) {
        p->room = p->room ? 2 * p->room : 64;
        w->event = heap_grow(w->event, (size_t)p->room * sizeof *w->event);
    }
    w->event[w->events++] = (whole_event){.leaf = leaf, .at = at, .first = at, .reads = 1};
    leaf->watched = w->events;
}

static void read_by(planning *p, tensor *t, int at)
{
    tensor *leaf = leaf_of(t);
    if (leaf)
        leaf_read(p, leaf, at);
    else if (t && t->recorded && t->watched && !p->reader[t->watched - 1])
        p->reader[t->watched - 1] = at;
}

static void meet(planning *p, int at)
{
    const op_call *c = p->tape[at];
    for (int i = 0; i < c->op->inputs; i++)
        read_by(p, c->in[i], at);
    const struct block *b = op_block(c);
    for (int i = 0; b && i < b->count; i++)
        read_by(p, b->used[i], at);
    for (int i = 0; b && i < b->leaves; i++)
        leaf_read(p, b->leaf[i], at);
    c->out->watched = at + 1;
}

/* Not for the input that the product multiplies: that is no parameter's gradient. */
static bool can_be_early(const planning *p, const whole_event *e)
{
    const op_call *c = p->tape[e->first];
    return e->reads == 1 && c->op->early && p->reader[e->first] && leaf_of(c->in[0]) != e->leaf;
}

static int by_turn(const void *a, const void *b)
{
    const whole_event *x = a, *y = b;
    return x->at != y->at ? (x->at < y->at) - (x->at > y->at) : (x->first < y->first) - (x->first > y->first);
}

void completion_plan(completion *w, op_call **tape, int count)
{
    w->events = w->next = 0;
    free(w->event);
    w->event = NULL;
    planning p = {.w = w, .tape = tape, .reader = heap_get((size_t)(count + 1) * sizeof *p.reader)};
    for (int i = 0; i < count; i++)
        p.reader[i] = 0;
    for (int i = 0; i < count; i++)
        meet(&p, i);
    for (int i = 0; i < w->events; i++) {
        whole_event *e = &w->event[i];
        e->early = can_be_early(&p, e);
        e->at = e->early ? p.reader[e->first] : e->first;
        e->leaf->watched = 0;
    }
    for (int i = 0; i < count; i++)
        tape[i]->out->watched = 0;
    free(p.reader);
    if (w->events)
        qsort(w->event, (size_t)w->events, sizeof *w->event, by_turn);
}

/* ---- backward ---- */

static err run_early(ag *g, op_call *c)
{
    bool reached = c->out->grad && !c->out->grad_fresh;
    if (c->early || !reached)
        return OK;
    c->early = true;
    return c->op->early(g, c);
}

err completion_after(completion *w, ag *g, op_call **tape, int at)
{
    while (w->next < w->events && w->event[w->next].at == at) {
        const whole_event *e = &w->event[w->next++];
        if (e->early)
            TRY(run_early(g, tape[e->first]));
        TRY(w->whole(w->user, e->leaf));
    }
    return OK;
}

void completion_reset(completion *w)
{
    w->whole = NULL;
    w->events = w->next = w->noted_count = 0;
}

void completion_free(completion *w)
{
    free(w->noted);
    free(w->event);
    *w = (completion){0};
}
