#include "data/image.h"

#include <stdlib.h>

#include "base/file.h"
#include "data/codec.h"
#include "data/exif.h"
#include "data/picture_kind.h"

enum { MAX_FILE_BYTES = 512 * 1024 * 1024 };

static const codec *const codecs[] = {&codec_png, &codec_jpeg, &codec_webp};

/* E_FORMAT unless the size is within the limits; nothing has been allocated for the pixels yet. */
static err within_limits(const image_header *h, const image_limits *limits)
{
    image_limits l = limits ? *limits : IMAGE_LIMITS_DEFAULT;
    if (h->width > l.side || h->height > l.side)
        return err_set(E_FORMAT, "%s of %d x %d pixels, at most %d a side are read; scale it down", h->format, h->width,
                       h->height, l.side);
    if ((int64_t)h->width * h->height > l.pixels)
        return err_set(E_FORMAT, "%s of %d x %d pixels, at most %.3g million pixels are read; scale it down", h->format,
                       h->width, h->height, (double)l.pixels / 1e6);
    return OK;
}

static err read_header(image_header *out, const codec **used, const uint8_t *bytes, size_t size,
                       const image_limits *limits)
{
    for (size_t i = 0; i < sizeof codecs / sizeof *codecs; i++) {
        if (!codecs[i]->recognises(bytes, size))
            continue;
        TRY(codecs[i]->probe(out, bytes, size));
        *used = codecs[i];
        return within_limits(out, limits);
    }
    return err_set(E_FORMAT, "found %s, expected a PNG, JPEG or WebP picture; convert it to one of these",
                   picture_kind_text(bytes, size));
}

static bool lies_down(const image_header *h)
{
    return h->orientation >= 5;
}

int image_header_width(const image_header *h)
{
    return lies_down(h) ? h->height : h->width;
}

int image_header_height(const image_header *h)
{
    return lies_down(h) ? h->width : h->height;
}

err image_probe(image_header *out, const char *path, const image_limits *limits)
{
    file_map map;
    const codec *used;
    TRY(file_map_open(&map, path));
    err result = read_header(out, &used, map.bytes, map.size, limits);
    file_map_close(&map);
    return result == OK ? OK : err_prefix(result, "%s", path);
}

static err get_pixels(uint8_t **out, int width, int height, int channels)
{
    CHECK(width > 0 && height > 0 && channels > 0 && (int64_t)width * height <= INT64_MAX / channels / 2,
          "%d x %d x %d", width, height, channels);
    *out = calloc((size_t)width * (size_t)height, (size_t)channels);
    if (!*out)
        return err_set(E_MEMORY, "no memory for a picture of %d x %d; close other programs or use smaller pictures",
                       width, height);
    return OK;
}

err image_new(image *out, int width, int height)
{
    *out = (image){width, height, NULL};
    return get_pixels(&out->rgb, width, height, 3);
}

err grey_image_new(grey_image *out, int width, int height)
{
    *out = (grey_image){width, height, NULL};
    return get_pixels(&out->grey, width, height, 1);
}

void image_free(image *i)
{
    free(i->rgb);
    *i = (image){0};
}

void grey_image_free(grey_image *i)
{
    free(i->grey);
    *i = (grey_image){0};
}

/* Replaces the picture as stored by the upright one. */
static err stand_up(image *picture, const image_header *h)
{
    if (h->orientation == 1)
        return OK;
    image upright;
    TRY(image_new(&upright, image_header_width(h), image_header_height(h)));
    exif_turn(upright.rgb, picture->rgb, picture->width, picture->height, 3, h->orientation);
    image_free(picture);
    *picture = upright;
    return OK;
}

/* upright false: as stored. */
static err decode_any(image *out, const uint8_t *bytes, size_t size, const image_limits *limits, bool upright)
{
    image_header header;
    const codec *used = NULL;
    *out = (image){0};
    TRY(read_header(&header, &used, bytes, size, limits));
    TRY(image_new(out, header.width, header.height));
    err result = used->decode(out->rgb, &header, bytes, size);
    if (result == OK && upright)
        result = stand_up(out, &header);
    if (result != OK)
        image_free(out);
    return result;
}

err image_decode(image *out, const uint8_t *bytes, size_t size, const char *name, const image_limits *limits)
{
    err result = decode_any(out, bytes, size, limits, true);
    return result == OK ? OK : err_prefix(result, "%s", name);
}

static err load(image *out, const char *path, const image_limits *limits, bool upright)
{
    char *bytes;
    size_t size;
    *out = (image){0};
    TRY(file_read(&bytes, &size, path, MAX_FILE_BYTES));
    err result = decode_any(out, (const uint8_t *)bytes, size, limits, upright);
    free(bytes);
    return result == OK ? OK : err_prefix(result, "%s", path);
}

err image_load(image *out, const char *path, const image_limits *limits)
{
    return load(out, path, limits, true);
}

static uint8_t luma(const uint8_t *rgb)
{
    return (uint8_t)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

err grey_image_load(grey_image *out, const char *path, const image_limits *limits)
{
    image colour;
    *out = (grey_image){0};
    TRY(load(&colour, path, limits, false));
    err result = grey_image_new(out, colour.width, colour.height);
    size_t pixels = (size_t)colour.width * (size_t)colour.height;
    for (size_t i = 0; result == OK && i < pixels; i++)
        out->grey[i] = luma(colour.rgb + 3 * i);
    image_free(&colour);
    return result;
}
