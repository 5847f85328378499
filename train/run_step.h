/* One optimizer step of a run: its micro-batches, the gradient norm, and the update, or none where loss or gradients are
 * not finite. */
#ifndef MSD_TRAIN_RUN_STEP_H
#define MSD_TRAIN_RUN_STEP_H

#include "train/run.h"
#include "train/run_log.h"

/* Does step r->step + 1. A loss or gradient norm that is not finite leaves weights, moments and averages as they are; the
 * step counts as done and as skipped, and a warning names its samples. E_NUMERIC when that makes train.max_bad_steps in a
 * row: the last step is then not done. */
err run_step(step_record *record, run *r);

#endif
