/* Pictures drawn while training: jobs of output.samples by infer's own pipeline with the run's own networks, so that
 * each file is, byte for byte, what `msd generate` gives from the checkpoint of that step (with train.ema: from the
 * averaged weights that `msd export --ema` gives). */
#ifndef MSD_TRAIN_SAMPLING_H
#define MSD_TRAIN_SAMPLING_H

#include "train/run.h"

typedef struct sampling sampling;

/* Reads the jobs and holds them against the model, so that mistakes are told before the first step: E_CONFIG, E_USAGE,
 * E_DATASET. *out is NULL when the run asks for none. The run must outlive it. */
err  sampling_open(sampling **out, run *r);
void sampling_close(sampling *s); /* NULL is fine */

/* Ranks share the jobs. Rank 0 tells of all of them, when all are drawn; drawing is collective. */
typedef void (*sampling_told)(void *user, int job, const char *path); /* a picture that was written */

/* RUN/samples/step-NNNNNN_NN.png of every job, for the run's step; batch_count > 1 appends _0, _1 .... Where the run
 * holds no encoders they are opened and closed here. Afterwards every weight is as before. Stops between jobs when the
 * run is interrupted. *restored false: the weights could not be put back, the run must end. */
err sampling_draw(bool *restored, sampling *s, sampling_told told, void *user);

#endif
