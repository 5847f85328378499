/* Activation checkpointing, as in Chen et al., "Training Deep Nets with Sublinear Memory Cost" (2016), a block at a time. */
#include <string.h>

#include "autograd/op.h"

/* A tensor that its scope has released since; the saved view kept its data. Returns whether it had been released. */
static bool revive(tensor *t, const tensor *kept)
{
    if (!t || t->mem)
        return false;
    t->mem = kept->mem;
    t->data = kept->data;
    return true;
}

static void let_go(tensor *t, bool revived)
{
    if (!revived)
        return;
    t->mem = NULL;
    t->data = NULL;
}

/* The block once more, now recorded, and its backward; both leave nothing behind but gradients. */
static err run_again(ag *g, op_call *c, const struct block *b)
{
    int     floor = (int)ag_tape_length(g), scope = ag_scope_open(g);
    op_again(g, true);
    tensor *y = b->f(g, b->user, c->in[0]);
    op_again(g, false);
    err     e = y ? op_backward_again(g, y, c->out->grad, floor) : ag_status(g);
    ag_scope_close(g, scope, NULL);
    return e;
}

static err recompute_backward(ag *g, op_call *c)
{
    const struct block *b = c->p.block;
    bool revived[AG_BLOCK_MAX_USED + 1];
    revived[b->count] = revive(c->in[0], c->saved[b->count]);
    for (int i = 0; i < b->count; i++)
        revived[i] = revive(b->used[i], c->saved[i]);
    err e = run_again(g, c, b);
    for (int i = 0; i < b->count; i++)
        let_go(b->used[i], revived[i]);
    let_go(c->in[0], revived[b->count]);
    return e;
}

static const op op_recompute = {.name = "recompute", .signature = "a block", .inputs = 1, .backward = recompute_backward};

const struct block *op_block(const op_call *c)
{
    return c->op == &op_recompute ? c->p.block : NULL;
}

static bool leads_to_training(const tensor *x, tensor *const *used, int count)
{
    bool needs = x->needs_grad;
    for (int i = 0; i < count; i++)
        needs = needs || (used[i] && used[i]->needs_grad);
    return needs;
}

tensor *ag_recompute(ag *g, ag_block f, const void *user, size_t bytes, tensor *x, tensor *const *used, int count)
{
    CHECK(count >= 0 && count <= AG_BLOCK_MAX_USED, "a block that uses %d tensors", count);
    if (!x || ag_status(g) != OK)
        return NULL;
    if (op_silent(g) || !leads_to_training(x, used, count))
        return f(g, user, x);
    struct block *b = ARENA_NEW(ag_arena(g), struct block);
    char         *kept = arena_get(ag_arena(g), bytes);
    memcpy(kept, user, bytes);
    *b = (struct block){.f = f, .user = kept, .count = count};
    int scope = ag_scope_open(g), noted = op_noted(g);
    op_silence(g, true);
    tensor *y = f(g, kept, x);
    op_silence(g, false);
    y = ag_scope_close(g, scope, y);
    if (!y)
        return NULL;
    CHECK(y != x && !y->needs_grad, "%s: a block gives a new tensor", y->name);
    op_attach_noted(g, b, noted);
    op_call *c = op_record_made(g, (op_call){.op = &op_recompute, .in = {x}, .p.block = b}, y);
    op_save(c, count, x);
    for (int i = 0; i < count; i++) {
        b->used[i] = used[i];
        op_save(c, i, used[i]);
    }
    return y;
}
