/* The dataset as a list: JSONL, one sample a line, as contract and docs/FORMATS.md say. Reading collects every mistake
 * with its line; pictures are not opened here. Boxes stay in their units until a picture's size is known (box_fit). */
#ifndef MSD_DATA_MANIFEST_H
#define MSD_DATA_MANIFEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/problems.h"

enum { MANIFEST_LINE = 1 << 20 }; /* longest line in bytes */

typedef enum box_units { BOX_PIXEL, BOX_NORMALIZED } box_units;

typedef struct subject {
    const char *phrase;           /* not empty */
    double      box[4];           /* x0 y0 x1 y1 in the sample's units, x0 < x1, y0 < y1 */
    const char *reference;        /* path, or NULL: the image cropped at box */
    double      reference_box[4]; /* in the same units, of the reference */
    bool        has_reference_box; /* false: the whole reference */
    const char *mask;             /* path, or NULL */
} subject;

typedef struct sample {
    const char *image;   /* path */
    const char *text;
    subject    *subject; /* (subjects) */
    int         subjects;
    box_units   units;
    int64_t     line;    /* in the manifest, from 1 */
    bool        valid;   /* false: a problem was added for it, some fields may be NULL or wrong */
} sample;

typedef struct manifest {
    const char *path;
    sample     *sample;
    int64_t     count;
    arena       memory;
} manifest;

/* Reads all lines; relative paths become relative to the manifest's folder. Each mistake is a problem of class
 * E_DATASET at its line: broken JSON, missing, wrong and unknown keys (with the nearest), impossible boxes, boxes that
 * look like the other units, more than max_subjects, no samples at all. Warnings: boxes partly outside, the same image
 * and text twice. The manifest is to be freed in every case; use its samples for training only when no errors were
 * added. */
void manifest_load(manifest *out, problems *p, const char *path, int64_t max_subjects);
void manifest_free(manifest *m);

typedef enum box_verdict { BOX_INSIDE, BOX_CLIPPED, BOX_OUTSIDE } box_verdict;

/* A box as normalised xyxy in [0,1] of an upright picture of width x height, clipped to it. BOX_OUTSIDE: nothing is
 * left (out is then all zeros). */
box_verdict box_fit(float out[4], const double box[4], box_units units, int width, int height);

#endif
