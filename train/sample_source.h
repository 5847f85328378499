/* Where the encoder outputs of a dataset's samples come from: the frozen encoders, run when asked, or a cache that
 * `msd prepare` filled, with no encoder at all. Both give the same numbers, rounded to data.cache_dtype.
 *
 * A sample comes in two parts: `read` does what threads can do ahead (files, decoding, resizing), `encode` runs in the
 * main thread, which has the device. */
#ifndef MSD_TRAIN_SAMPLE_SOURCE_H
#define MSD_TRAIN_SAMPLE_SOURCE_H

#include "base/log.h"
#include "data/stored.h"
#include "infer/encode.h"
#include "train/sample_view.h"

/* One sample on its way; filled by `read`. */
typedef struct sample_slot {
    arena       memory; /* of the view */
    sample_view view;
    int64_t     step, place; /* in the run, for data.augment; step 0: references as they are */
    float      *values; /* (slot_floats) of the source */
} sample_slot;

/* Where `encode` writes; NULL: not wanted. */
typedef struct encoded_sample {
    float *latent;       /* (2,h,w,C): mean and deviation, unscaled; h and w of the sample's frame */
    float *text, *pooled; /* (T,X), (P) */
    float *image_hidden; /* (subjects,L,D) */
    float *phrases;      /* (subjects,E) */
} encoded_sample;

typedef struct sample_source sample_source;
struct sample_source {
    const run_config *config;
    const manifest   *dataset;
    encoder_sizes     sizes;
    stored_type       type;        /* what everything is rounded to */
    int64_t           latent;      /* numbers of the largest target's latent: h * w * C */
    int64_t           slot_floats;
    float            *empty_text, *empty_pooled, *mean_colour; /* stand for what is dropped */

    /* Sample `index` with its `crop`-th crop into the slot. Any thread. E_IO, E_FORMAT, E_DATASET: a bad sample. */
    err (*read)(sample_source *s, sample_slot *slot, int64_t index, int crop);
    /* Main thread. E_NUMERIC, E_CACHE. */
    err (*encode)(encoded_sample *out, sample_source *s, const sample_slot *slot);
    void (*close)(sample_source *s);
};

/* The type that data.cache_dtype stands for: auto is the run's own. */
stored_type sample_source_type(const run_config *c);
/* Everything passed in stays the caller's and must outlive the source. */
err  encoder_source_open(sample_source **out, const run_config *c, const manifest *dataset, encoders *e);
/* Opens data.cache and finds every sample in it. E_CACHE: what is stale or missing, and `msd prepare`. E_DATASET under
 * data.bad_samples fatal. */
err  cache_source_open(sample_source **out, const run_config *c, const manifest *dataset, logger *log);
void sample_source_close(sample_source *s); /* NULL is fine */

/* For the two sources: sizes are set before; takes config and dataset. */
err  sample_source_start(sample_source *s, const run_config *c, const manifest *dataset);
void sample_source_release(sample_source *s);
int64_t sample_source_latent(const sample_source *s, const sample_view *v); /* numbers of its latent: h * w * C */
/* Whether all sizes of targets are multiples of the VAE's factor. E_CONFIG. */
err  sample_source_check_sizes(const run_config *c, int64_t factor);
/* Rounds as a cache of that type does. */
void sample_source_round(float *values, int64_t count, stored_type type);

#endif
