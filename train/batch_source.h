/* Batches as functions of (seed, step, sample): which sample of the dataset, what is dropped, which noise. What the
 * encoders make of a sample comes from a sample_source; threads read its samples ahead of their use, in the order of
 * the steps, while the device computes. Neither the threads nor the source's kind change a bit. */
#ifndef MSD_TRAIN_BATCH_SOURCE_H
#define MSD_TRAIN_BATCH_SOURCE_H

#include "base/ahead.h"
#include "train/sample_source.h"
#include "train/sample_turn.h"
#include "train/step.h"

typedef struct ahead_sample ahead_sample;

typedef struct batch_source {
    const run_config *config;
    const manifest   *dataset;
    sample_source    *source;
    logger           *log;
    int64_t           timesteps;      /* of the noise schedule: 1000 */
    int               rank, ranks;
    sample_turns     *turns;
    float            *latent;         /* of one sample: mean, deviation */
    batch             batch;          /* arrays for batch_size samples of max_subjects */
    drops            *drops;          /* (batch_size) of the batch that was made last */
    const sample    **chosen;         /* (batch_size) likewise */
    double            waited;         /* seconds that batch_source_make waited for samples, since opening */
    int64_t           bad_samples;    /* different ones that others stand in for (data.bad_samples: skip) */
    bool             *bad;            /* (dataset) which */
    ahead            *ahead;          /* NULL: not started */
    ahead_sample     *slot;           /* (slots) */
    int               slots, threads;
} batch_source;

/* Everything passed in stays the caller's and must outlive the source. threads: that read ahead; 0: none. Of `ranks` ranks
 * this one makes every ranks-th micro-batch of a step: rank r's m-th takes the places from (m * ranks + r) * batch_size on. */
err  batch_source_open(batch_source *s, const run_config *c, const manifest *dataset, sample_source *source, int64_t timesteps,
                       int threads, int rank, int ranks, logger *log);
void batch_source_close(batch_source *s);

/* This rank's micro-batch `micro` (from 0) of `step` (from 1), in s->batch until the next call; S is the largest number of subjects
 * of its samples, h and w those of its targets (before the first one, and for memory, of the largest a run may have). E_DATASET names file and manifest line of a sample that cannot be read, at its turn; under
 * data.bad_samples skip the next good sample of the manifest stands in for it instead, is counted, and the bad one is
 * named once. E_NUMERIC, E_CACHE. */
err batch_source_make(batch_source *s, int64_t step, int64_t micro);

/* Writes s->batch as inputs of `msd probe train_step` (NCHW): FOLDER/step-NNNNNN-M.safetensors; M: the micro-batch among
 * those of all ranks. */
err batch_source_dump(const batch_source *s, const char *folder, int64_t step, int64_t micro);

#endif
