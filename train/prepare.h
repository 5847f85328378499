/* `msd prepare`: encodes a run's dataset into its cache, and looks after the cache. */
#ifndef MSD_TRAIN_PREPARE_H
#define MSD_TRAIN_PREPARE_H

#include <stdbool.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"

typedef struct prepare_options {
    const char        *config;
    const char *const *set;
    int                sets;
    bool               verify, stat, collect; /* any of them: nothing is encoded */
    bool               json;
    int                threads;               /* 0: as many as this process may use */
} prepare_options;

/* Encodes what data.cache lacks of the samples of data.manifest and data.validation; goes on where a killed one was. A
 * SIGINT or SIGTERM keeps what is done (E_INTERRUPTED, E_TERMINATED). E_DISK_FULL before anything is encoded when the
 * disk has too little room. Pictures that cannot be read: E_DATASET with all of them at the end, or warnings under
 * data.bad_samples skip. E_CONFIG, E_MODEL, E_CACHE; E_USAGE: in use by another process. Text goes to `out`. */
/* Ranks (mpirun) share the samples; rank 0 writes the cache, the others hand it what they made through journals of their own
 * beside it. The looking after is rank 0's. */
err prepare_run(const prepare_options *o, logger *log, FILE *out);

#endif
