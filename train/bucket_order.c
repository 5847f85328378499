#include "train/bucket_order.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/philox.h"

static int64_t *numbers(int64_t count)
{
    int64_t *n = heap_get((size_t)(count ? count : 1) * sizeof *n);
    memset(n, 0, (size_t)count * sizeof *n);
    return n;
}

void bucket_order_open(bucket_order *o, uint64_t seed, int64_t group, const int *bucket, int64_t count, int buckets)
{
    CHECK(count >= 1 && group >= 1 && buckets >= 1, "%lld samples by %lld in %d buckets", (long long)count, (long long)group, buckets);
    int64_t most = count / group + 1 + buckets; /* ceil(x + y) - ceil(x) <= ceil(y) */
    *o = (bucket_order){.seed = seed, .group = group, .count = count, .buckets = buckets, .epoch = -1,
                        .start = numbers(buckets + 1), .member = numbers(count), .shuffled = numbers(count),
                        .shuffled_epoch = numbers(buckets), .bucket = heap_get((size_t)most * sizeof(int)), .turn = numbers(most)};
    for (int64_t i = 0; i < count; i++)
        o->start[bucket[i] + 1]++;
    for (int b = 0; b < buckets; b++)
        o->start[b + 1] += o->start[b];
    int64_t *filled = numbers(buckets);
    for (int64_t i = 0; i < count; i++)
        o->member[o->start[bucket[i]] + filled[bucket[i]]++] = i;
    for (int b = 0; b < buckets; b++)
        o->shuffled_epoch[b] = -1;
    free(filled);
}

void bucket_order_close(bucket_order *o)
{
    void *owned[] = {o->start, o->member, o->shuffled, o->shuffled_epoch, o->bucket, o->turn};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        free(owned[i]);
    *o = (bucket_order){0};
}

static int64_t members(const bucket_order *o, int bucket)
{
    return o->start[bucket + 1] - o->start[bucket];
}

/* Steps of a bucket, and of all of them, before epoch e. */
static int64_t bucket_steps_before(const bucket_order *o, int bucket, int64_t e)
{
    return (e * members(o, bucket) + o->group - 1) / o->group;
}

static int64_t steps_before(const bucket_order *o, int64_t e)
{
    int64_t steps = 0;
    for (int b = 0; b < o->buckets; b++)
        steps += bucket_steps_before(o, b, e);
    return steps;
}

/* The last epoch that begins at or before the step: steps_before(e) >= e count / group bounds it. */
static int64_t epoch_of(const bucket_order *o, int64_t step)
{
    int64_t low = 0, high = step * o->group / o->count;
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        if (steps_before(o, middle) <= step)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Fisher-Yates; the buckets' permutations have samples from 1, the order of steps has 0. */
static draw_key shuffle_key(const bucket_order *o, int64_t epoch, int sample)
{
    return (draw_key){.seed = o->seed, .purpose = DRAW_ORDER, .step = (uint64_t)epoch, .sample = (uint64_t)sample};
}

static void list_steps(bucket_order *o, int64_t epoch)
{
    o->epoch = epoch;
    o->first = steps_before(o, epoch);
    o->steps = 0;
    for (int b = 0; b < o->buckets; b++)
        for (int64_t k = bucket_steps_before(o, b, epoch); k < bucket_steps_before(o, b, epoch + 1); k++)
            o->bucket[o->steps++] = b;
    draw_key key = shuffle_key(o, epoch, 0);
    for (int64_t i = o->steps - 1; i > 0; i--) {
        int64_t j = (int64_t)draw_below(key, (uint64_t)i, (uint64_t)i + 1);
        int kept = o->bucket[i];
        o->bucket[i] = o->bucket[j];
        o->bucket[j] = kept;
    }
    int64_t *next = numbers(o->buckets);
    for (int b = 0; b < o->buckets; b++)
        next[b] = bucket_steps_before(o, b, epoch);
    for (int64_t i = 0; i < o->steps; i++)
        o->turn[i] = next[o->bucket[i]]++;
    free(next);
}

static const int64_t *permutation(bucket_order *o, int bucket, int64_t epoch)
{
    int64_t n = members(o, bucket), *to = o->shuffled + o->start[bucket];
    if (o->shuffled_epoch[bucket] == epoch)
        return to;
    memcpy(to, o->member + o->start[bucket], (size_t)n * sizeof *to);
    draw_key key = shuffle_key(o, epoch, 1 + bucket);
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)draw_below(key, (uint64_t)i, (uint64_t)i + 1), kept = to[i];
        to[i] = to[j];
        to[j] = kept;
    }
    o->shuffled_epoch[bucket] = epoch;
    return to;
}

int64_t bucket_order_at(int *bucket, bucket_order *o, int64_t position)
{
    int64_t step = position / o->group;
    if (o->epoch < 0 || step < o->first || step >= o->first + o->steps)
        list_steps(o, epoch_of(o, step));
    int64_t at = step - o->first, n;
    *bucket = o->bucket[at];
    n = members(o, *bucket);
    int64_t drawn = o->turn[at] * o->group + position % o->group;
    return permutation(o, *bucket, drawn / n)[drawn % n];
}
