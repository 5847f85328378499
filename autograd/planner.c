#include "autograd/planner.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

static size_t rounded(size_t bytes)
{
    size_t wanted = bytes ? bytes : 1;
    return (wanted + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* ---- the largest live set ---- */

typedef struct event {
    int64_t at;
    bool    birth;
    size_t  bytes;
} event;

/* Deaths before births of the same moment: lifetimes are half open. */
static int earlier_first(const void *a, const void *b)
{
    const event *x = a, *y = b;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return (int)x->birth - (int)y->birth;
}

static err largest_live_set(size_t *out, const allocation *item, size_t count)
{
    event *all = heap_get((2 * count + 1) * sizeof *all);
    size_t live = 0, sum = 0;
    err    e = OK;
    *out = 0;
    for (size_t i = 0; i < count; i++) {
        CHECK(item[i].birth < item[i].death, "allocation %zu dies before it is born", i);
        all[2 * i] = (event){item[i].birth, true, rounded(item[i].bytes)};
        all[2 * i + 1] = (event){item[i].death, false, rounded(item[i].bytes)};
        if (item[i].bytes > SIZE_MAX - ALIGNMENT || __builtin_add_overflow(sum, rounded(item[i].bytes), &sum))
            e = err_set(E_MEMORY, "the allocations of a step together are more than any machine has");
    }
    if (e == OK && count)
        qsort(all, 2 * count, sizeof *all, earlier_first);
    for (size_t i = 0; e == OK && i < 2 * count; i++) {
        live = all[i].birth ? live + all[i].bytes : live - all[i].bytes;
        if (live > *out)
            *out = live;
    }
    free(all);
    return e;
}

/* ---- placing in one order ---- */

typedef struct candidate {
    double key[2]; /* descending */
    size_t index;
} candidate;

static int greater_first(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    for (int k = 0; k < 2; k++)
        if (x->key[k] != y->key[k])
            return x->key[k] > y->key[k] ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

enum { BY_SIZE, BY_AREA, BY_LIFETIME, BY_BIRTH, ORDER_COUNT };

static void order_items(candidate *out, const allocation *item, size_t count, int order)
{
    int64_t end = 0; /* of those that are put back */
    for (size_t i = 0; i < count; i++)
        if (item[i].death != PLAN_ALIVE && item[i].death > end)
            end = item[i].death;
    for (size_t i = 0; i < count; i++) {
        double size = (double)rounded(item[i].bytes);
        double length = (double)(item[i].death == PLAN_ALIVE ? end : item[i].death) - (double)item[i].birth;
        out[i].index = i;
        out[i].key[0] = order == BY_SIZE ? size : order == BY_AREA ? size * length
                      : order == BY_LIFETIME ? length : -(double)item[i].birth;
        out[i].key[1] = order == BY_SIZE ? length : size;
    }
    if (count)
        qsort(out, count, sizeof *out, greater_first);
}

typedef struct placed { /* ascending by offset */
    size_t  from, to;
    int64_t birth, death;
} placed;

/* Offset of the smallest gap between those alive with x that holds `bytes`, else above them all. */
static size_t find_place(const placed *at, size_t count, const allocation *x, size_t bytes)
{
    size_t top = 0, best = SIZE_MAX, best_gap = SIZE_MAX;
    for (size_t i = 0; i < count; i++) {
        if (at[i].birth >= x->death || x->birth >= at[i].death)
            continue;
        if (at[i].from > top && at[i].from - top >= bytes && at[i].from - top < best_gap) {
            best = top;
            best_gap = at[i].from - top;
        }
        if (at[i].to > top)
            top = at[i].to;
    }
    return best == SIZE_MAX ? top : best;
}

static void insert(placed *at, size_t count, placed p)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (at[middle].from <= p.from)
            low = middle + 1;
        else
            high = middle;
    }
    memmove(at + low + 1, at + low, (count - low) * sizeof *at);
    at[low] = p;
}

/* Gives up, with a peak of at least `limit`, as soon as it is clear that the order is no better. */
static size_t place_all(size_t *offset, placed *at, const candidate *order, const allocation *item, size_t count,
                        size_t limit)
{
    size_t peak = 0;
    for (size_t n = 0; n < count && peak < limit; n++) {
        const allocation *x = &item[order[n].index];
        size_t bytes = rounded(x->bytes), place = find_place(at, n, x, bytes);
        offset[order[n].index] = place;
        insert(at, n, (placed){.from = place, .to = place + bytes, .birth = x->birth, .death = x->death});
        if (place + bytes > peak)
            peak = place + bytes;
    }
    return peak;
}

err plan_make(memory_plan *out, const allocation *item, size_t count)
{
    *out = (memory_plan){.count = count};
    TRY(largest_live_set(&out->largest, item, count));
    size_t     room = count + 1;
    size_t    *attempt = heap_get(room * sizeof *attempt);
    placed    *at = heap_get(room * sizeof *at);
    candidate *order = heap_get(room * sizeof *order);
    out->item = heap_get(room * sizeof *out->item);
    out->offset = heap_get(room * sizeof *out->offset);
    if (count)
        memcpy(out->item, item, count * sizeof *item);
    out->peak = SIZE_MAX;
    for (int k = 0; k < ORDER_COUNT && out->peak > out->largest; k++) {
        order_items(order, item, count, k);
        size_t peak = place_all(attempt, at, order, item, count, out->peak);
        if (peak < out->peak) {
            out->peak = peak;
            memcpy(out->offset, attempt, count * sizeof *attempt);
        }
    }
    free(attempt);
    free(at);
    free(order);
    return OK;
}

void plan_free(memory_plan *p)
{
    free(p->item);
    free(p->offset);
    *p = (memory_plan){0};
}
