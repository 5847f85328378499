/* Loss on a held-out list while training. Every sample is asked once in each of equal bins of timesteps; timestep,
 * noise and the VAE's draw are pure functions of (train.seed, bin, place in the list), so that two validations differ
 * by the weights alone. No drops, centre crops, each sample alone; plain squared error whatever train.min_snr says. */
#ifndef MSD_TRAIN_VALIDATION_H
#define MSD_TRAIN_VALIDATION_H

#include "train/run.h"
#include "train/validation_loss.h"

typedef struct validation validation;

/* Ranks share the samples: each looks at and measures its own, and all know every loss then, added up in the list's order: the
 * numbers do not depend on how many ranks there are. Both functions that work are collective.
 *
 * Reads data.validation and looks at every sample, so that a bad one is told now and not in the night: E_DATASET under
 * data.bad_samples fatal, else it is left out with a warning. Encoders or cache as the run's. *out is NULL when the run
 * asks for none. Everything of the run must outlive it. E_CACHE when the cache lacks samples. */
err  validation_open(validation **out, run *r);
void validation_close(validation *v); /* NULL is fine */

/* The loss with the weights that the steps read. Changes nothing of the run. Stops between samples when the run is
 * interrupted: out->samples is then 0. */
err validation_measure(validation_loss *out, validation *v);

/* Edges of the bins over the timesteps that a run draws from. */
void validation_edges(int64_t edge[VALIDATION_BINS + 1], const run_config *c, int64_t timesteps);

#endif
