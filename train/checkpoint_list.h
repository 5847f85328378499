/* The step folders of a run: which there are, which is the newest good one, which may go. */
#ifndef MSD_TRAIN_CHECKPOINT_LIST_H
#define MSD_TRAIN_CHECKPOINT_LIST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"

/* The newest valid step folder of a run (caller frees *folder; NULL when there is none). Invalid newer
 * ones are passed over and said in warnings. *found: how many step folders there are, good or not. */
err checkpoint_newest(char **folder, int *found, const char *run, logger *log);

/* Removes what a killed process left of step folders it was writing or removing. Only for who holds the run's lock. */
void checkpoint_sweep(const char *run);

/* What to export when `source` is named: a step folder with a manifest is verified (E_CHECKPOINT), of a run folder it is the newest
 * whole step (as checkpoint_newest; E_CHECKPOINT when it has steps but none is whole); anything else is itself. ema: the file with its averaged weights
 * instead (E_CHECKPOINT when it has none). Caller frees. */
err checkpoint_export_source(char **out, const char *source, bool ema, logger *log);

/* Removes all but the newest `keep` step folders; `good`, the one just verified, always stays. keep 0: removes none. */
void checkpoint_rotate(const char *run, int64_t keep, int64_t good);

#endif
