#include "autograd/calls.h"

#include <stdlib.h>
#include <string.h>

#include "autograd/calls_noted.h"

enum { PIECE = 1 << 20, ALIGNMENT = 64 };

typedef struct pinned_piece pinned_piece;
struct pinned_piece {
    pinned_piece *next;
    size_t        bytes;
    char         *memory;
};

/* ---- noting ---- */

static void *room_for(void *list, int64_t *room, int64_t count, size_t bytes)
{
    if (count < *room)
        return list;
    *room = *room ? 2 * *room : 256;
    void *more = heap_get((size_t)*room * bytes);
    if (count)
        memcpy(more, list, (size_t)count * bytes);
    free(list);
    return more;
}

void note_call(noting *n, call c)
{
    call_list *l = &n->list;
    l->call = room_for(l->call, &l->room[0], l->calls, sizeof *l->call);
    l->call[l->calls++] = c;
}

void note_value(noting *n, call_value v)
{
    call_list *l = &n->list;
    l->value = room_for(l->value, &l->room[1], l->values, sizeof *l->value);
    l->value[l->values++] = v;
}

void note_tensor(noting *n, const tensor *t)
{
    call_list *l = &n->list;
    l->tensor = room_for(l->tensor, &l->room[2], l->tensors, sizeof *l->tensor);
    call_tensor *to = &l->tensor[l->tensors++];
    memset(to, 0, sizeof *to); /* lists are compared as bytes */
    if (!t)
        return;
    to->data = t->data;
    to->type = (int32_t)t->type;
    to->ndim = t->ndim;
    to->layout = t->layout;
    to->there = 1;
    for (int i = 0; i < t->ndim; i++) {
        to->dim[i] = t->dim[i];
        to->stride[i] = t->stride[i];
    }
}

static err next_piece(noting *n, size_t bytes)
{
    pinned_piece **end = n->at ? &n->at->next : &n->piece;
    while (*end && (*end)->bytes < bytes)
        end = &(*end)->next;
    if (!*end) {
        size_t        size = bytes > PIECE ? bytes : PIECE;
        pinned_piece *made = heap_get(sizeof *made);
        void         *memory = NULL;
        err           e = n->to->capture->pin(n->to, &memory, size);
        if (e != OK) {
            free(made);
            return e;
        }
        *made = (pinned_piece){.bytes = size, .memory = memory};
        *end = made;
    }
    n->at = *end;
    n->used = 0;
    return OK;
}

err note_pinned(noting *n, void **out, size_t bytes)
{
    size_t size = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (!n->at || n->at->bytes - n->used < size)
        TRY(next_piece(n, size));
    *out = n->at->memory + n->used;
    n->used += size;
    return OK;
}

void note_download(noting *n, void *host, void *pinned, size_t bytes)
{
    n->download = room_for(n->download, &n->download_room, n->downloads, sizeof *n->download);
    n->download[n->downloads++] = (call_download){host, pinned, bytes};
}

/* ---- a step ---- */

static void restart(noting *n)
{
    n->list.calls = n->list.tensors = n->list.values = n->downloads = 0;
    n->at = NULL;
    n->used = 0;
}

void noting_begin(noting *n, device *dev)
{
    restart(n);
    n->over = false;
    dev->p = &noting_primitives;
    dev->state = n;
}

void noting_end(noting *n, device *dev)
{
    dev->p = n->to->p;
    dev->state = n->to->state;
}

err note_flush(noting *n)
{
    n->over = true;
    if (!n->list.calls)
        return OK;
    TRY(calls_run(&n->list, n->to));
    TRY(n->to->capture->wait(n->to));
    noting_deliver(n);
    restart(n);
    return OK;
}

void noting_deliver(const noting *n)
{
    for (int64_t i = 0; i < n->downloads; i++)
        memcpy(n->download[i].host, n->download[i].pinned, n->download[i].bytes);
}

void noting_free(noting *n)
{
    for (pinned_piece *p = n->piece, *next; p; p = next) {
        next = p->next;
        n->to->capture->unpin(n->to, p->memory);
        free(p);
    }
    calls_free(&n->list);
    free(n->download);
    *n = (noting){0};
}

/* ---- lists ---- */

static bool same_bytes(const void *a, const void *b, int64_t count, size_t bytes)
{
    return !count || !memcmp(a, b, (size_t)count * bytes);
}

bool calls_same(const call_list *a, const call_list *b)
{
    return a->calls == b->calls && a->tensors == b->tensors && a->values == b->values && a->place[0] == b->place[0] &&
           a->place[1] == b->place[1] &&
           same_bytes(a->call, b->call, a->calls, sizeof *a->call) &&
           same_bytes(a->value, b->value, a->values, sizeof *a->value) &&
           same_bytes(a->tensor, b->tensor, a->tensors, sizeof *a->tensor);
}

static void restore(tensor *t, const call_tensor *from, device *d)
{
    *t = (tensor){.name = "a step's tensor", .type = (dtype)from->type, .ndim = from->ndim, .layout = from->layout,
                  .dev = d, .data = from->data};
    memcpy(t->dim, from->dim, sizeof t->dim);
    memcpy(t->stride, from->stride, sizeof t->stride);
}

err calls_run(const call_list *list, device *d)
{
    const call_tensor *tensors = list->tensor;
    const call_value  *values = list->value;
    for (int64_t i = 0; i < list->calls; i++) {
        const call *c = &list->call[i];
        tensor      t[NOTED_TENSORS], *argument[NOTED_TENSORS] = {NULL};
        for (int64_t k = 0; k < c->tensors; k++) {
            restore(&t[k], &tensors[k], d);
            argument[k] = tensors[k].there ? &t[k] : NULL;
        }
        TRY(c->run(d, argument, values));
        tensors += c->tensors;
        values += c->values;
    }
    return OK;
}

void calls_free(call_list *list)
{
    free(list->call);
    free(list->tensor);
    free(list->value);
    *list = (call_list){0};
}
