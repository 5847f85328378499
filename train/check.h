/* `msd check`: everything wrong with a run, found without computing anything: the config, the model folder
 * (components, their config.json, the headers of their weights), the manifest and every picture it names (headers
 * only). One kind of mistake does not hide another: what the config still says well enough is checked too. */
#ifndef MSD_TRAIN_CHECK_H
#define MSD_TRAIN_CHECK_H

#include "data/manifest.h"
#include "train/config.h"

typedef struct check_counts {
    int64_t samples, subjects, pictures; /* pictures: different files */
} check_counts;

/* Adds all problems and warnings to `p`; print them with problems_report, whose result has the exit code (2 config, 3
 * dataset, 4 model: the first that applies). */
void check_run(check_counts *counts, problems *p, const char *path, const char *const *sets, int set_count);

/* The parts, for a config that was read already. */
void check_model(problems *p, const run_config *c);
/* Opens the header of every picture, reference and mask: E_DATASET for files that are missing, no pictures or too
 * large, boxes that lie outside, masks of another size; warnings for boxes that are clipped. Returns the number of
 * different files. */
int64_t check_pictures(problems *p, const manifest *m);

#endif
