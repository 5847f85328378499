#include "data/preprocess.h"

#include <math.h>
#include <string.h>

#include "data/resize.h"

enum { STRETCHED_SIDE = 512, MASK_KEEPS_FROM = 128 };

static const double clip_mean[3] = {0.48145466, 0.4578275, 0.40821073};
static const double clip_deviation[3] = {0.26862954, 0.26130258, 0.27577711};

/* A 1 x 8000 picture brought to a short side of 1024 would be 8 million pixels long. */
static err bounded(int width, int height, const image *picture)
{
    if ((int64_t)width * height <= IMAGE_LIMITS_DEFAULT.pixels)
        return OK;
    return err_set(E_FORMAT,
                   "a picture of %d x %d would be resized to %d x %d, beyond %lld pixels; crop it to a squarer form",
                   picture->width, picture->height, width, height, (long long)IMAGE_LIMITS_DEFAULT.pixels);
}

/* The crop at (left, top) of interleaved bytes, channel by channel, each byte looked up in table[channel]. */
static void spread(float *out, const image *picture, int left, int top, int width, int height, float table[3][256])
{
    for (int c = 0; c < 3; c++) {
        for (int y = 0; y < height; y++) {
            const uint8_t *row = picture->rgb + 3 * ((size_t)(top + y) * (size_t)picture->width + (size_t)left);
            for (int x = 0; x < width; x++)
                *out++ = table[c][row[3 * x + c]];
        }
    }
}

/* Rounded where transformers rounds: after / 255 (in f64), after the subtraction and after the division (in f32). */
static void clip_table(float table[3][256])
{
    for (int c = 0; c < 3; c++) {
        for (int v = 0; v < 256; v++) {
            float scaled = (float)(v * (1.0 / 255.0)), centred = scaled - (float)clip_mean[c];
            table[c][v] = centred / (float)clip_deviation[c];
        }
    }
}

err preprocess_clip(float *out, const image *picture, int side)
{
    int width, height;
    image resized;
    resize_short_side(&width, &height, picture->width, picture->height, side);
    TRY(bounded(width, height, picture));
    TRY(image_resize(&resized, picture, width, height, RESIZE_BICUBIC));
    float table[3][256];
    clip_table(table);
    spread(out, &resized, (width - side) / 2, (height - side) / 2, side, side, table);
    image_free(&resized);
    return OK;
}

err preprocess_generate_reference(float *out, const image *picture, int side)
{
    image stretched;
    TRY(image_resize(&stretched, picture, STRETCHED_SIDE, STRETCHED_SIDE, RESIZE_BICUBIC));
    err result = preprocess_clip(out, &stretched, side);
    image_free(&stretched);
    return result;
}

static void black_outside(image *picture, const grey_image *mask, int left, int top)
{
    for (int y = 0; y < picture->height; y++) {
        for (int x = 0; x < picture->width; x++) {
            if (mask->grey[(size_t)(top + y) * (size_t)mask->width + (size_t)(left + x)] < MASK_KEEPS_FROM)
                memset(picture->rgb + 3 * ((size_t)y * (size_t)picture->width + (size_t)x), 0, 3);
        }
    }
}

/* Whole pixels [*first, *end) of a side: rounded as Pillow's crop (half to even), at least one pixel, inside the
 * picture. */
static void whole_pixels(int *first, int *end, double low, double high, int length)
{
    int from = (int)rint(fmin(fmax(low, 0.0), length)), to = (int)rint(fmin(fmax(high, 0.0), length));
    if (from >= length)
        from = length - 1;
    *first = from;
    *end = to > from ? to : from + 1;
}

err preprocess_cut_reference(image *cut, const image *picture, const grey_image *mask, box crop)
{
    int left, right, top, bottom;
    if (mask && (mask->width != picture->width || mask->height != picture->height))
        return err_set(E_FORMAT, "mask of %d x %d for a picture of %d x %d; make them equal", mask->width, mask->height,
                       picture->width, picture->height);
    whole_pixels(&left, &right, crop.x0, crop.x1, picture->width);
    whole_pixels(&top, &bottom, crop.y0, crop.y1, picture->height);
    TRY(image_crop(cut, picture, left, top, right - left, bottom - top));
    if (mask)
        black_outside(cut, mask, left, top);
    return OK;
}

err preprocess_cut_to_clip(float *out, const image *cut, int resolution, int clip_side)
{
    image stretched;
    TRY(image_resize(&stretched, cut, resolution, resolution, RESIZE_BILINEAR));
    err result = preprocess_clip(out, &stretched, clip_side);
    image_free(&stretched);
    return result;
}

err preprocess_train_reference(float *out, const image *picture, const grey_image *mask, box crop, int resolution,
                               int clip_side)
{
    image cut;
    TRY(preprocess_cut_reference(&cut, picture, mask, crop));
    err result = preprocess_cut_to_clip(out, &cut, resolution, clip_side);
    image_free(&cut);
    return result;
}

target_frame target_frame_center(int width, int height, int crop_width, int crop_height)
{
    target_frame f = {.original_width = width, .original_height = height, .crop_width = crop_width, .crop_height = crop_height};
    resize_cover(&f.width, &f.height, width, height, crop_width, crop_height);
    f.left = (f.width - crop_width) / 2;
    f.top = (f.height - crop_height) / 2;
    return f;
}

err preprocess_target(float *out, const image *picture, const target_frame *f)
{
    CHECK(picture->width == f->original_width && picture->height == f->original_height,
          "picture %d x %d, frame of %d x %d", picture->width, picture->height, f->original_width, f->original_height);
    CHECK(f->left >= 0 && f->left <= f->width - f->crop_width && f->top >= 0 && f->top <= f->height - f->crop_height,
          "crop at (%d,%d) of %d x %d", f->left, f->top, f->width, f->height);
    image resized;
    TRY(bounded(f->width, f->height, picture));
    TRY(image_resize(&resized, picture, f->width, f->height, RESIZE_BILINEAR));
    float table[3][256];
    for (int v = 0; v < 256; v++)
        table[0][v] = table[1][v] = table[2][v] = ((float)v / 255.0f - 0.5f) / 0.5f;
    spread(out, &resized, f->left, f->top, f->crop_width, f->crop_height, table);
    image_free(&resized);
    return OK;
}

static uint8_t byte_of(float unit)
{
    return (uint8_t)rint(fmin(fmax((double)unit, 0.0), 1.0) * 255.0);
}

err preprocess_target_picture(image *out, const float *values, int width, int height)
{
    TRY(image_new(out, width, height));
    size_t plane = (size_t)width * (size_t)height;
    for (size_t i = 0; i < 3 * plane; i++)
        out->rgb[3 * (i % plane) + i / plane] = byte_of(values[i] * 0.5f + 0.5f);
    return OK;
}

err preprocess_clip_picture(image *out, const float *values, int side)
{
    TRY(image_new(out, side, side));
    size_t plane = (size_t)side * (size_t)side;
    for (size_t i = 0; i < 3 * plane; i++)
        out->rgb[3 * (i % plane) + i / plane] = byte_of((float)(values[i] * clip_deviation[i / plane] + clip_mean[i / plane]));
    return OK;
}

void target_time_ids(float ids[6], const target_frame *f)
{
    const int whole[6] = {f->original_height, f->original_width, f->top, f->left, f->crop_height, f->crop_width};
    for (int i = 0; i < 6; i++)
        ids[i] = (float)whole[i];
}

static float follow(double pixel, double scale, int offset, int side)
{
    return (float)(fmin(fmax(pixel * scale - offset, 0.0), side) / side);
}

bool target_box(float out[4], box b, const target_frame *f)
{
    bool by_width = resize_cover_by_width(f->original_width, f->original_height, f->crop_width, f->crop_height);
    double scale = by_width ? (double)f->crop_width / f->original_width : (double)f->crop_height / f->original_height;
    out[0] = follow(b.x0, scale, f->left, f->crop_width);
    out[1] = follow(b.y0, scale, f->top, f->crop_height);
    out[2] = follow(b.x1, scale, f->left, f->crop_width);
    out[3] = follow(b.y1, scale, f->top, f->crop_height);
    if (out[0] < out[2] && out[1] < out[3])
        return true;
    memset(out, 0, 4 * sizeof *out);
    return false;
}
