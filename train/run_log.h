/* log.jsonl of a run folder: one JSON object a step, from 1, as contract.md 3 says. */
#ifndef MSD_TRAIN_RUN_LOG_H
#define MSD_TRAIN_RUN_LOG_H

#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "train/validation_loss.h"

typedef struct step_record {
    int64_t step;      /* from 1 */
    double  loss;      /* mean over all samples of the step */
    double  grad_norm; /* before clipping */
    double  lr;
    double  wait;      /* seconds spent waiting for batches */
    double  seconds;   /* wall time of the step */
    double  images_per_second;
    int64_t skipped;   /* steps of the run without an update, this one included */
    validation_loss validation; /* samples 0: none after this step */
} step_record;

/* Opens `path` for appending after the lines of steps 1..last_step; later lines, and one that a crash
 * cut short, are removed (published by rename). E_IO. */
err run_log_open(file_log **out, const char *path, int64_t last_step);
/* Losses and norms with 12 significant digits; NaN and Inf as null, which JSON has. */
err run_log_write(file_log *log, const step_record *r);

#endif
