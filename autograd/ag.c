#include "autograd/ag.h"

#include <stdlib.h>
#include <string.h>

#include "autograd/completion.h"

typedef struct tensor_list {
    tensor **item;
    int      count, capacity;
} tensor_list;

struct ag {
    device     *dev;
    arena       nodes;    /* tensors' and calls' structs of this step */
    err         status;
    bool        again, result_next; /* a block is computed again; its last op comes next */
    bool        silent;   /* nothing is recorded: inside the forward of a block that will be computed again */
    op_call   **tape;
    int         taped, tape_capacity;
    tensor_list live;     /* step tensors whose reference the open scopes hold, oldest first */
    tensor_list borrowed; /* tensors from outside the graph that got a gradient buffer from it */
    arena      *keep;     /* of the structs of training state's gradients, which outlive the graph; NULL: they do not */
    completion  watch;
};

static void list_add(tensor_list *l, tensor *t)
{
    if (l->count == l->capacity) {
        l->capacity = l->capacity ? 2 * l->capacity : 256;
        l->item = heap_grow(l->item, (size_t)l->capacity * sizeof *l->item);
    }
    l->item[l->count++] = t;
}

ag *ag_new(device *dev)
{
    ag *g = heap_get(sizeof *g);
    *g = (ag){.dev = dev};
    return g;
}

void ag_free(ag *g)
{
    if (!g)
        return;
    ag_reset(g);
    arena_free(&g->nodes);
    free(g->tape);
    free(g->live.item);
    free(g->borrowed.item);
    completion_free(&g->watch);
    free(g);
}

static void release_call(op_call *c)
{
    for (int i = 0; i < OP_MAX_SAVED; i++)
        tensor_release(c->saved[i]);
    memset(c->saved, 0, sizeof c->saved);
    if (c->out->grad)
        tensor_release(c->out->grad);
}

void ag_reset(ag *g)
{
    for (int i = 0; i < g->taped; i++)
        release_call(g->tape[i]);
    g->taped = 0;
    for (int i = 0; i < g->live.count; i++)
        tensor_release(g->live.item[i]);
    g->live.count = 0;
    for (int i = 0; i < g->borrowed.count; i++) {
        tensor_release(g->borrowed.item[i]->grad);
        g->borrowed.item[i]->grad = NULL;
    }
    g->borrowed.count = 0;
    arena_reset(&g->nodes);
    completion_reset(&g->watch);
    g->silent = g->again = g->result_next = false;
    g->keep = NULL;
    g->status = OK;
}

err ag_status(const ag *g)
{
    return g->status;
}

err ag_fail(ag *g, err code)
{
    if (g->status == OK)
        g->status = code;
    return code;
}

device *ag_device(const ag *g)
{
    return g->dev;
}

arena *ag_arena(ag *g)
{
    return &g->nodes;
}

int64_t ag_tape_length(const ag *g)
{
    return g->taped;
}

int ag_scope_open(ag *g)
{
    return g->live.count;
}

tensor *ag_scope_close(ag *g, int scope, tensor *result)
{
    CHECK(scope >= 0 && scope <= g->live.count, "scope %d of %d live tensors", scope, g->live.count);
    bool inside = false;
    for (int i = scope; i < g->live.count; i++) {
        if (g->live.item[i] == result)
            inside = true;
        else
            tensor_release(g->live.item[i]);
    }
    g->live.count = scope;
    if (inside)
        list_add(&g->live, result);
    return result;
}

tensor *ag_input(ag *g, const char *name, dtype type, int ndim, const int64_t *dim, const void *host, dtype host_type)
{
    tensor *t = NULL;
    if (g->status != OK)
        return NULL;
    if (ag_fail(g, tensor_new(&t, &g->nodes, g->dev, LIFE_STEP, name, type, ndim, dim)) != OK)
        return NULL;
    list_add(&g->live, t);
    return ag_fail(g, tensor_upload(t, host, host_type)) == OK ? t : NULL;
}

/* ---- applying an op ---- */

static bool inputs_present(const ag *g, const op_call *c)
{
    for (int i = 0; i < c->op->inputs; i++) {
        if (c->in[i] || c->op->optional & (1u << i))
            continue;
        CHECK(g->status != OK, "%s: input %d is NULL", c->op->name, i);
        return false;
    }
    return g->status == OK;
}

static bool needs_gradient(const op_call *c)
{
    for (int i = 0; i < c->op->inputs; i++)
        if (c->in[i] && c->in[i]->needs_grad)
            return true;
    return false;
}

static err make_output(ag *g, op_call *c)
{
    tensor shape = {.type = c->in[0] ? c->in[0]->type : DT_F32};
    TRY(c->op->shape(c, &shape));
    if (c->op->view) {
        c->out = tensor_view(&g->nodes, c->in[0], c->op->name);
        tensor_set_shape(c->out, shape.ndim, shape.dim);
        c->out->base = c->in[0]->base ? c->in[0]->base : c->in[0];
    } else {
        TRY(tensor_new(&c->out, &g->nodes, g->dev, LIFE_STEP, c->op->name, shape.type, shape.ndim, shape.dim));
    }
    list_add(&g->live, c->out);
    return OK;
}

static void tape_add(ag *g, op_call *c)
{
    if (g->taped == g->tape_capacity) {
        g->tape_capacity = g->tape_capacity ? 2 * g->tape_capacity : 1024;
        g->tape = heap_grow(g->tape, (size_t)g->tape_capacity * sizeof *g->tape);
    }
    g->tape[g->taped++] = c;
}

tensor *ag_apply(ag *g, op_call call)
{
    if (!inputs_present(g, &call))
        return NULL;
    call.owner = &g->nodes;
    call.records = !g->silent && needs_gradient(&call);
    call.spared = g->result_next && g->again;
    g->result_next = false;
    CHECK(!call.records || call.op->backward, "op %s has no backward but an input needs a gradient", call.op->name);
    op_call *c = &call;
    if (g->silent && g->watch.whole)
        completion_note(&g->watch, c);
    if (call.records) {
        c = ARENA_NEW(&g->nodes, op_call);
        *c = call;
    }
    if (ag_fail(g, make_output(g, c)) != OK)
        return NULL;
    c->out->needs_grad = c->out->recorded = c->records;
    if (c->records)
        tape_add(g, c); /* before forward: a failing forward must not leak what it saved */
    if (ag_fail(g, c->op->forward(g, c)) != OK)
        return NULL;
    if (c->op->view) /* the forward has moved the data */
        c->out->offset = c->in[0]->offset + ((const char *)c->out->data - (const char *)c->in[0]->data) /
                                                (int64_t)dtype_bytes(c->out->type);
    return c->out;
}

void op_save(op_call *c, int slot, tensor *t)
{
    CHECK(slot >= 0 && slot < OP_MAX_SAVED && !c->saved[slot], "%s: slot %d", c->op->name, slot);
    if (c->records && t)
        c->saved[slot] = tensor_view(c->owner, t, t->name);
}

err op_extra(ag *g, op_call *c, int slot, const char *name, dtype type, int ndim, const int64_t *dim, tensor **out)
{
    TRY(tensor_new(out, &g->nodes, g->dev, LIFE_STEP, name, type, ndim, dim));
    list_add(&g->live, *out);
    op_save(c, slot, *out);
    return OK;
}

/* ---- backward ---- */

static bool is_state(const tensor *t)
{
    return t->mem && t->mem->life == LIFE_STATE;
}

static bool is_kept(const ag *g, const tensor *t)
{
    return g->keep && !t->recorded && is_state(t);
}

static err make_grad(ag *g, tensor *t)
{
    if (t->grad)
        return OK;
    dtype type = is_state(t) ? DT_F32 : t->type; /* sums over a step need all their bits */
    arena *owner = is_kept(g, t) ? g->keep : &g->nodes;
    TRY(tensor_new(&t->grad, owner, g->dev, LIFE_STEP, t->name, type, t->ndim, t->dim));
    t->grad_fresh = true;
    if (!t->recorded && !is_kept(g, t))
        list_add(&g->borrowed, t);
    return OK;
}

static bool in_base(const tensor *t)
{
    return t->base && t->grad && t->base->grad && t->grad->mem == t->base->grad->mem;
}

/* A view's gradient as part of its base's, which becomes 0 first where the view is not all of it. */
static err share_grad(ag *g, tensor *t, bool *add)
{
    tensor *base = t->base;
    TRY(make_grad(g, base));
    *add = true;
    if (base->grad_fresh && tensor_count(t) == tensor_count(base))
        *add = false;
    else if (base->grad_fresh)
        TRY(g->dev->p->fill(g->dev, base->grad, 0.0f));
    base->grad_fresh = false;
    if (!t->grad)
        t->grad = tensor_grad_view(&g->nodes, t);
    t->grad_fresh = false;
    return OK;
}

static err find_grad(ag *g, op_call *c, int i, tensor **grad, bool *add, bool strided)
{
    tensor *t = c->in[i];
    *grad = NULL;
    *add = false;
    if (!t || !t->needs_grad)
        return OK;
    if (t->base && t->recorded && (in_base(t) || (!t->grad && (strided || tensor_contiguous(t))))) {
        TRY(share_grad(g, t, add));
    } else {
        TRY(make_grad(g, t));
        *add = !t->grad_fresh;
        t->grad_fresh = false;
    }
    *grad = t->grad;
    CHECK(strided || tensor_contiguous(*grad), "%s: a strided gradient for an op that writes densely", t->name);
    return OK;
}

err op_grad(ag *g, op_call *c, int i, tensor **grad, bool *add)
{
    return find_grad(g, c, i, grad, add, false);
}

err op_grad_strided(ag *g, op_call *c, int i, tensor **grad, bool *add)
{
    return find_grad(g, c, i, grad, add, true);
}

bool op_grad_shared(const op_call *c)
{
    return in_base(c->out);
}

/* A call leaves the tape when its backward is done; what its backward itself records is gone by then. */
static err backward_down_to(ag *g, int floor)
{
    while (g->taped > floor) {
        op_call *c = g->tape[g->taped - 1];
        bool reached = c->out->grad && !c->out->grad_fresh;
        err e = reached ? c->op->backward(g, c) : OK;
        if (e != OK)
            return ag_fail(g, e);
        release_call(c);
        g->taped--;
        if (!floor && g->watch.whole)
            TRY(ag_fail(g, completion_after(&g->watch, g, g->tape, g->taped)));
    }
    return OK;
}

err ag_backward_seeded(ag *g)
{
    TRY(g->status);
    if (g->watch.whole)
        completion_plan(&g->watch, g->tape, g->taped);
    return backward_down_to(g, 0);
}

void ag_watch(ag *g, ag_whole whole, void *user)
{
    g->watch.whole = whole;
    g->watch.user = user;
}

void ag_keep_gradients(ag *g, arena *owner)
{
    g->keep = owner;
}

void ag_silence(ag *g)
{
    g->silent = true;
}

void ag_result_next(ag *g)
{
    g->result_next = true;
}

void op_again(ag *g, bool again)
{
    g->again = again;
}

int op_noted(const ag *g)
{
    return g->watch.noted_count;
}

void op_attach_noted(ag *g, struct block *b, int from)
{
    completion_attach(&g->watch, &g->nodes, b, from);
}

bool op_silent(const ag *g)
{
    return g->silent;
}

void op_silence(ag *g, bool silent)
{
    g->silent = silent;
}

op_call *op_record_made(ag *g, op_call call, tensor *out)
{
    op_call *c = ARENA_NEW(&g->nodes, op_call);
    *c = call;
    c->owner = &g->nodes;
    c->records = true;
    c->out = out;
    out->needs_grad = out->recorded = true;
    tape_add(g, c);
    return c;
}

err op_backward_again(ag *g, tensor *y, tensor *dy, int floor)
{
    TRY(g->status);
    CHECK(y->recorded && !y->grad, "%s: not what a block computed again gives", y->name);
    y->grad = tensor_view(&g->nodes, dy, dy->name);
    return backward_down_to(g, floor);
}

err ag_backward(ag *g, tensor *loss)
{
    TRY(g->status);
    CHECK(tensor_count(loss) == 1 && loss->type == DT_F32, "backward needs an f32 scalar, got %s of %s",
          tensor_shape_text(&g->nodes, loss), dtype_name(loss->type));
    if (!loss->needs_grad)
        return OK;
    if (!loss->grad)
        TRY(ag_fail(g, tensor_new(&loss->grad, &g->nodes, g->dev, LIFE_STEP, "dloss", DT_F32, loss->ndim, loss->dim)));
    loss->grad_fresh = false;
    TRY(ag_fail(g, g->dev->p->fill(g->dev, loss->grad, 1.0f)));
    return ag_backward_seeded(g);
}
