/* What a run folder holds for its report. Files may come from anywhere and be cut short: what cannot be read is left
 * out, and `notes` say so. */
#ifndef MSD_TRAIN_REPORT_DATA_H
#define MSD_TRAIN_REPORT_DATA_H

#include "data/manifest.h"
#include "train/config.h"
#include "train/validation_loss.h"

typedef struct report_steps { /* of log.jsonl, (count) each */
    int64_t count;
    double *step, *loss, *average, *grad_norm, *lr, *wait, *images_per_second; /* wait: share of the step; NAN: null */
    double  seconds;   /* all steps together */
    int64_t skipped;
} report_steps;

typedef struct report_validations { /* (count) each */
    int64_t count, samples, edge[VALIDATION_BINS + 1]; /* the last one's */
    double *step, *loss, *bin[VALIDATION_BINS];
} report_validations;

typedef struct report_picture {
    const char *path;
    int64_t     step;
    int         job;
} report_picture;

typedef struct report_checkpoint {
    int64_t step;
    uint64_t bytes;
    bool    averaged, whole; /* has averaged weights; has its manifest */
} report_checkpoint;

enum { REPORT_MOST_NOTES = 16 };

typedef struct report_data {
    arena               memory;
    const char         *run;
    report_steps        steps;
    report_validations  validations;
    report_picture     *picture; /* by job, then step */
    int                 pictures;
    report_checkpoint  *checkpoint; /* by step */
    int                 checkpoints;
    char               *config_text; /* NULL: none */
    run_config         *config;      /* NULL: cannot be read */
    manifest            dataset;     /* count 0: not reachable */
    const char         *note[REPORT_MOST_NOTES];
    int                 notes;
} report_data;

/* E_IO, E_USAGE when there is no such folder, or it is no run folder: neither log.jsonl nor config.yaml in it. To be
 * freed in every case. */
err  report_data_read(report_data *out, const char *run);
void report_data_free(report_data *d);
void report_data_note(report_data *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
