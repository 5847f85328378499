/* How a run goes on: which step folder, and whether it belongs to this config. */
#ifndef MSD_TRAIN_RESUME_H
#define MSD_TRAIN_RESUME_H

#include "train/run.h"

/* *folder (caller frees) and *step by --resume: none refuses a run folder with step folders (E_USAGE), auto takes the newest whole
 * one (NULL when there is none at all; E_CHECKPOINT when all are broken), a path that one. E_CONFIG when its config differs in a
 * key that may not change. */
err resume_find(char **folder, int64_t *step, run *r);

/* Fills parameters, moments and step from the folder. */
err resume_load(run *r, const char *folder);

#endif
