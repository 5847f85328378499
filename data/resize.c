#include "data/resize.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { PRECISION_BITS = 32 - 8 - 2 }; /* 8 for the sample, 2 for a cubic's overshoot */

static double triangle(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

static double sinc(double x)
{
    if (x == 0.0)
        return 1.0;
    x *= M_PI;
    return sin(x) / x;
}

static double lanczos(double x)
{
    return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
}

static const struct {
    double (*weight)(double x);
    double support;
} filters[] = {
    [RESIZE_BILINEAR] = {triangle, 1.0},
    [RESIZE_BICUBIC] = {cubic, 2.0},
    [RESIZE_LANCZOS] = {lanczos, 3.0},
};

/* For each output place the first input place and the fixed-point weights of `count` places from there. */
typedef struct span {
    int first, count;
} span;

typedef struct taps {
    span    *spans;   /* (out) */
    int32_t *weights; /* (out, room) */
    int      room;
} taps;

static void taps_free(taps *t)
{
    free(t->spans);
    free(t->weights);
}

static int32_t fixed_point(double weight)
{
    double scaled = weight * (1 << PRECISION_BITS);
    return (int32_t)(weight < 0 ? scaled - 0.5 : scaled + 0.5);
}

/* Weights of one output place, normalised to sum 1 before rounding. `real` has room for t->room doubles. */
static span fill_span(int32_t *weights, double *real, double center, double widening, int in, resize_filter filter)
{
    double support = filters[filter].support * widening, step = 1.0 / widening, sum = 0.0;
    int first = (int)(center - support + 0.5), end = (int)(center + support + 0.5);
    if (first < 0)
        first = 0;
    if (end > in)
        end = in;
    for (int i = 0; i < end - first; i++) {
        real[i] = filters[filter].weight((i + first - center + 0.5) * step);
        sum += real[i];
    }
    for (int i = 0; i < end - first; i++)
        weights[i] = fixed_point(sum != 0.0 ? real[i] / sum : real[i]);
    return (span){first, end - first};
}

static err taps_make(taps *t, int in, int out, resize_filter filter)
{
    double scale = (double)in / out, widening = scale > 1.0 ? scale : 1.0;
    t->room = (int)ceil(filters[filter].support * widening) * 2 + 1;
    t->spans = malloc((size_t)out * sizeof *t->spans);
    t->weights = malloc((size_t)out * (size_t)t->room * sizeof *t->weights);
    double *real = malloc((size_t)t->room * sizeof *real);
    err result =
        t->spans && t->weights && real ? OK : err_set(E_MEMORY, "no memory to resize from %d to %d pixels", in, out);
    for (int x = 0; result == OK && x < out; x++)
        t->spans[x] =
            fill_span(t->weights + (size_t)x * (size_t)t->room, real, (x + 0.5) * scale, widening, in, filter);
    free(real);
    if (result != OK)
        taps_free(t);
    return result;
}

static uint8_t clip8(int32_t sum)
{
    sum >>= PRECISION_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* One row: out (width, channels) from in (.., channels). */
static void resize_row(uint8_t *out, const uint8_t *in, const taps *t, int width, int channels)
{
    for (int x = 0; x < width; x++) {
        const int32_t *weights = t->weights + (size_t)x * (size_t)t->room;
        const uint8_t *from = in + (size_t)t->spans[x].first * (size_t)channels;
        for (int c = 0; c < channels; c++) {
            int32_t sum = 1 << (PRECISION_BITS - 1);
            for (int i = 0; i < t->spans[x].count; i++)
                sum += from[i * channels + c] * weights[i];
            *out++ = clip8(sum);
        }
    }
}

/* One output row from the input rows of a span; rows are `stride` bytes. */
static void resize_column_row(uint8_t *out, int32_t *sums, const uint8_t *in, const int32_t *weights, int count,
                              size_t stride)
{
    for (size_t i = 0; i < stride; i++)
        sums[i] = 1 << (PRECISION_BITS - 1);
    for (int k = 0; k < count; k++) {
        const uint8_t *row = in + (size_t)k * stride;
        for (size_t i = 0; i < stride; i++)
            sums[i] += row[i] * weights[k];
    }
    for (size_t i = 0; i < stride; i++)
        out[i] = clip8(sums[i]);
}

typedef struct plane { /* (height, width, channels) */
    int            width, height, channels;
    const uint8_t *bytes;
} plane;

static err resize_rows(uint8_t *out, const plane *in, int width, resize_filter filter)
{
    taps t;
    TRY(taps_make(&t, in->width, width, filter));
    size_t in_stride = (size_t)in->width * (size_t)in->channels, out_stride = (size_t)width * (size_t)in->channels;
    for (int y = 0; y < in->height; y++)
        resize_row(out + (size_t)y * out_stride, in->bytes + (size_t)y * in_stride, &t, width, in->channels);
    taps_free(&t);
    return OK;
}

static err resize_columns(uint8_t *out, const plane *in, int height, resize_filter filter)
{
    size_t stride = (size_t)in->width * (size_t)in->channels;
    int32_t *sums = malloc(stride * sizeof *sums);
    if (!sums)
        return err_set(E_MEMORY, "no memory to resize a picture %d pixels wide", in->width);
    taps t;
    err result = taps_make(&t, in->height, height, filter);
    if (result == OK) {
        for (int y = 0; y < height; y++)
            resize_column_row(out + (size_t)y * stride, sums, in->bytes + (size_t)t.spans[y].first * stride,
                              t.weights + (size_t)y * (size_t)t.room, t.spans[y].count, stride);
        taps_free(&t);
    }
    free(sums);
    return result;
}

/* The order of the passes changes a few values by one. Pillow 13 begins with the columns where the height loses more
 * than twice the pixels that the width loses (its pull request 9549); before that it always began with the rows. */
static bool columns_first(const plane *in, int width, int height)
{
    return height < in->height && (int64_t)in->height - height > 2 * ((int64_t)in->width - width);
}

static err resize_both(uint8_t *out, uint8_t *between, const plane *in, int width, int height, resize_filter filter)
{
    if (columns_first(in, width, height)) {
        plane lower = {in->width, height, in->channels, between};
        TRY(resize_columns(between, in, height, filter));
        return resize_rows(out, &lower, width, filter);
    }
    plane narrower = {width, in->height, in->channels, between};
    TRY(resize_rows(between, in, width, filter));
    return resize_columns(out, &narrower, height, filter);
}

/* A pass whose size does not change is left out, as in Pillow. */
static err resize_plane(uint8_t *out, const plane *in, int width, int height, resize_filter filter)
{
    CHECK(width > 0 && height > 0 && in->width > 0 && in->height > 0, "%d x %d to %d x %d", in->width, in->height,
          width, height);
    if (width == in->width && height == in->height) {
        memcpy(out, in->bytes, (size_t)width * (size_t)height * (size_t)in->channels);
        return OK;
    }
    if (height == in->height)
        return resize_rows(out, in, width, filter);
    if (width == in->width)
        return resize_columns(out, in, height, filter);
    size_t between_pixels =
        columns_first(in, width, height) ? (size_t)in->width * (size_t)height : (size_t)width * (size_t)in->height;
    uint8_t *between = malloc(between_pixels * (size_t)in->channels);
    if (!between)
        return err_set(E_MEMORY, "no memory to resize a picture of %d x %d", in->width, in->height);
    err result = resize_both(out, between, in, width, height, filter);
    free(between);
    return result;
}

err image_resize(image *out, const image *in, int width, int height, resize_filter filter)
{
    TRY(image_new(out, width, height));
    plane p = {in->width, in->height, 3, in->rgb};
    err result = resize_plane(out->rgb, &p, width, height, filter);
    if (result != OK)
        image_free(out);
    return result;
}

err grey_image_resize(grey_image *out, const grey_image *in, int width, int height, resize_filter filter)
{
    TRY(grey_image_new(out, width, height));
    plane p = {in->width, in->height, 1, in->grey};
    err result = resize_plane(out->grey, &p, width, height, filter);
    if (result != OK)
        grey_image_free(out);
    return result;
}

static int clamp(int64_t x, int high)
{
    return x < 0 ? 0 : x > high ? high : (int)x;
}

err image_crop(image *out, const image *in, int left, int top, int width, int height)
{
    TRY(image_new(out, width, height));
    int x0 = clamp(left, in->width), x1 = clamp((int64_t)left + width, in->width);
    int y0 = clamp(top, in->height), y1 = clamp((int64_t)top + height, in->height);
    for (int y = y0; y < y1 && x0 < x1; y++) {
        size_t to = (size_t)(y - top) * (size_t)width + (size_t)(x0 - left);
        size_t from = (size_t)y * (size_t)in->width + (size_t)x0;
        memcpy(out->rgb + 3 * to, in->rgb + 3 * from, 3 * (size_t)(x1 - x0));
    }
    return OK;
}

static int follow(int longer, int shorter, int side)
{
    return (int)((double)((int64_t)side * longer) / shorter);
}

void resize_short_side(int *width, int *height, int in_width, int in_height, int side)
{
    CHECK(in_width > 0 && in_height > 0 && side > 0, "%d x %d to %d", in_width, in_height, side);
    resize_cover(width, height, in_width, in_height, side, side);
}

bool resize_cover_by_width(int in_width, int in_height, int width, int height)
{
    return (int64_t)in_width * height <= (int64_t)in_height * width;
}

void resize_cover(int *width, int *height, int in_width, int in_height, int least_width, int least_height)
{
    bool by_width = resize_cover_by_width(in_width, in_height, least_width, least_height);
    *width = by_width ? least_width : follow(in_width, in_height, least_height);
    *height = by_width ? follow(in_height, in_width, least_width) : least_height;
}
