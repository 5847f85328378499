/* Encodes what a plan says is missing: pictures are read ahead by threads, the encoders run here. */
#ifndef MSD_TRAIN_PREPARE_ENCODE_H
#define MSD_TRAIN_PREPARE_ENCODE_H

#include "base/log.h"
#include "train/prepare_plan.h"
#include "train/ranks.h"

/* Adds to the cache sample by sample; ranks share the dataset's samples.  Pictures that cannot be read become problems as in prepare_plan_add, and those
 * that cannot be decoded are remembered in the cache. Stops at a signal (E_INTERRUPTED, E_TERMINATED). */
err prepare_encode(const prepare_plan *p, problems *found, cache *store, encoders *e, const run_config *c,
                   int readers, ranks *all, logger *log);

#endif
