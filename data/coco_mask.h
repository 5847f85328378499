/* COCO's segmentations as masks. */
#ifndef MSD_DATA_COCO_MASK_H
#define MSD_DATA_COCO_MASK_H

#include <jansson.h>

#include "data/image.h"

/* Fills `out` (made here, white inside) of width x height from a segmentation: a list of polygons [x, y, x, y, ...]
 * in pixels (a pixel is inside when its centre is, by the even-odd rule; polygons are united), or RLE {size: [h, w],
 * counts: list or string}, column by column. E_FORMAT for anything else, E_MEMORY. */
err coco_mask(image *out, const json_t *segmentation, int width, int height);

#endif
