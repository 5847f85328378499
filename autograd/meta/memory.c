#include "autograd/meta/memory.h"

#include <stdlib.h>

enum { ALIGNMENT = 64 };
/* Beyond the user addresses of every 64-bit system: touching one of these faults. */
static const uintptr_t FIRST_ADDRESS = (uintptr_t)1 << 52, LAST_ADDRESS = (uintptr_t)1 << 60;

typedef struct meta_allocator {
    allocator       face;
    allocation_log *log;
    uintptr_t      *address; /* of each item of the log, ascending */
    size_t          room;
    uintptr_t       next;
    int64_t         now;
} meta_allocator;

static bool logged(lifetime life)
{
    return life == LIFE_STEP || life == LIFE_SCRATCH;
}

static void log_birth(meta_allocator *m, uintptr_t address, size_t bytes, lifetime life)
{
    if (m->log->count == m->room) {
        m->room = m->room ? 2 * m->room : 4096;
        m->log->item = heap_grow(m->log->item, m->room * sizeof *m->log->item);
        m->address = heap_grow(m->address, m->room * sizeof *m->address);
    }
    m->address[m->log->count] = address;
    m->log->item[m->log->count++] = (allocation){.bytes = bytes, .life = life, .birth = m->now, .death = PLAN_ALIVE};
}

static void log_death(meta_allocator *m, uintptr_t address)
{
    size_t low = 0, high = m->log->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (m->address[middle] < address)
            low = middle + 1;
        else
            high = middle;
    }
    CHECK(low < m->log->count && m->address[low] == address && m->log->item[low].death == PLAN_ALIVE,
          "put of address %zx, which is not alive", (size_t)address);
    m->log->item[low].death = m->now;
}

static err get(allocator *a, void **out, size_t bytes, lifetime life)
{
    meta_allocator *m = (meta_allocator *)a;
    if (bytes > LAST_ADDRESS - m->next)
        return err_set(E_MEMORY, "%zu bytes are more than any machine has", bytes);
    uintptr_t address = m->next;
    m->next += (bytes / ALIGNMENT + 1) * ALIGNMENT;
    if (logged(life))
        log_birth(m, address, bytes, life);
    m->now++;
    a->in_use[life] += bytes;
    a->total += bytes;
    if (a->in_use[life] > a->peak[life])
        a->peak[life] = a->in_use[life];
    if (a->total > a->total_peak)
        a->total_peak = a->total;
    *out = (void *)address;
    return OK;
}

static void put(allocator *a, void *memory, size_t bytes, lifetime life)
{
    meta_allocator *m = (meta_allocator *)a;
    CHECK(a->in_use[life] >= bytes, "%zu bytes of %s put back, %zu in use", bytes, lifetime_name(life),
          a->in_use[life]);
    if (logged(life))
        log_death(m, (uintptr_t)memory);
    m->now++;
    a->in_use[life] -= bytes;
    a->total -= bytes;
}

allocator *meta_allocator_new(allocation_log *log)
{
    meta_allocator *m = heap_get(sizeof *m);
    *m = (meta_allocator){.face = {.get = get, .put = put}, .log = log, .next = FIRST_ADDRESS};
    return &m->face;
}

void meta_allocator_free(allocator *a)
{
    meta_allocator *m = (meta_allocator *)a;
    if (!m)
        return;
    CHECK(a->total == 0, "allocator freed with %zu bytes in use", a->total);
    free(m->log->item);
    free(m->address);
    free(m);
}

void meta_allocator_reset(allocator *a)
{
    meta_allocator *m = (meta_allocator *)a;
    CHECK(a->in_use[LIFE_STEP] == 0 && a->in_use[LIFE_SCRATCH] == 0, "reset with %zu bytes of a step in use",
          a->in_use[LIFE_STEP] + a->in_use[LIFE_SCRATCH]);
    m->log->count = 0;
    m->now = 0;
    for (int life = 0; life < LIFETIME_COUNT; life++)
        a->peak[life] = a->in_use[life];
    a->total_peak = a->total;
}
