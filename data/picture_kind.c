#include "data/picture_kind.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "data/file_kind.h"

typedef struct magic {
    size_t      offset, length;
    const char *bytes, *text;
} magic;

static const magic magics[] = {
    {0, 6, "GIF87a", "a GIF picture"},
    {0, 6, "GIF89a", "a GIF picture"},
    {0, 4, "II*\0", "a TIFF picture (or a camera's raw file)"},
    {0, 4, "MM\0*", "a TIFF picture (or a camera's raw file)"},
    {0, 4, "II+\0", "a BigTIFF picture"},
    {0, 4, "MM\0+", "a BigTIFF picture"},
    {4, 8, "ftypheic", "an HEIC picture"},
    {4, 8, "ftypheix", "an HEIC picture"},
    {4, 8, "ftyphevc", "an HEIC picture"},
    {4, 8, "ftypmif1", "an HEIF picture"},
    {4, 8, "ftypmsf1", "an HEIF picture"},
    {4, 8, "ftypavif", "an AVIF picture"},
    {4, 8, "ftypavis", "an AVIF picture"},
    {4, 4, "ftyp", "a video (MP4 or MOV)"},
    {0, 12, "\0\0\0\x0CjP  \r\n\x87\n", "a JPEG 2000 picture"},
    {0, 4, "\xFF\x4F\xFF\x51", "a JPEG 2000 picture"},
    {0, 2, "\xFF\x0A", "a JPEG XL picture"},
    {0, 12, "\0\0\0\x0CJXL \r\n\x87\n", "a JPEG XL picture"},
    {0, 2, "BM", "a BMP picture"},
    {0, 4, "\0\0\1\0", "an icon (ICO)"},
    {0, 4, "8BPS", "a Photoshop file"},
    {0, 4, "%PDF", "a PDF"},
    {0, 4, "\x1A\x45\xDF\xA3", "a video (Matroska or WebM)"},
    {0, 4, "qoif", "a QOI picture"},
    {0, 2, "P5", "a PGM picture"},
    {0, 2, "P6", "a PPM picture"},
    {0, 3, "\x1F\x8B\x08", "a gzip archive"},
};

static bool begins(const uint8_t *bytes, size_t size, const char *word)
{
    size_t length = strlen(word);
    return size >= length && strncasecmp((const char *)bytes, word, length) == 0;
}

static bool is_text(const uint8_t *bytes, size_t size)
{
    enum { LOOKED_AT = 256 };
    size_t n = size < LOOKED_AT ? size : LOOKED_AT, bad = 0;
    if (memchr(bytes, 0, n))
        return false;
    return text_utf8_valid(&bad, (const char *)bytes, n) ||
           (n < size && n - bad < 4); /* the cut may go through a character */
}

const char *picture_kind_text(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < sizeof magics / sizeof *magics; i++) {
        const magic *m = &magics[i];
        if (size >= m->offset + m->length && memcmp(bytes + m->offset, m->bytes, m->length) == 0)
            return m->text;
    }
    file_kind kind = file_kind_of(bytes, size);
    if (kind == FILE_PNG || kind == FILE_JPEG)
        return "a picture cut off at its start";
    if (kind == FILE_LFS_POINTER)
        return "a git-LFS pointer, not the picture itself";
    if (kind != FILE_UNKNOWN)
        return file_kind_text(kind);
    const uint8_t *text = bytes;
    size_t left = size;
    while (left && memchr(" \t\r\n", *text, 4))
        text++, left--;
    if (begins(text, left, "<svg"))
        return "an SVG drawing";
    if (begins(text, left, "<?xml"))
        return "XML text (an SVG drawing, perhaps)";
    return is_text(bytes, size) ? "text" : "a file of unknown form";
}
