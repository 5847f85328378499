#include "support_guard.h"

#include <stdlib.h>
#include <string.h>

enum { GUARD = 256, GUARD_BYTE = 0xA5, NAN_BYTE = 0xFF }; /* f32, bf16 and f16 of bytes 0xFF are NaN */

typedef struct block {
    struct block  *next;
    unsigned char *memory; /* GUARD bytes, the caller's, GUARD bytes */
    size_t         bytes;
} block;

typedef struct guard {
    allocator  face;
    allocator *inner;
    block     *out;
    int        damaged; /* among the blocks put back */
} guard;

static err get(allocator *a, void **out, size_t bytes, lifetime life)
{
    guard *g = (guard *)a;
    void  *memory = NULL;
    TRY(g->inner->get(g->inner, &memory, bytes + 2 * GUARD, life));
    block *b = heap_get(sizeof *b);
    *b = (block){g->out, memory, bytes};
    g->out = b;
    memset(b->memory, GUARD_BYTE, GUARD);
    memset(b->memory + GUARD, NAN_BYTE, bytes);
    memset(b->memory + GUARD + bytes, GUARD_BYTE, GUARD);
    a->in_use[life] += bytes;
    a->total += bytes;
    *out = b->memory + GUARD;
    return OK;
}

static bool intact(const block *b)
{
    for (int i = 0; i < GUARD; i++)
        if (b->memory[i] != GUARD_BYTE || b->memory[(size_t)GUARD + b->bytes + (size_t)i] != GUARD_BYTE)
            return false;
    return true;
}

static void put(allocator *a, void *memory, size_t bytes, lifetime life)
{
    guard  *g = (guard *)a;
    block **at = &g->out;
    while (*at && (*at)->memory + GUARD != (unsigned char *)memory)
        at = &(*at)->next;
    block *b = *at;
    CHECK(b && b->bytes == bytes, "%zu bytes put back that were not handed out so", bytes);
    g->damaged += !intact(b);
    *at = b->next;
    g->inner->put(g->inner, b->memory, bytes + 2 * GUARD, life);
    free(b);
    a->in_use[life] -= bytes;
    a->total -= bytes;
}

allocator *guard_new(allocator *inner)
{
    guard *g = heap_get(sizeof *g);
    *g = (guard){.face = {.get = get, .put = put}, .inner = inner};
    return &g->face;
}

allocator *guard_free(allocator *a)
{
    guard *g = (guard *)a;
    CHECK(!g->out, "%zu bytes were not put back", a->total);
    allocator *inner = g->inner;
    free(g);
    return inner;
}

int guard_damaged(allocator *a)
{
    const guard *g = (const guard *)a;
    int damaged = g->damaged;
    for (const block *b = g->out; b; b = b->next)
        damaged += !intact(b);
    return damaged;
}
