/* What the trainer sees of one sample of the manifest: which part of which picture, where the boxes lie in the target's
 * crop, which words go to the phrase encoder. Made from the manifest and the pictures' headers; the pixels are another
 * call, for those who need them (the cache does not). */
#ifndef MSD_TRAIN_SAMPLE_VIEW_H
#define MSD_TRAIN_SAMPLE_VIEW_H

#include "data/augment.h"
#include "data/manifest.h"
#include "data/preprocess.h"
#include "train/buckets.h"
#include "train/config.h"

typedef struct subject_view {
    const char *picture; /* that the reference is cut from */
    bool        own;     /* it is the sample's image */
    const char *mask;    /* of the picture, or NULL */
    box         crop;    /* pixels of the picture */
    const char *words;   /* of the text that the phrase matches, or the phrase */
    float       box[4];  /* in the target's crop, 0..1; zeros: nothing of it is left there */
    bool         augmented;
    augmentation how;    /* of the reference, when augmented */
} subject_view;

typedef struct sample_view {
    const char   *image, *text;
    target_frame  frame;
    int           subjects;
    subject_view *subject; /* (subjects) */
} sample_view;

/* Random crops are drawn from a fixed set of this many, so that a cache can hold them all: evenly spread over the long
 * side, the first and the last at its ends. */
enum { SAMPLE_RANDOM_CROPS = 5 };
int sample_view_crops(const run_config *c); /* 1 for centre crops */

/* The aspect bucket that the sample's picture goes to, of its header; the square without data.buckets, and where the
 * header cannot be read (E_IO, E_FORMAT). */
err         sample_view_bucket(int *bucket, const sample *m, const run_config *c);
bucket_size sample_view_largest(const run_config *c); /* that a target of the run may have */

/* crop: 0..sample_view_crops-1. Strings and arrays live in `memory` or the manifest. E_IO, E_FORMAT, E_DATASET for a
 * picture whose header cannot be read; E_FORMAT for text that is not UTF-8. */
err sample_view_make(sample_view *out, arena *memory, const sample *m, const run_config *c, int crop);

/* Draws what data.augment makes of the references at this place of the run; the target is never changed. */
void sample_view_augment(sample_view *v, const run_config *c, int64_t step, int64_t place);

/* target (3,crop_height,crop_width of the frame), NULL: not wanted; references[j] (3,clip_side,clip_side) of subject j, NULL: not wanted. *bad
 * says what could not be read: -1 the target, else the subject. E_IO, E_FORMAT, E_DATASET, E_MEMORY. */
err sample_view_load(float *target, float *const *references, int *bad, const sample_view *v, const run_config *c, int clip_side);

#endif
