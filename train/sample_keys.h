/* The cache's entries of one sample: what each depends on, as a hash. Nothing else may change the numbers. */
#ifndef MSD_TRAIN_SAMPLE_KEYS_H
#define MSD_TRAIN_SAMPLE_KEYS_H

#include "data/cache.h"
#include "data/file_stamps.h"
#include "infer/encode.h"
#include "train/sample_view.h"

typedef struct sample_keys {
    cache_key  latent, prompt, pooled;
    cache_key *phrase, *picture; /* (subjects) */
} sample_keys;

/* Reads the pictures' contents, unless the stamps know them. Arrays live in `memory`. E_IO. */
err sample_keys_make(sample_keys *out, arena *memory, const sample_view *v, const run_config *c, const cache_origin *o,
                     file_stamps *stamps);
/* Of the empty prompt, and of the mean colour's picture. */
void sample_keys_empty(cache_key *prompt, cache_key *pooled, const cache_origin *o);
void sample_keys_mean_colour(cache_key *out, const cache_origin *o);

/* What the encoders in these folders are, and the type: all of the origin but sizes. A component that is not there at
 * all has an empty hash. E_MODEL, E_IO. */
err sample_keys_origin(cache_origin *out, const run_config *c, file_stamps *stamps);
/* Between the two ways to say sizes. */
void sample_keys_put_sizes(cache_origin *o, const encoder_sizes *z);
encoder_sizes sample_keys_sizes(const cache_origin *o);

/* The forms of a run's entries; only a latent has a frame. */
cache_form sample_form(cache_kind kind, const cache_origin *o, const target_frame *frame);

#endif
