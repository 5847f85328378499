/* `msd preview`: the samples of a run's first steps as pictures to look at. */
#ifndef MSD_TRAIN_PREVIEW_H
#define MSD_TRAIN_PREVIEW_H

#include <stdint.h>

#include "base/error.h"
#include "base/log.h"

typedef struct preview_options {
    const char        *config;
    const char *const *set;
    int                sets;
    const char        *folder;
    int64_t            count;
} preview_options;

/* Writes the pages of the first `count` samples of the run, and a sheet of all. A sample that cannot be read ends it
 * (E_DATASET), or is said and left out under data.bad_samples skip. E_CONFIG, E_IO, E_DISK_FULL, E_MEMORY. */
err preview_run(const preview_options *o, logger *log);

#endif
