/* Pictures as 8-bit RGB, from PNG, JPEG and WebP; decided by content, never by name. Files are hostile: sizes are
 * compared with the limits before anything is allocated. Pixels equal Pillow's convert("RGB") (alpha is dropped, a
 * palette and CMYK are resolved as there), but for 16-bit grey PNGs, which Pillow clips: here all 16-bit samples
 * keep their high byte. Colour profiles and gamma are not applied, as in Pillow. */
#ifndef MSD_DATA_IMAGE_H
#define MSD_DATA_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct image {
    int      width, height;
    uint8_t *rgb; /* (height, width, 3); heap, freed by image_free */
} image;

typedef struct grey_image {
    int      width, height;
    uint8_t *grey; /* (height, width) */
} grey_image;

typedef struct image_limits {
    int     side;   /* longest side in pixels */
    int64_t pixels; /* width * height */
} image_limits;
#define IMAGE_LIMITS_DEFAULT ((image_limits){.side = 8192, .pixels = 64000000})

/* What the header says. */
typedef struct image_header {
    int         width, height; /* as stored, before the EXIF turn */
    int         orientation;   /* EXIF 1..8; 1 when absent or malformed */
    const char *format;        /* "PNG", "JPEG", "WebP" */
} image_header;

/* Reads the header without decoding. limits NULL: the default. E_IO, E_FORMAT (not a picture, or too large). */
err image_probe(image_header *out, const char *path, const image_limits *limits);
int image_header_width(const image_header *h);  /* upright */
int image_header_height(const image_header *h);

/* Upright picture. A truncated or corrupt file is an error. limits NULL: the default. E_IO, E_FORMAT, E_MEMORY. */
err image_load(image *out, const char *path, const image_limits *limits);
/* The same from memory; `name` stands in messages. */
err image_decode(image *out, const uint8_t *bytes, size_t size, const char *name, const image_limits *limits);

/* Pillow's convert("L"): luma (19595 R + 38470 G + 7471 B + 32768) >> 16. A mask is not turned by EXIF (contract: masks
 * refer to the upright picture and are taken as they lie). */
err grey_image_load(grey_image *out, const char *path, const image_limits *limits);

err  image_new(image *out, int width, int height); /* black; E_MEMORY */
err  grey_image_new(grey_image *out, int width, int height);
void image_free(image *i);
void grey_image_free(grey_image *i);

/* A text chunk: tEXt where the text is Latin-1, iTXt otherwise. */
typedef struct image_text {
    const char *key;  /* 1..79 bytes of printable ASCII */
    const char *text; /* UTF-8 */
} image_text;
/* Writes an RGB PNG, published under `path` only when whole. The bytes depend on the arguments (and zlib) alone. E_IO,
 * E_DISK_FULL. */
err image_save_png(const char *path, const image *picture, const image_text *texts, int text_count);
/* The same without texts into memory (heap, caller frees). E_MEMORY. */
err image_encode_png(uint8_t **bytes, size_t *size, const image *picture);

#endif
