#include "data/exif.h"

#include <stdbool.h>
#include <string.h>

#include "base/error.h"

typedef struct tiff {
    const uint8_t *bytes;
    size_t         size;
    bool           big_endian;
} tiff;

static bool read16(uint32_t *out, const tiff *t, size_t at)
{
    if (at > t->size || t->size - at < 2)
        return false;
    const uint8_t *b = t->bytes + at;
    *out = t->big_endian ? (uint32_t)b[0] << 8 | b[1] : (uint32_t)b[1] << 8 | b[0];
    return true;
}

static bool read32(uint32_t *out, const tiff *t, size_t at)
{
    uint32_t first, second;
    if (!read16(&first, t, at) || !read16(&second, t, at + 2))
        return false;
    *out = t->big_endian ? first << 16 | second : second << 16 | first;
    return true;
}

/* The value of an IFD entry with one number in it; false for other types. */
static bool entry_value(uint32_t *out, const tiff *t, size_t at)
{
    enum { BYTE = 1, SHORT = 3, LONG = 4 };
    uint32_t type, count;
    if (!read16(&type, t, at + 2) || !read32(&count, t, at + 4) || count != 1)
        return false;
    if (type == SHORT)
        return read16(out, t, at + 8);
    if (type == LONG)
        return read32(out, t, at + 8);
    if (type != BYTE || t->size <= at + 8)
        return false;
    *out = t->bytes[at + 8];
    return true;
}

int exif_orientation(const uint8_t *bytes, size_t size)
{
    enum { ORIENTATION = 0x0112, ENTRY_BYTES = 12 };
    if (size >= 6 && memcmp(bytes, "Exif\0\0", 6) == 0) {
        bytes += 6;
        size -= 6;
    }
    if (size < 8 || (memcmp(bytes, "II*\0", 4) && memcmp(bytes, "MM\0*", 4)))
        return 1;
    tiff t = {bytes, size, bytes[0] == 'M'};
    uint32_t ifd, entries, tag, value;
    if (!read32(&ifd, &t, 4) || !read16(&entries, &t, ifd))
        return 1;
    for (uint32_t i = 0; i < entries; i++) {
        size_t at = (size_t)ifd + 2 + (size_t)i * ENTRY_BYTES;
        if (!read16(&tag, &t, at))
            return 1;
        if (tag == ORIENTATION)
            return entry_value(&value, &t, at) && value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

/* Where the upright pixel (0,0) lies in the stored picture, and how the upright axes run there. */
typedef struct walk {
    bool from_right, from_bottom;
    bool swapped; /* the upright x axis runs along stored rows downwards */
} walk;

static const walk walks[9] = {
    [1] = {false, false, false}, [2] = {true, false, false}, [3] = {true, true, false}, [4] = {false, true, false},
    [5] = {false, false, true},  [6] = {false, true, true},  [7] = {true, true, true},  [8] = {true, false, true},
};

void exif_turn(uint8_t *dst, const uint8_t *src, int width, int height, int channels, int orientation)
{
    CHECK(orientation >= 1 && orientation <= 8, "orientation %d", orientation);
    walk w = walks[orientation];
    int columns = w.swapped ? height : width, rows = w.swapped ? width : height;
    for (int y = 0; y < rows; y++) {
        for (int x = 0; x < columns; x++) {
            int column = w.swapped ? y : x, row = w.swapped ? x : y;
            if (w.from_right)
                column = width - 1 - column;
            if (w.from_bottom)
                row = height - 1 - row;
            memcpy(dst, src + ((size_t)row * (size_t)width + (size_t)column) * (size_t)channels, (size_t)channels);
            dst += channels;
        }
    }
}
