/* The training run: from RUN.yaml to checkpoints and an adapter. */
#ifndef MSD_TRAIN_TRAIN_H
#define MSD_TRAIN_TRAIN_H

#include "autograd/device.h"
#include "base/log.h"

typedef struct train_options {
    const char        *config;
    const char *const *set;          /* "train.steps=100" */
    int                sets;
    const char        *resume;       /* NULL or "none", "auto", a step folder */
    const char *const *allow_change; /* keys */
    int                allowed;
    const char        *dump_batches; /* folder, or NULL */
    int                threads;      /* 0: as many as this process may use */
} train_options;

/* Trains to the end, or to a SIGINT or SIGTERM (the step is finished and saved: E_INTERRUPTED, E_TERMINATED).
 * E_CONFIG, E_DATASET, E_MODEL as `msd check` finds them; E_USAGE: a folder with checkpoints without resume, or in use by another
 * process; E_CHECKPOINT; E_NUMERIC: a loss or gradient that is not finite, with the samples; E_IO, E_DISK_FULL. */
err train_run(const train_options *o, logger *log);

#endif
