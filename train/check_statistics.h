/* What a dataset is made of: said by `msd check` after the problems. */
#ifndef MSD_TRAIN_CHECK_STATISTICS_H
#define MSD_TRAIN_CHECK_STATISTICS_H

#include <stdio.h>

#include "data/manifest.h"

enum { STATISTICS_BINS = 6, STATISTICS_LINES = 5 };

typedef struct spread { /* of numbers, sorted */
    double lowest, median, highest;
} spread;

typedef struct check_statistics {
    int64_t sized;                       /* samples whose picture is usable */
    spread  width, height, share;        /* of pictures; of the picture that a subject's box covers */
    int64_t short_side[STATISTICS_BINS]; /* samples by their picture's shorter side: below 256, 512, 768, 1024, 2048 */
    int64_t subjects[STATISTICS_BINS];   /* samples with 0, 1, 2, 3, 4 and more */
    int64_t unmatched;                   /* subjects whose phrase is not in the caption */
    int64_t unmatched_line[STATISTICS_LINES];
    int64_t same_content;                /* files whose bytes another has too; not known (0) with --headers */
} check_statistics;

/* size[2 i], size[2 i + 1]: upright width and height of sample i's picture; 0: unusable. */
void check_statistics_gather(check_statistics *out, const manifest *m, const int *size);
void check_statistics_print(FILE *out, const check_statistics *s);
void check_statistics_print_json(FILE *out, const check_statistics *s, int64_t samples, int64_t subjects,
                                 int64_t pictures);

#endif
