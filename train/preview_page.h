/* A page about one sample: the target with its boxes, the references as CLIP gets them, the text, the facts. */
#ifndef MSD_TRAIN_PREVIEW_PAGE_H
#define MSD_TRAIN_PREVIEW_PAGE_H

#include "data/image.h"
#include "train/sample_view.h"

typedef struct preview_sample {
    const sample_view *view;
    const image *target;     /* of the frame's crop */
    const image *references; /* (view->subjects) of CLIP's size */
    drops        drop;
    const char  *title;      /* which step, place, line, file */
    const char  *facts;      /* sizes */
} preview_sample;

/* out is new. E_MEMORY. */
err preview_page(image *out, const preview_sample *s);
/* The target alone with its boxes, at most `side` pixels a side. E_MEMORY. */
err preview_thumbnail(image *out, const preview_sample *s, int side);
/* Thumbnails in rows. E_MEMORY. */
err preview_sheet(image *out, const image *thumbnail, int count, int side);

#endif
