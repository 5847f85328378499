/* `msd check`: everything wrong with a run, found without computing anything: the config, the model folder
 * (components, their config.json, the headers of their weights), the manifest and every picture it names, the held-out
 * list likewise, the file of jobs. One kind of mistake does not hide another: what the config still says well enough is
 * checked too. */
#ifndef MSD_TRAIN_CHECK_H
#define MSD_TRAIN_CHECK_H

#include "base/log.h"
#include "data/manifest.h"
#include "train/buckets.h"
#include "train/check_statistics.h"
#include "train/config.h"

typedef struct check_counts {
    int64_t          samples, subjects, pictures; /* pictures: different files */
    check_statistics of;
    int64_t bucket[BUCKETS]; /* samples in each; with data.buckets only */
    int64_t resolution;      /* that they are scaled to; 0: no buckets */
    int64_t per_step;        /* samples of a step */
} check_counts;

/* Adds all problems and warnings to `p`; print them with problems_report, whose result has the exit code (2 config, 3
 * dataset, 4 model: the first that applies). */
typedef struct check_look {
    bool    headers; /* pictures are not decoded: faster, but a damaged one is found only when training reads it */
    int     threads; /* 0: as many as this process may use */
    logger *log;     /* for the progress, or NULL */
} check_look;

void check_run(check_counts *counts, problems *p, const char *path, const char *const *sets, int set_count,
               const check_look *how);

/* The parts, for a config that was read already. */
void check_model(problems *p, const run_config *c);
/* Decodes every picture, reference and mask once: E_DATASET for files that are missing, no pictures or too
 * large, boxes that lie outside, masks of another size; warnings for boxes that are clipped. statistics may be NULL.
 * Returns the number of different files. */
int64_t check_pictures(check_statistics *statistics, problems *p, const manifest *m, const check_look *how);

#endif
