/* The subjects of the demo dataset: photographs found in a folder, or shapes drawn here. */
#ifndef MSD_TRAIN_DEMO_SUBJECTS_H
#define MSD_TRAIN_DEMO_SUBJECTS_H

#include "base/arena.h"
#include "base/error.h"
#include "data/image.h"

typedef struct demo_subject {
    const char *phrase;     /* "duck toy" */
    const char *name;       /* of its reference file, without ending: "012_duck_toy" */
    const char *photograph; /* path, or NULL: a shape */
    int         shape, colour;
} demo_subject;

typedef struct demo_subjects {
    demo_subject *item;
    int           count;
} demo_subjects;

/* Pictures below `photos`, by name: trailing digits are dropped, _ becomes a space. E_DATASET, E_IO. */
err  demo_subjects_find(demo_subjects *out, arena *memory, const char *photos);
void demo_subjects_shapes(demo_subjects *out, arena *memory);

/* The subject's reference picture, at most `side` pixels wide and high; a shape stands on white. */
err demo_subject_reference(image *out, const demo_subject *s, int side);
/* Puts the subject into the rectangle of `target`: a photograph fills it, a shape touches its sides. */
err demo_subject_paste(image *target, const demo_subject *s, int x, int y, int width, int height);

#endif
