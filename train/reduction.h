/* The gradients of a step on their way between ranks. They lie in flat f32 buffers (buckets), in the order in which backward
 * finishes them; a bucket is sent as soon as backward has all of it, while backward goes on; the last one takes the step's
 * numbers (loss, counts, signals) along. Buckets are begun in the same order on every rank, whatever a rank's samples are.
 *
 *     reduction_open(&r, ...);              // before the optimizer: it finds its gradients made
 *     ... all micro-batches but the last: gradients add up ...
 *     reduction_begin(r);
 *     ... the last one, its graph watched by reduction_whole ...
 *     reduction_end(numbers, r);            // everything is sent and summed
 *
 * Sharded (ZeRO-1, Rajbhandari et al., 2020), a rank gets the sums of its part of each bucket alone, for train/sharded.h. */
#ifndef MSD_TRAIN_REDUCTION_H
#define MSD_TRAIN_REDUCTION_H

#include "train/comm.h"
#include "train/optimizer.h"

enum { REDUCTION_NUMBERS = 8 };

typedef struct bucket_member {
    tensor *whole;  /* whose gradient it is */
    int64_t offset; /* in the bucket */
} bucket_member;

typedef struct gradient_bucket {
    bucket_member *member; /* (members) in the order of backward */
    int            members;
    int            waiting; /* of them are not whole yet in this backward */
    int64_t        count;   /* of elements: a multiple of the ranks */
    tensor        *flat;    /* (count) f32; the gradients are views of it */
    tensor        *wire;    /* (count) bf16: what is sent; NULL: flat is */
} gradient_bucket;

typedef struct reduction {
    device          *dev;
    comm            *comm;
    bool             sharded;
    gradient_bucket *bucket;
    int              buckets;
    int              sent;    /* buckets of this step that are begun */
    int              early;   /* of them before backward had ended */
    double           waited;  /* seconds in reduction_end, of all steps */
    tensor          *numbers; /* (2 * REDUCTION_NUMBERS) f32: each in two parts; rows of the last bucket, or its own */
    bool             riding;  /* it is of the last bucket */
} reduction;

/* order: the gradients' tensors (parameter_whole) as backward finishes them, each once. Buffers live until reduction_free,
 * the gradients until the optimizer's end. type: what is sent, DT_F32 or DT_BF16. E_MEMORY. */
err  reduction_open(reduction **out, arena *owner, device *dev, comm *c, tensor *const *order, int count, dtype type, bool sharded);
void reduction_free(reduction *r); /* NULL is fine */

void reduction_begin(reduction *r);
err  reduction_whole(void *r, tensor *whole); /* an ag_whole */
/* What backward has not finished is sent as it is (0 where it got nothing), then all is waited for. number
 * (REDUCTION_NUMBERS) becomes the sum over the ranks, in about f64; sharded: it stays as it is (reduction_add does that
 * later). */
err  reduction_end(double *number, reduction *r);
/* number (REDUCTION_NUMBERS) becomes the sum over the ranks: a small sum of its own. */
err  reduction_add(double *number, reduction *r);

/* Bytes that a rank sends for one step of `buckets` of so many elements: what `msd plan --ranks` says. */
int64_t reduction_bytes(const int64_t *count, int buckets, dtype type, bool sharded, int rank, int all);

/* How tensors of these sizes (elements, in the order of backward) are put into buckets: bucket[i] of tensor i; elements[b]
 * of bucket b, with what fills it up. Arrays of `count`. Returns how many buckets. */
int reduction_layout(int *bucket, int64_t *elements, const int64_t *size, int count, int all, bool riding);

#endif
