/* A run's micro-batches in planned memory (autograd/planned.h): what they need is known before the first one runs, and
 * decides about activation checkpointing. */
#ifndef MSD_TRAIN_MICRO_STEP_H
#define MSD_TRAIN_MICRO_STEP_H

#include "train/run.h"

/* Opens r->steps, plans the largest micro-batch that the run may meet, and sets r->recompute: as train.activation_checkpointing
 * says, or under auto where the plan without is over the limit. The limit is train.memory, else what the machine has left.
 * E_MEMORY with need and limit when the plan does not fit it either; the batch source has to be open. */
err micro_step_plan(run *r);

/* Forward and backward of r->batches.batch (train_step); adds loss and gradients / parts. last: of this rank's in the step;
 * among ranks its gradients are sent while backward goes on. */
err micro_step_run(double *loss, run *r, int64_t parts, bool last);

/* The gradients' tensors of the trained parameters in the order in which backward finishes them, by a run of the largest
 * micro-batch without data; r->memory's. Before the optimizer is made; the batch source has to be open. */
err micro_step_order(tensor ***order, int *count, run *r);

#endif
