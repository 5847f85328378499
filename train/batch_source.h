/* Batches as functions of (seed, step, sample): which sample of the dataset, what is dropped, which noise, and what the
 * frozen encoders make of its texts and pictures, computed when asked for. */
#ifndef MSD_TRAIN_BATCH_SOURCE_H
#define MSD_TRAIN_BATCH_SOURCE_H

#include "data/manifest.h"
#include "infer/encode.h"
#include "train/config.h"
#include "train/step.h"

typedef struct batch_source {
    const run_config *config;
    const manifest   *dataset;
    encoders         *encoders;
    int64_t           timesteps;      /* of the noise schedule: 1000 */
    sample_order      order;
    float            *empty_text, *empty_pooled; /* of the empty prompt, for dropped texts */
    float            *mean_colour;    /* picture tokens of pixel values 0, for dropped pictures */
    float            *pixels, *latent; /* of one sample, while it is encoded */
    batch             batch;          /* arrays for batch_size samples of max_subjects */
    drops            *drops;          /* (batch_size) of the batch that was made last */
    const sample    **chosen;         /* (batch_size) likewise */
} batch_source;

/* Encodes what dropped parts are replaced by. Everything passed in stays the caller's and must outlive the source. */
err  batch_source_open(batch_source *s, const run_config *c, const manifest *dataset, encoders *e, int64_t timesteps);
void batch_source_close(batch_source *s);

/* Micro-batch `micro` (from 0) of `step` (from 1), in s->batch until the next call; S is the largest number of subjects
 * of its samples. E_DATASET names file and manifest line of a sample that cannot be read; E_NUMERIC. */
err batch_source_make(batch_source *s, int64_t step, int64_t micro);

/* Writes s->batch as inputs of `msd probe train_step` (NCHW): FOLDER/step-NNNNNN-M.safetensors. */
err batch_source_dump(const batch_source *s, const char *folder, int64_t step, int64_t micro);

#endif
