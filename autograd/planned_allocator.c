#include <stdlib.h>

#include "autograd/planner.h"

typedef struct planned_allocator {
    allocator   face;
    allocator  *inner;
    const memory_plan *plan;
    char       *block;
    size_t      next[LIFETIME_COUNT]; /* where in the plan the next get of that lifetime is looked for */
    bool        holds[LIFETIME_COUNT]; /* does the plan have allocations of that lifetime */
    size_t     *live;                 /* indices of the plan's allocations in use */
    size_t      lives;
    size_t      settled;              /* the first of those: got before the restart */
    int64_t     strays, outside;
} planned_allocator;

/* The next allocation of this lifetime in the plan; count when there is none left. */
static size_t foreseen(planned_allocator *p, lifetime life)
{
    size_t i = p->next[life];
    while (i < p->plan->count && p->plan->item[i].life != life)
        i++;
    p->next[life] = i < p->plan->count ? i + 1 : i;
    return i;
}

/* A step that differs from the planned one may hold tensors for longer: their places are not given out again. What was
 * got before the restart is as planned, and when its place is another's turn, as planned too, it does not yet hold anything. */
static bool place_free(const planned_allocator *p, size_t i)
{
    const memory_plan *plan = p->plan;
    size_t      from = plan->offset[i], to = from + plan->item[i].bytes;
    for (size_t n = p->settled; n < p->lives; n++) {
        size_t other = plan->offset[p->live[n]];
        if (from < other + plan->item[p->live[n]].bytes && other < to)
            return false;
    }
    return true;
}

static void count_in(allocator *a, size_t bytes, lifetime life)
{
    a->in_use[life] += bytes;
    a->total += bytes;
    if (a->in_use[life] > a->peak[life])
        a->peak[life] = a->in_use[life];
    if (a->total > a->total_peak)
        a->total_peak = a->total;
}

static err get(allocator *a, void **out, size_t bytes, lifetime life)
{
    planned_allocator *p = (planned_allocator *)a;
    size_t i = p->holds[life] ? foreseen(p, life) : p->plan->count;
    if (i < p->plan->count && p->plan->item[i].bytes == bytes && bytes && place_free(p, i)) {
        p->live[p->lives++] = i;
        *out = p->block + p->plan->offset[i];
    } else {
        TRY(p->inner->get(p->inner, out, bytes, life));
        p->strays += p->holds[life] && bytes;
        p->outside += bytes > 0;
    }
    count_in(a, bytes, life);
    return OK;
}

/* The live allocation at this place, newest first: lives when there is none. */
static size_t live_at(const planned_allocator *p, const void *memory)
{
    for (size_t n = p->lives; n-- > 0;)
        if (p->block + p->plan->offset[p->live[n]] == memory)
            return n;
    return p->lives;
}

static void forget(planned_allocator *p, size_t n)
{
    if (n < p->settled) {
        p->live[n] = p->live[--p->settled];
        n = p->settled;
    }
    p->live[n] = p->live[--p->lives];
}

static void put(allocator *a, void *memory, size_t bytes, lifetime life)
{
    planned_allocator *p = (planned_allocator *)a;
    CHECK(a->in_use[life] >= bytes, "%zu bytes of %s put back, %zu in use", bytes, lifetime_name(life),
          a->in_use[life]);
    size_t n = live_at(p, memory);
    if (n < p->lives)
        forget(p, n);
    else
        p->inner->put(p->inner, memory, bytes, life);
    a->in_use[life] -= bytes;
    a->total -= bytes;
}

void planned_allocator_open(allocator **out, const memory_plan *p, void *block, allocator *inner)
{
    planned_allocator *a = heap_get(sizeof *a);
    *a = (planned_allocator){.face = *inner, .inner = inner, .plan = p, .block = block,
                             .live = heap_get((p->count + 1) * sizeof *a->live)};
    a->face.get = get;
    a->face.put = put;
    for (size_t i = 0; i < p->count; i++)
        a->holds[p->item[i].life] = true;
    *out = &a->face;
}

void planned_allocator_restart(allocator *a)
{
    planned_allocator *p = (planned_allocator *)a;
    for (int life = 0; life < LIFETIME_COUNT; life++)
        p->next[life] = 0;
    p->settled = p->lives;
}

int64_t planned_allocator_strays(const allocator *a)
{
    return ((const planned_allocator *)a)->strays;
}

int64_t planned_allocator_outside(const allocator *a)
{
    return ((const planned_allocator *)a)->outside;
}

void planned_allocator_place(const void *place[2], const allocator *a)
{
    const planned_allocator *p = (const planned_allocator *)a;
    place[0] = p->plan;
    place[1] = p->block;
}

void planned_allocator_close(allocator *a)
{
    planned_allocator *p = (planned_allocator *)a;
    if (!p)
        return;
    CHECK(p->lives == 0, "plan closed with %zu of its allocations in use", p->lives);
    free(p->live);
    free(p);
}
