/* The one EXIF tag that matters here: how the picture has to be turned to stand upright. */
#ifndef MSD_DATA_EXIF_H
#define MSD_DATA_EXIF_H

#include <stddef.h>
#include <stdint.h>

/* Orientation (tag 0x0112 of the first IFD) of an EXIF block that begins with the TIFF header, with or without
 * "Exif\0\0" before it. 1 for anything malformed or out of 1..8, as Pillow leaves such pictures as they are. */
int exif_orientation(const uint8_t *bytes, size_t size);

/* Writes the upright picture: src (height, width, channels) as stored; dst has width and height swapped for 5..8. */
void exif_turn(uint8_t *dst, const uint8_t *src, int width, int height, int channels, int orientation);

#endif
