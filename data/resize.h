/* Resizing and cropping of 8-bit pictures, to the bit as Pillow 13's Image.resize and Image.crop.
 * Pillow's method: every output pixel is a weighted mean of the input pixels under a filter that is widened by the
 * factor of reduction, so that reduction does not alias; one pass along rows and one along columns, each in 8-bit
 * fixed point. */
#ifndef MSD_DATA_RESIZE_H
#define MSD_DATA_RESIZE_H

#include <stdbool.h>

#include "base/error.h"
#include "data/image.h"

typedef enum resize_filter {
    RESIZE_BILINEAR, /* triangle, support 1 */
    RESIZE_BICUBIC,  /* Keys' cubic with a = -0.5, support 2 */
    RESIZE_LANCZOS   /* sinc(x) sinc(x / 3), support 3 */
} resize_filter;

/* out is new, of width x height (>= 1). E_MEMORY. */
err image_resize(image *out, const image *in, int width, int height, resize_filter filter);
err grey_image_resize(grey_image *out, const grey_image *in, int width, int height, resize_filter filter);

/* The part [left, left + width) x [top, top + height); what lies outside `in` is black. E_MEMORY. */
err image_crop(image *out, const image *in, int left, int top, int width, int height);

/* The size at which the short side is `side` and the other follows, its fraction cut off (as torchvision's Resize and
 * transformers' shortest_edge do). The long side is at least `side`. */
void resize_short_side(int *width, int *height, int in_width, int in_height, int side);

/* The smallest size of the same form that covers least_width x least_height: one side equal, the other's fraction cut
 * off and not below. By width: it is the width that is equal. */
bool resize_cover_by_width(int in_width, int in_height, int width, int height);
void resize_cover(int *width, int *height, int in_width, int in_height, int least_width, int least_height);

#endif
