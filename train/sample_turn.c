#include "train/sample_turn.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/philox.h"
#include "train/bucket_order.h"

struct sample_turns {
    const run_config *config;
    pthread_mutex_t   ordering; /* of the two orders */
    sample_order      plain;
    bucket_order      buckets;
    int              *bucket;   /* (dataset); NULL: no buckets */
    int64_t           per_step;
};

sample_turns *sample_turns_open(const run_config *c, const manifest *dataset, int ranks)
{
    sample_turns *t = heap_get(sizeof *t);
    *t = (sample_turns){.config = c, .per_step = c->train.batch_size * c->train.accumulation * ranks};
    pthread_mutex_init(&t->ordering, NULL);
    if (!c->data.buckets) {
        sample_order_open(&t->plain, (uint64_t)c->train.seed, dataset->count);
        return t;
    }
    t->bucket = heap_get((size_t)dataset->count * sizeof *t->bucket);
    for (int64_t i = 0; i < dataset->count; i++)
        if (sample_view_bucket(&t->bucket[i], &dataset->sample[i], c) != OK)
            t->bucket[i] = bucket_square();
    bucket_order_open(&t->buckets, (uint64_t)c->train.seed, t->per_step, t->bucket, dataset->count, BUCKETS);
    return t;
}

void sample_turns_close(sample_turns *t)
{
    if (!t)
        return;
    if (t->bucket)
        bucket_order_close(&t->buckets);
    else
        sample_order_close(&t->plain);
    pthread_mutex_destroy(&t->ordering);
    free(t->bucket);
    free(t);
}

/* Which crop: a draw of its own, so that a sample that stands in for another takes the other's. */
static int draw_crop(const sample_turns *t, int64_t step, int64_t place)
{
    int crops = sample_view_crops(t->config);
    draw_key key = {.seed = (uint64_t)t->config->train.seed, .purpose = DRAW_CROP,
                    .step = (uint64_t)step, .sample = (uint64_t)place};
    return crops > 1 ? (int)draw_below(key, 0, (uint64_t)crops) : 0;
}

sample_turn sample_turns_at(sample_turns *t, int64_t position)
{
    sample_turn turn = {.step = position / t->per_step + 1, .place = position % t->per_step, .bucket = bucket_square()};
    pthread_mutex_lock(&t->ordering);
    turn.index = t->bucket ? bucket_order_at(&turn.bucket, &t->buckets, position) : sample_order_at(&t->plain, position);
    pthread_mutex_unlock(&t->ordering);
    turn.crop = draw_crop(t, turn.step, turn.place);
    return turn;
}

int sample_turns_bucket(const sample_turns *t, int64_t index)
{
    return t->bucket ? t->bucket[index] : bucket_square();
}
