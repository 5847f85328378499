/* The order of samples under aspect buckets: a step holds samples of one bucket only, and is a function of (seed, step).
 *
 * Each bucket is an endless row of permutations of its samples; its k-th step takes the next `group` of the row. So no
 * sample is drawn again before all others of its bucket were, whatever the sizes. An epoch of the dataset, e = 0, 1 ...,
 * gives a bucket of n samples ceil((e + 1) n / group) - ceil(e n / group) steps: after it each sample was drawn e + 1
 * times at least. What fills up the bucket's last step of the epoch is the beginning of its next permutation, which is
 * then not drawn again. The steps of an epoch are shuffled. */
#ifndef MSD_TRAIN_BUCKET_ORDER_H
#define MSD_TRAIN_BUCKET_ORDER_H

#include <stdint.h>

typedef struct bucket_order {
    uint64_t seed;
    int64_t  group, count;   /* samples of a step, of the dataset */
    int      buckets;
    int64_t *start;          /* (buckets + 1): where each begins in `member` */
    int64_t *member;         /* (count) samples by bucket */
    int64_t *shuffled;       /* (count) the same, each bucket in the order of its epoch */
    int64_t *shuffled_epoch; /* (buckets); -1: none yet */
    int64_t  epoch;          /* of the dataset, that the steps below are of; -1: none yet */
    int64_t  first, steps;
    int     *bucket;         /* (steps) */
    int64_t *turn;           /* (steps) earlier steps of the same bucket in the run */
} bucket_order;

/* bucket[i] of sample i, 0..buckets-1; count and group >= 1. */
void bucket_order_open(bucket_order *o, uint64_t seed, int64_t group, const int *bucket, int64_t count, int buckets);
void bucket_order_close(bucket_order *o);
/* The sample at a position of the run, from 0, and its bucket. */
int64_t bucket_order_at(int *bucket, bucket_order *o, int64_t position);

#endif
