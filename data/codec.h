/* One picture format: PNG, JPEG or WebP. Used by image.c alone. All functions take the whole file in memory. */
#ifndef MSD_DATA_CODEC_H
#define MSD_DATA_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "data/image.h"

typedef struct codec {
    const char *format; /* "PNG" */
    bool (*recognises)(const uint8_t *bytes, size_t size);
    /* Fills `out` from the header; messages do not name the file (E_FORMAT). */
    err (*probe)(image_header *out, const uint8_t *bytes, size_t size);
    /* Fills rgb (h->height, h->width, 3), as stored. */
    err (*decode)(uint8_t *rgb, const image_header *h, const uint8_t *bytes, size_t size);
} codec;

extern const codec codec_png, codec_jpeg, codec_webp;

#endif
