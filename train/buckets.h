/* Aspect buckets: the sizes that targets are cropped to, so that little of a picture that is not square is lost. The
 * forms are those that SDXL was trained with (Podell et al., "SDXL", 2023, appendix I: 40 sizes of about 1024 x 1024
 * pixels in multiples of 64, from 1:4 to 4:1), scaled to data.resolution and rounded to multiples of BUCKET_UNIT pixels:
 * at 1024 the list itself, at 512 multiples of 32, always resolution x resolution for the square. */
#ifndef MSD_TRAIN_BUCKETS_H
#define MSD_TRAIN_BUCKETS_H

#include <stdbool.h>
#include <stdint.h>

enum { BUCKETS = 40, BUCKET_UNIT = 8 };

typedef struct bucket_size {
    int width, height; /* pixels */
} bucket_size;

bucket_size bucket_size_at(int bucket, int64_t resolution); /* bucket: 0..BUCKETS-1 */
/* The bucket whose form is nearest: the ratio of the two aspect ratios (the larger over the smaller) is least; the first
 * in the list of equal ones, which small resolutions have. */
int bucket_choose(int width, int height, int64_t resolution);
int bucket_square(void);
/* The one with the most pixels. */
bucket_size bucket_largest(int64_t resolution);

#endif
