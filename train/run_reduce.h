/* What the ranks of a run do together in every step: gradients, loss, counts and signals are summed, so that all of them take
 * the same decisions. One process alone: the norm of its gradients. */
#ifndef MSD_TRAIN_RUN_REDUCE_H
#define MSD_TRAIN_RUN_REDUCE_H

#include "train/run.h"
#include "train/run_log.h"

/* The communicator and the gradients' buffers, before the optimizer; after it, run_reduce_share makes what train.shard_optimizer
 * asks for. Both do nothing for one process. E_CONFIG, E_MEMORY, E_DISTRIBUTED. */
err  run_reduce_open(run *r);
err  run_reduce_share(run *r);
void run_reduce_close(run *r); /* after the optimizer is freed */

/* Before the last micro-batch of a step. */
void run_reduce_begin(run *r);
/* After it: record->loss, whose part of this rank it holds, and grad_norm become the step's; r->ending, r->save_asked and
 * r->bad_samples those of all ranks. */
err  run_reduce_step(step_record *record, run *r);
/* What travelled, for people; steps: so many since opening. */
void run_reduce_tell(const run *r, int64_t steps);
/* The weights are whole: before they are read. */
err  run_reduce_settle(run *r);

/* An optimizer whose moments are all here, for a checkpoint: r->optimizer, or where its state is shared out one in host
 * memory, NULL on other ranks than 0 (all call it). Given back by run_reduce_drop. */
typedef struct whole_optimizer {
    optimizer *o;
    device    *host; /* NULL: o is the run's */
    arena      memory;
} whole_optimizer;
err  run_reduce_collect(whole_optimizer *out, run *r);
/* The same, empty, to be loaded on every rank; run_reduce_take shares out what was loaded. */
err  run_reduce_whole(whole_optimizer *out, run *r);
err  run_reduce_take(run *r, const whole_optimizer *w);
void run_reduce_drop(whole_optimizer *w);

#endif
