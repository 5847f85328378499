/* WebP by libwebp, where the build found it. */
#include <string.h>

#include "data/codec.h"
#include "data/exif.h"

#ifdef MSD_HAVE_WEBP
#include <webp/decode.h>
#endif

static bool recognises(const uint8_t *bytes, size_t size)
{
    return size >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0;
}

#ifdef MSD_HAVE_WEBP
static int orientation_of(const uint8_t *bytes, size_t size)
{
    size_t at = 12;
    while (size - at >= 8) {
        size_t length = (size_t)bytes[at + 4] | (size_t)bytes[at + 5] << 8 | (size_t)bytes[at + 6] << 16 |
                        (size_t)bytes[at + 7] << 24;
        if (length > size - at - 8)
            break;
        if (memcmp(bytes + at, "EXIF", 4) == 0)
            return exif_orientation(bytes + at + 8, length);
        length += length & 1; /* chunks begin at even places */
        if (length > size - at - 8)
            break;
        at += 8 + length;
    }
    return 1;
}

static err probe(image_header *out, const uint8_t *bytes, size_t size)
{
    WebPBitstreamFeatures features;
    if (WebPGetFeatures(bytes, size, &features) != VP8_STATUS_OK)
        return err_set(E_FORMAT, "damaged WebP header; get the file again or re-save it");
    if (features.has_animation)
        return err_set(E_FORMAT, "animated WebP, expected a still picture; save the frame wanted as PNG");
    *out = (image_header){features.width, features.height, orientation_of(bytes, size), "WebP"};
    return OK;
}

static err decode(uint8_t *rgb, const image_header *h, const uint8_t *bytes, size_t size)
{
    int stride = h->width * 3;
    if (!WebPDecodeRGBInto(bytes, size, rgb, (size_t)stride * (size_t)h->height, stride))
        return err_set(E_FORMAT, "damaged or truncated WebP; get the file again or re-save it");
    return OK;
}
#else
static err probe(image_header *out, const uint8_t *bytes, size_t size)
{
    (void)out;
    (void)bytes;
    (void)size;
    return err_set(
        E_FORMAT,
        "WebP, but this msd was built without libwebp; install libwebp-dev and build again, or convert to PNG");
}

static err decode(uint8_t *rgb, const image_header *h, const uint8_t *bytes, size_t size)
{
    (void)rgb;
    image_header copy = *h;
    return probe(&copy, bytes, size);
}
#endif

const codec codec_webp = {"WebP", recognises, probe, decode};
