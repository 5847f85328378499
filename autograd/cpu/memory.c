#include "autograd/cpu/memory.h"

#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#define CACHE_BLOCKS 0 /* let the sanitizer see every release */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CACHE_BLOCKS 0
#endif
#endif
#ifndef CACHE_BLOCKS
#define CACHE_BLOCKS 1
#endif

enum { ALIGNMENT = 64, SUBCLASSES = 8, CLASS_COUNT = 64 * SUBCLASSES };
static const size_t CACHE_FLOOR = (size_t)64 << 20; /* bytes that may always stay cached */

typedef struct free_block {
    struct free_block *next;
} free_block;

typedef struct cpu_allocator {
    allocator   face;
    free_block *cache[CLASS_COUNT];
    size_t      cached; /* bytes */
} cpu_allocator;

/* Rounds up to 1, 1.125, 1.25 ... x a power of two: at most 12.5 % is lost. */
static size_t class_size(size_t bytes, int *index)
{
    size_t wanted = bytes < ALIGNMENT ? ALIGNMENT : bytes;
    int power = 63 - __builtin_clzll((unsigned long long)wanted);
    size_t base = (size_t)1 << power, part = base / SUBCLASSES;
    size_t sub = (wanted - base + part - 1) / part;
    *index = power * SUBCLASSES + (int)sub;
    size_t size = base + sub * part;
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

void cpu_allocator_trim(allocator *a)
{
    cpu_allocator *c = (cpu_allocator *)a;
    for (int i = 0; i < CLASS_COUNT; i++) {
        for (free_block *b = c->cache[i], *next; b; b = next) {
            next = b->next;
            free(b);
        }
        c->cache[i] = NULL;
    }
    c->cached = 0;
}

static bool caches(lifetime life)
{
    return CACHE_BLOCKS && (life == LIFE_STEP || life == LIFE_SCRATCH);
}

static err refused(const allocator *a, size_t bytes)
{
    return err_set(E_MEMORY, "cannot get %zu MiB of memory beside the %zu MiB in use; lower the batch size, the "
                             "resolution or the number of subjects", (bytes >> 20) + 1, a->total >> 20);
}

static err get(allocator *a, void **out, size_t bytes, lifetime life)
{
    cpu_allocator *c = (cpu_allocator *)a;
    if (bytes > (size_t)1 << 47)
        return refused(a, bytes);
    int index;
    size_t size = class_size(bytes, &index);
    free_block *b = caches(life) ? c->cache[index] : NULL;
    if (b) {
        c->cache[index] = b->next;
        c->cached -= size;
    } else {
        if (c->cached > CACHE_FLOOR && c->cached > c->face.total)
            cpu_allocator_trim(a);
        if (!caches(life))
            size = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        b = aligned_alloc(ALIGNMENT, size ? size : ALIGNMENT);
        if (!b) {
            cpu_allocator_trim(a);
            b = aligned_alloc(ALIGNMENT, size ? size : ALIGNMENT);
        }
        if (!b)
            return refused(a, bytes);
    }
    a->in_use[life] += bytes;
    a->total += bytes;
    if (a->in_use[life] > a->peak[life])
        a->peak[life] = a->in_use[life];
    if (a->total > a->total_peak)
        a->total_peak = a->total;
    *out = b;
    return OK;
}

static void put(allocator *a, void *memory, size_t bytes, lifetime life)
{
    cpu_allocator *c = (cpu_allocator *)a;
    CHECK(a->in_use[life] >= bytes, "%zu bytes of %s put back, %zu in use", bytes, lifetime_name(life), a->in_use[life]);
    a->in_use[life] -= bytes;
    a->total -= bytes;
    if (!caches(life)) {
        free(memory);
        return;
    }
    int index;
    c->cached += class_size(bytes, &index);
    free_block *b = memory;
    b->next = c->cache[index];
    c->cache[index] = b;
}

allocator *cpu_allocator_new(void)
{
    cpu_allocator *c = heap_get(sizeof *c);
    *c = (cpu_allocator){.face = {.get = get, .put = put}};
    return &c->face;
}

void cpu_allocator_free(allocator *a)
{
    if (!a)
        return;
    CHECK(a->total == 0, "allocator freed with %zu bytes in use", a->total);
    cpu_allocator_trim(a);
    free(a);
}
