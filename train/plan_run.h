/* The one part of `msd plan RUN.yaml`: a step of that run from pictures to the update, every network in place. */
#ifndef MSD_TRAIN_PLAN_RUN_H
#define MSD_TRAIN_PLAN_RUN_H

#include "train/benchmark.h"

/* b->options->config is the run; every sample has data.max_subjects subjects. For the meta device: contents are zeros.
 * Ends with a part whose name is NULL. */
extern const benchmark_part plan_run[];

#endif
