/* The card's memory. Weights and states come from cudaMalloc and go back to it; blocks of steps and scratch are kept by
 * size, since one stream runs everything in order: what is given out again is not read any more. MSD_CUDA_MEMORY=direct
 * keeps none, so that what looks for uses of freed memory (compute-sanitizer, say) sees these too. */
#include <stdlib.h>
#include <string.h>

#include "autograd/cuda/cuda.h"
#include "base/memory_size.h"

enum { SUBCLASSES = 8, CLASS_COUNT = 64 * SUBCLASSES };

typedef struct free_block {
    struct free_block *next;
    void              *memory;
} free_block;

typedef struct cuda_allocator {
    allocator   face;
    int         index;
    bool        direct;
    free_block *kept[CLASS_COUNT], *spare; /* spare: of no memory, for the next that is kept */
    size_t      kept_bytes;
} cuda_allocator;

/* Rounds up to 1, 1.125, 1.25 ... x a power of two. */
static size_t class_size(size_t bytes, int *index)
{
    size_t wanted = bytes < CUDA_SCRATCH_ALIGNMENT ? CUDA_SCRATCH_ALIGNMENT : bytes;
    int power = 63 - __builtin_clzll((unsigned long long)wanted);
    size_t base = (size_t)1 << power, part = base / SUBCLASSES;
    size_t sub = (wanted - base + part - 1) / part;
    *index = power * SUBCLASSES + (int)sub;
    return base + sub * part;
}

static bool keeps(const cuda_allocator *c, lifetime life)
{
    return !c->direct && (life == LIFE_STEP || life == LIFE_SCRATCH);
}

/* Gives back to the card what is kept; errors show in the next call. */
static void trim(cuda_allocator *c)
{
    for (int i = 0; i < CLASS_COUNT; i++) {
        for (free_block *b = c->kept[i], *next; b; b = next) {
            next = b->next;
            cudaFree(b->memory);
            b->next = c->spare;
            c->spare = b;
        }
        c->kept[i] = NULL;
    }
    c->kept_bytes = 0;
}

static err refused(const cuda_allocator *c, size_t bytes)
{
    size_t have = 0, all = 0;
    if (cudaMemGetInfo(&have, &all) != cudaSuccess)
        cudaGetLastError();
    return err_set(E_MEMORY,
                   "cuda:%d: cannot get %zu MiB beside the %zu MiB in use: %zu of the card's %zu MiB are free; "
                   "lower the batch size, the resolution or the number of subjects, or set "
                   "train.activation_checkpointing: on",
                   c->index, cuda_mebibytes(bytes), c->face.total >> 20, have >> 20, all >> 20);
}

static err from_card(cuda_allocator *c, void **out, size_t size, size_t bytes)
{
    cudaError_t status = cudaMalloc(out, size);
    if (status == cudaErrorMemoryAllocation && c->kept_bytes) {
        cudaGetLastError();
        CUDA_TRY(cudaDeviceSynchronize());
        trim(c);
        status = cudaMalloc(out, size);
    }
    if (status == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        return refused(c, bytes);
    }
    return status == cudaSuccess ? OK : cuda_failed(status, "cudaMalloc");
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
    cuda_allocator *c = (cuda_allocator *)a;
    if (bytes > (size_t)1 << 47)
        return refused(c, bytes);
    int index;
    size_t size = class_size(bytes, &index);
    free_block *b = keeps(c, life) ? c->kept[index] : NULL;
    if (b) {
        *out = b->memory;
        c->kept[index] = b->next;
        c->kept_bytes -= size;
        b->next = c->spare;
        c->spare = b;
    } else {
        TRY(from_card(c, out, keeps(c, life) || !bytes ? size : bytes, bytes));
    }
    count_in(a, bytes, life);
    return OK;
}

static void put(allocator *a, void *memory, size_t bytes, lifetime life)
{
    cuda_allocator *c = (cuda_allocator *)a;
    CHECK(a->in_use[life] >= bytes, "%zu bytes of %s put back, %zu in use", bytes, lifetime_name(life),
          a->in_use[life]);
    a->in_use[life] -= bytes;
    a->total -= bytes;
    if (!keeps(c, life)) {
        cudaFree(memory); /* waits for what still reads it */
        return;
    }
    int index;
    c->kept_bytes += class_size(bytes, &index);
    free_block *b = c->spare;
    if (b)
        c->spare = b->next;
    else
        b = heap_get(sizeof *b);
    *b = (free_block){.next = c->kept[index], .memory = memory};
    c->kept[index] = b;
}

allocator *cuda_allocator_new(int index)
{
    const char     *how = getenv("MSD_CUDA_MEMORY");
    cuda_allocator *c = heap_get(sizeof *c);
    *c = (cuda_allocator){.face = {.get = get, .put = put}, .index = index, .direct = how && !strcmp(how, "direct")};
    return &c->face;
}

void cuda_allocator_free(allocator *a)
{
    cuda_allocator *c = (cuda_allocator *)a;
    if (!c)
        return;
    CHECK(a->total == 0, "allocator freed with %zu bytes in use", a->total);
    trim(c);
    for (free_block *b = c->spare, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(c);
}

/* ---- beside the allocator ---- */

err cuda_card_get(void **out, size_t bytes)
{
    cudaError_t status = cudaMalloc(out, bytes);
    if (status != cudaErrorMemoryAllocation)
        return status == cudaSuccess ? OK : cuda_failed(status, "cudaMalloc");
    size_t have = 0, all = 0;
    cudaGetLastError();
    if (cudaMemGetInfo(&have, &all) != cudaSuccess)
        cudaGetLastError();
    return err_set(E_MEMORY,
                   "cuda: cannot get %zu MiB: %zu of the card's %zu MiB are free; see nvidia-smi for who holds the rest",
                   cuda_mebibytes(bytes), have >> 20, all >> 20);
}

err cuda_pinned_get(void **out, size_t bytes)
{
    cudaError_t status = cudaMallocHost(out, bytes);
    if (status != cudaErrorMemoryAllocation)
        return status == cudaSuccess ? OK : cuda_failed(status, "cudaMallocHost");
    cudaGetLastError();
    return err_set(E_MEMORY,
                   "cuda: cannot get %zu MiB of pinned memory: the host has %zu MiB left; end other programs, or use "
                   "--device cpu",
                   cuda_mebibytes(bytes), (size_t)(memory_available() >> 20));
}

/* ---- scratch ---- */

err cuda_scratch_get(device *d, cuda_scratch *out, size_t bytes)
{
    *out = (cuda_scratch){0};
    if (!bytes)
        return OK;
    out->bytes = bytes + CUDA_SCRATCH_ALIGNMENT; /* plans align to less */
    TRY(d->memory->get(d->memory, &out->memory, out->bytes, LIFE_SCRATCH));
    uintptr_t at = (uintptr_t)out->memory, step = CUDA_SCRATCH_ALIGNMENT;
    out->data = (char *)out->memory + ((at + step - 1) / step * step - at);
    return OK;
}

void cuda_scratch_put(device *d, cuda_scratch *s)
{
    if (s->memory)
        d->memory->put(d->memory, s->memory, s->bytes, LIFE_SCRATCH);
    *s = (cuda_scratch){0};
}
