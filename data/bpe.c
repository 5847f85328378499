#include "data/bpe.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/error.h"

struct bpe_merge {
    int32_t left, right, rank, joined; /* left < 0: a free place */
};

/* The word as a linked list of tokens; a token that was joined to its left neighbour has id -1. */
typedef struct bpe_symbol {
    int32_t  id;
    uint32_t next; /* index; the word's size at the end */
    uint32_t previous;
} bpe_symbol;

/* A merge that may be done: by rank, then from the left. */
typedef struct bpe_waiting {
    int32_t  rank, joined;
    uint32_t at;
} bpe_waiting;

void token_list_add(token_list *l, int32_t id)
{
    if (l->count == l->capacity) {
        l->capacity = l->capacity ? 2 * l->capacity : 96;
        l->id = heap_grow(l->id, l->capacity * sizeof *l->id);
    }
    l->id[l->count++] = id;
}

void token_list_free(token_list *l)
{
    free(l->id);
    *l = (token_list){0};
}

static bpe_merge *place_of(const bpe *b, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    key = (key ^ key >> 31) * 0x9E3779B97F4A7C15u;
    size_t at = (size_t)(key >> 20) & (b->capacity - 1);
    while (b->merges[at].left >= 0 && (b->merges[at].left != left || b->merges[at].right != right))
        at = (at + 1) & (b->capacity - 1);
    return &b->merges[at];
}

void bpe_reserve(bpe *b, size_t merges)
{
    CHECK(merges < SIZE_MAX / 64, "%zu merges", merges);
    b->capacity = 16;
    while (b->capacity < 2 * merges)
        b->capacity *= 2;
    b->merges = heap_get(b->capacity * sizeof *b->merges);
    memset(b->merges, 0xFF, b->capacity * sizeof *b->merges);
}

void bpe_add(bpe *b, int32_t left, int32_t right, int32_t rank, int32_t joined)
{
    bpe_merge *m = place_of(b, left, right);
    if (m->left < 0)
        b->count++;
    CHECK(2 * b->count <= b->capacity, "%zu merges in %zu places", b->count, b->capacity);
    *m = (bpe_merge){left, right, rank, joined};
}

void bpe_free(bpe *b)
{
    free(b->merges);
    *b = (bpe){0};
}

void bpe_scratch_free(bpe_scratch *s)
{
    free(s->symbols);
    free(s->heap);
    *s = (bpe_scratch){0};
}

typedef struct queue {
    bpe_waiting *heap;
    size_t       count;
} queue;

static bool before(const bpe_waiting *a, const bpe_waiting *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void queue_put(queue *q, bpe_waiting w)
{
    size_t at = q->count++;
    while (at && before(&w, &q->heap[(at - 1) / 2])) {
        q->heap[at] = q->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    q->heap[at] = w;
}

static bpe_waiting queue_take(queue *q)
{
    bpe_waiting first = q->heap[0], last = q->heap[--q->count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= q->count)
            break;
        if (child + 1 < q->count && before(&q->heap[child + 1], &q->heap[child]))
            child++;
        if (!before(&q->heap[child], &last))
            break;
        q->heap[at] = q->heap[child];
        at = child;
    }
    q->heap[at] = last;
    return first;
}

/* Puts the merge of symbol `at` with its right neighbour into the queue, if there is one. */
static void consider(queue *q, const bpe *b, const bpe_symbol *symbols, uint32_t at, uint32_t size)
{
    uint32_t next = symbols[at].next;
    if (next >= size)
        return;
    const bpe_merge *m = place_of(b, symbols[at].id, symbols[next].id);
    if (m->left >= 0)
        queue_put(q, (bpe_waiting){m->rank, m->joined, at});
}

static void make_room(bpe_scratch *s, size_t size)
{
    if (s->symbol_room < size) {
        s->symbol_room = size;
        s->symbols = heap_grow(s->symbols, size * sizeof *s->symbols);
    }
    if (s->heap_room < 3 * size) { /* every pair at the start, and two for each merge */
        s->heap_room = 3 * size;
        s->heap = heap_grow(s->heap, 3 * size * sizeof *s->heap);
    }
}

/* Joins symbol `at` and its right neighbour. */
static void join(bpe_symbol *symbols, uint32_t at, int32_t joined, uint32_t size)
{
    uint32_t gone = symbols[at].next, next = symbols[gone].next;
    symbols[at].id = joined;
    symbols[at].next = next;
    symbols[gone].id = -1;
    if (next < size)
        symbols[next].previous = at;
}

void bpe_encode(token_list *out, bpe_scratch *scratch, const bpe *b, const uint8_t *word, size_t bytes)
{
    CHECK(bytes >= 1 && bytes < UINT32_MAX / 4, "word of %zu bytes", bytes);
    uint32_t size = (uint32_t)bytes;
    make_room(scratch, bytes);
    bpe_symbol *symbols = scratch->symbols;
    queue q = {.heap = scratch->heap};
    for (uint32_t i = 0; i < size; i++)
        symbols[i] = (bpe_symbol){i + 1 == size ? b->last_byte_id[word[i]] : b->byte_id[word[i]], i + 1, i - 1};
    for (uint32_t i = 0; i < size; i++)
        consider(&q, b, symbols, i, size);
    while (q.count) {
        bpe_waiting w = queue_take(&q);
        uint32_t next = symbols[w.at].next;
        if (symbols[w.at].id < 0 || next >= size)
            continue;
        const bpe_merge *m = place_of(b, symbols[w.at].id, symbols[next].id);
        if (m->left < 0 || m->joined != w.joined) /* a neighbour has changed since */
            continue;
        join(symbols, w.at, w.joined, size);
        consider(&q, b, symbols, w.at, size);
        if (w.at > 0)
            consider(&q, b, symbols, symbols[w.at].previous, size);
    }
    for (uint32_t i = 0; i < size; i = symbols[i].next)
        token_list_add(out, symbols[i].id);
}
