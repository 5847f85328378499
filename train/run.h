/* What a training run holds, and how it starts: folder, lock, models, parameters, resume. */
#ifndef MSD_TRAIN_RUN_H
#define MSD_TRAIN_RUN_H

#include "autograd/planned.h"
#include "infer/noise_schedule.h"
#include "train/average.h"
#include "train/batch_source.h"
#include "train/checkpoint.h"
#include "train/parameters.h"
#include "train/ranks.h"
#include "train/sharded.h"
#include "train/train.h"

typedef struct run {
    const train_options *options;
    logger              *log;
    ranks               *ranks;        /* NULL: one process; the caller's */
    arena                memory;
    run_config          *config;
    char                *config_text;  /* resolved */
    manifest             dataset;
    device              *dev;
    planned             *steps;        /* NULL before micro_step_plan */
    bool                 recompute;    /* activation checkpointing */
    int                  lock;         /* descriptor; -1: none */
    encoders            *encoders;     /* NULL: the cache has what they made */
    sample_source       *source;
    unet                 unet;
    ms_adapter           adapter, running; /* running: its copy in bf16 that the steps read; empty in f32 */
    noise_schedule       schedule;
    parameters           parameters;
    optimizer           *optimizer;
    average             *average;      /* NULL: off */
    char                 base[65];     /* fingerprint of the UNet */
    batch_source         batches;
    int64_t              step;         /* done so far */
    skip_counts          skips;
    /* Among ranks; NULL, 0, OK for one process. */
    comm                *comm;
    reduction           *reduction;
    sharded             *sharded;      /* train.shard_optimizer */
    err                  ending;       /* what a signal to any rank asked for, by the last step */
    bool                 save_asked;
    int64_t              bad_samples, bad_samples_told; /* of all ranks; how many of this rank's are in it */
} run;

/* Reads and checks everything, takes the folder, loads the models, and brings the state to the step to go on from.
 * *finished: the run has all its steps already (nothing was loaded). r is to be closed in every case.
 * With ranks it is collective: rank 0 reads first, holds the folder and chooses where to go on; all compare what has to be
 * the same. E_DISTRIBUTED. */
err  run_open(run *r, bool *finished, const train_options *o, ranks *all, logger *log);
void run_close(run *r);

/* The state as a checkpoint of r->step, for saving. Its metadata lives in `memory`. moments: the optimizer that has them
 * (train/run_reduce.h). */
checkpoint run_checkpoint(run *r, arena *memory, optimizer *moments);
/* What the steps read: the adapter, or its copy. */
const ms_adapter *run_adapter(const run *r);

#endif
