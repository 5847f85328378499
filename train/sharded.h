/* AdamW whose state is shared out among the ranks (ZeRO-1: Rajbhandari et al., "ZeRO", 2020): each rank holds the moments of
 * its part of every gradient bucket, updates the weights of that part, and the weights are gathered while the next batch is
 * loaded. The arithmetic is the optimizer's, number by number.
 *
 *     sharded_squares(&sum, s);     // of this rank's part
 *     sharded_update(s, ...);       // begins the gathering
 *     ... the next batch ...
 *     sharded_settle(s);            // weights and copies are whole again */
#ifndef MSD_TRAIN_SHARDED_H
#define MSD_TRAIN_SHARDED_H

#include "train/reduction.h"

/* A stretch of one parameter in this rank's part of a bucket: flat views. */
typedef struct shard_piece {
    int     parameter;
    tensor *weight, *m, *v, *gradient;
} shard_piece;

typedef struct sharded {
    device      *dev;
    reduction   *gradients; /* borrowed */
    optimizer   *of;        /* borrowed: parameters, settings, updates done; its moments are here */
    tensor     **m, **v;    /* (buckets) of this rank's part, f32 */
    shard_piece *piece;
    int          pieces;
    bool         under_way; /* a gathering is */
} sharded;

/* `of` was made with adamw.elsewhere, on gradients that `r` (sharded) has made. f32 moments alone. E_MEMORY. */
err  sharded_new(sharded **out, arena *owner, reduction *r, optimizer *of);
void sharded_free(sharded *s); /* NULL is fine */

err sharded_squares(double *sum, const sharded *s);
err sharded_update(sharded *s, double norm, double max_norm, double lr);
err sharded_settle(sharded *s); /* NULL, or nothing under way: nothing to do */

/* An optimizer like s->of with all moments in host memory (dev: a CPU device), for a checkpoint: what is loaded into it is
 * taken by sharded_take on every rank; sharded_collect (all ranks call it) fills it on rank 0. Freed by sharded_free_whole. */
err  sharded_whole(optimizer **out, arena *owner, const sharded *s, device *host);
void sharded_free_whole(optimizer *whole);
err  sharded_take(sharded *s, const optimizer *whole);
err  sharded_collect(optimizer *whole, sharded *s); /* whole: rank 0's; NULL on the others */

#endif
