#include "data/coco_mask.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

enum { MOST_POINTS = 50000 };

static void set_pixel(image *out, int x, int y)
{
    memset(out->rgb + 3 * ((size_t)y * (size_t)out->width + (size_t)x), 255, 3);
}

/* ---- polygons ---- */

typedef struct filling {
    image   *out;
    uint8_t *crossed; /* (height, width): an odd number of edges crosses the row left of this centre and right of the
                       * one before */
    int64_t  points;
} filling;

/* The first pixel whose centre is at x or behind it, 0..width. */
static int pixel_behind(double x, int width)
{
    double first = ceil(x - 0.5);
    return first < 0 ? 0 : first > width ? width : (int)first;
}

static void cross_rows(filling *f, double x0, double y0, double x1, double y1)
{
    int width = f->out->width;
    if (y0 > y1) {
        double x = x0, y = y0;
        x0 = x1, y0 = y1, x1 = x, y1 = y;
    }
    int from = pixel_behind(y0, f->out->height), to = pixel_behind(y1, f->out->height);
    for (int y = from; y < to; y++) {
        int x = pixel_behind(x0 + (y + 0.5 - y0) * (x1 - x0) / (y1 - y0), width);
        if (x < width)
            f->crossed[(size_t)y * (size_t)width + (size_t)x] ^= 1;
    }
}

static err fill_polygon(filling *f, const json_t *polygon)
{
    size_t numbers = json_array_size(polygon), points = numbers / 2;
    int first = f->out->height, last = -1;
    if (numbers % 2 || points < 3)
        return err_set(E_FORMAT, "a polygon of %zu numbers, expected pairs, three or more", numbers);
    f->points += (int64_t)points;
    if (f->points > MOST_POINTS)
        return err_set(E_FORMAT, "more than %d points", (int)MOST_POINTS);
    for (size_t i = 0; i < numbers; i++)
        if (!json_is_number(json_array_get(polygon, i)))
            return err_set(E_FORMAT, "a polygon with something that is no number");
    for (size_t i = 0; i < points; i++) {
        size_t j = (i + 1) % points;
        double x0 = json_number_value(json_array_get(polygon, 2 * i));
        double y0 = json_number_value(json_array_get(polygon, 2 * i + 1));
        cross_rows(f, x0, y0, json_number_value(json_array_get(polygon, 2 * j)),
                   json_number_value(json_array_get(polygon, 2 * j + 1)));
        int row = pixel_behind(y0, f->out->height);
        first = row < first ? row : first;
        last = row > last ? row : last;
    }
    for (int y = first; y <= last && y < f->out->height; y++) {
        uint8_t *row = f->crossed + (size_t)y * (size_t)f->out->width, inside = 0;
        for (int x = 0; x < f->out->width; x++) {
            inside ^= row[x];
            row[x] = 0;
            if (inside)
                set_pixel(f->out, x, y);
        }
    }
    return OK;
}

static err fill_polygons(image *out, const json_t *list)
{
    size_t pixels = (size_t)out->width * (size_t)out->height, count = json_array_size(list);
    if (count == 0 || count > 1000)
        return err_set(E_FORMAT, "%zu polygons, expected 1 to 1000", count);
    filling f = {.out = out, .crossed = heap_get(pixels)};
    memset(f.crossed, 0, pixels);
    err e = OK;
    for (size_t i = 0; i < count && e == OK; i++)
        e = fill_polygon(&f, json_array_get(list, i));
    free(f.crossed);
    return e;
}

/* ---- run lengths ---- */

typedef struct runs {
    image  *out;
    int64_t at, pixels; /* column by column */
    bool    white;
} runs;

static bool take_run(runs *r, int64_t length)
{
    if (length < 0 || length > r->pixels - r->at)
        return false;
    for (int64_t i = 0; r->white && i < length; i++)
        set_pixel(r->out, (int)((r->at + i) / r->out->height), (int)((r->at + i) % r->out->height));
    r->at += length;
    r->white = !r->white;
    return true;
}

/* One number of the compressed form: five bits a character, least first, 32 says that more follow, and the highest bit
 * of the last is the sign. */
static const char *take_packed(int64_t *out, const char *at)
{
    int64_t value = 0;
    for (int bits = 0; bits < 60; bits += 5) {
        int digit = *at - 48;
        if (digit < 0 || digit > 63)
            return NULL;
        at++;
        value |= (int64_t)(digit & 31) << bits;
        if (digit & 32)
            continue;
        *out = digit & 16 ? value - ((int64_t)1 << (bits + 5)) : value;
        return at;
    }
    return NULL;
}

/* From the third on, numbers are differences to the one before last. */
static bool fill_packed(runs *r, const char *text)
{
    int64_t before[2] = {0, 0}, length;
    for (int64_t i = 0; *text; i++) {
        text = take_packed(&length, text);
        if (!text)
            return false;
        length += i > 2 ? before[i % 2] : 0;
        before[i % 2] = length;
        if (!take_run(r, length))
            return false;
    }
    return true;
}

static err fill_runs(image *out, const json_t *rle)
{
    const json_t *size = json_object_get(rle, "size"), *counts = json_object_get(rle, "counts");
    if (json_integer_value(json_array_get(size, 0)) != out->height ||
        json_integer_value(json_array_get(size, 1)) != out->width)
        return err_set(E_FORMAT, "run lengths for %lld x %lld, expected the picture's %d x %d",
                       (long long)json_integer_value(json_array_get(size, 1)),
                       (long long)json_integer_value(json_array_get(size, 0)), out->width, out->height);
    runs r = {.out = out, .pixels = (int64_t)out->width * out->height};
    bool good = json_is_string(counts) || json_is_array(counts);
    if (json_is_string(counts))
        good = fill_packed(&r, json_string_value(counts));
    for (size_t i = 0; good && i < json_array_size(counts); i++)
        good = json_is_integer(json_array_get(counts, i)) &&
               take_run(&r, json_integer_value(json_array_get(counts, i)));
    if (!good || r.at != r.pixels)
        return err_set(E_FORMAT, "run lengths that do not fill the picture of %d x %d", out->width, out->height);
    return OK;
}

err coco_mask(image *out, const json_t *segmentation, int width, int height)
{
    if (!json_is_array(segmentation) && !json_is_object(segmentation))
        return err_set(E_FORMAT, "no segmentation");
    TRY(image_new(out, width, height));
    err e = json_is_array(segmentation) ? fill_polygons(out, segmentation) : fill_runs(out, segmentation);
    if (e != OK)
        image_free(out);
    return e;
}
