/* Which sample, and which crop of it, has which place in a run: a function of the config, the dataset and the place.
 * Without aspect buckets every epoch is a permutation of the dataset; with them see bucket_order.h. */
#ifndef MSD_TRAIN_SAMPLE_TURN_H
#define MSD_TRAIN_SAMPLE_TURN_H

#include "train/sample_view.h"

typedef struct sample_turn {
    int64_t step, place; /* from 1, from 0 */
    int64_t index;       /* in the dataset */
    int     crop, bucket;
} sample_turn;

typedef struct sample_turns sample_turns;

/* With data.buckets the headers of all pictures are read; one that cannot be read counts as square, and is reported at
 * its turn. Config and dataset stay the caller's. ranks: whose micro-batches make a step together. */
sample_turns *sample_turns_open(const run_config *c, const manifest *dataset, int ranks);
void          sample_turns_close(sample_turns *t); /* NULL is fine */
/* position: samples drawn before this one, from 0. Any thread. */
sample_turn   sample_turns_at(sample_turns *t, int64_t position);
int           sample_turns_bucket(const sample_turns *t, int64_t index);

#endif
