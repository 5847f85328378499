/* Changes of a reference that keep what it shows, so that an adapter learns the subject and not the picture. */
#ifndef MSD_DATA_AUGMENT_H
#define MSD_DATA_AUGMENT_H

#include <stdbool.h>

#include "base/philox.h"
#include "data/image.h"

/* How far changes may go; zeros: none. */
typedef struct augment_rates {
    double flip;   /* probability of a mirror image, 0..1 */
    double rotate; /* degrees to either side, 0..180 */
    double crop;   /* share of each side that may be cut off, 0..0.95 */
    double colour; /* each channel's gain and the saturation are within 1 - colour .. 1 + colour, 0..1 */
} augment_rates;

/* What is done to one picture, in this order. */
typedef struct augmentation {
    double keep, left, top; /* a part of keep times each side; where it begins, 0..1 of what is cut off */
    double gain[3], saturation;
    double degrees;         /* counter-clockwise about the centre */
    bool   flip;
} augmentation;

bool         augment_is_off(const augment_rates *r);
/* A function of the key and the subject's number. */
augmentation augment_draw(const augment_rates *r, draw_key key, int subject);
/* out is new, of the part's size. Corners that a rotation uncovers are black, as what a mask takes away is; colour
 * leaves black as it is. E_MEMORY. */
err          augment_apply(image *out, const image *in, const augmentation *a);

#endif
