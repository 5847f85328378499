/* Other people's datasets into a manifest (docs/FORMATS.md: Import). Files are hostile: what cannot be used is left
 * out, counted by reason, and the first of each reason are named; what is written passes `msd check`. */
#ifndef MSD_DATA_IMPORT_H
#define MSD_DATA_IMPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/log.h"

typedef struct import_options {
    const char *kind;        /* "folder", "metadata", "bbox", "coco", "clips" */
    const char *source;      /* folder or file */
    const char *output;      /* the manifest */
    const char *images;      /* folder that file names are relative to, or NULL: the source's own */
    const char *captions;    /* coco: captions JSON, or NULL */
    const char *classes;     /* file with one name a line, for classes given as numbers, or NULL */
    const char *phrase;      /* folder, metadata: what the one subject is called */
    const char *caption;     /* of pictures that have none, or NULL */
    const char *box;         /* folder, metadata: "x0,y0,x1,y1" from 0 to 1; NULL: the whole picture */
    const char *bbox_format; /* metadata: "xywh" (default), "xyxy" */
    const char *box_units;   /* clips: "pixel" (default), "normalized" */
    double      min_area;    /* share of the picture that a box must cover; negative: 0.01 for coco, else 0 */
    int64_t     max_subjects, pairs, min_gap;
    uint64_t    seed;
    bool        masks;       /* coco: segmentations as PNGs */
    bool        headers;     /* pictures are not decoded */
} import_options;
#define IMPORT_DEFAULTS ((import_options){.min_area = -1, .max_subjects = 4, .pairs = 4, .min_gap = 1})

enum { IMPORT_REASONS = 40, IMPORT_NAMED = 3 };

typedef struct import_reason {
    const char *text;                /* "no caption" */
    bool        remark;              /* imported nevertheless */
    int64_t     count;
    const char *named[IMPORT_NAMED]; /* the first, in the report's memory */
} import_reason;

typedef struct import_report {
    int64_t       samples, subjects, skipped; /* skipped: pictures, boxes and lines together */
    import_reason reason[IMPORT_REASONS];
    int           reasons;
    arena         memory;
} import_report;

/* Writes the manifest, published by rename, with paths relative to its folder. The report is to be freed (arena_free of
 * its memory) in every case. E_USAGE; E_DATASET: the source is unreadable, or not one sample is usable (nothing is
 * written then); E_IO, E_DISK_FULL. */
err import_run(import_report *out, const import_options *o, logger *log);

void import_print(FILE *out, const import_report *r, const char *output);
void import_print_json(FILE *out, const import_report *r, const char *output);

#endif
