/* What a run shows of itself beside its log: TensorBoard's events, losses on a held-out list, pictures. None of it
 * changes a bit of the training, and a failure of it is a warning: it never ends a run. */
#ifndef MSD_TRAIN_WATCH_H
#define MSD_TRAIN_WATCH_H

#include "data/tfevents.h"
#include "train/run_log.h"
#include "train/sampling.h"
#include "train/validation.h"

typedef struct watch {
    run        *r;
    tfevents   *events;
    validation *validation;
    sampling   *sampling;
} watch;

/* Whether lists and jobs can be used is said here: E_CONFIG, E_USAGE, E_DATASET, E_CACHE. To be closed in every case.
 */
err  watch_open(watch *w, run *r);
void watch_close(watch *w);

/* After r->step: the validation, where one is due, into the record. */
void watch_validate(watch *w, step_record *s);
/* The record into the events; mean: of the loss, running. */
void watch_record(watch *w, const step_record *s, double mean);
/* The pictures, where they are due. An error: the weights are not as before, and the run must end. */
err  watch_draw(watch *w);

#endif
