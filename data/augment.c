#include "data/augment.h"

#include <math.h>
#include <string.h>

#include "data/resize.h"

enum { DRAWS = 16 }; /* numbers kept for a subject */

bool augment_is_off(const augment_rates *r)
{
    return r->flip == 0 && r->rotate == 0 && r->crop == 0 && r->colour == 0;
}

static double around_one(double rate, double u)
{
    return 1 + rate * (2 * u - 1);
}

augmentation augment_draw(const augment_rates *r, draw_key key, int subject)
{
    double u[DRAWS];
    for (int i = 0; i < DRAWS; i++)
        u[i] = draw_uniform(key, (uint64_t)subject * DRAWS + (uint64_t)i);
    return (augmentation){.keep = 1 - r->crop * u[0], .left = u[1], .top = u[2],
                          .gain = {around_one(r->colour, u[3]), around_one(r->colour, u[4]), around_one(r->colour, u[5])},
                          .saturation = around_one(r->colour, u[6]), .degrees = r->rotate * (2 * u[7] - 1),
                          .flip = u[8] < r->flip};
}

static uint8_t byte_of(double value)
{
    return (uint8_t)rint(fmin(fmax(value, 0.0), 255.0));
}

/* Away from the grey of the same luma (ITU-R BT.601) or towards it, then each channel's gain. */
static void change_colour(image *p, const augmentation *a)
{
    for (size_t i = 0; i < (size_t)p->width * (size_t)p->height; i++) {
        uint8_t *rgb = p->rgb + 3 * i;
        double grey = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
        for (int c = 0; c < 3; c++)
            rgb[c] = byte_of(a->gain[c] * (grey + a->saturation * (rgb[c] - grey)));
    }
}

static double pixel_or_black(const image *p, int x, int y, int channel)
{
    bool inside = x >= 0 && x < p->width && y >= 0 && y < p->height;
    return inside ? p->rgb[3 * ((size_t)y * (size_t)p->width + (size_t)x) + (size_t)channel] : 0;
}

static double between(const image *p, double x, double y, int channel)
{
    int left = (int)floor(x), top = (int)floor(y);
    double right = x - left, below = y - top, row[2];
    for (int i = 0; i < 2; i++)
        row[i] = (1 - right) * pixel_or_black(p, left, top + i, channel) + right * pixel_or_black(p, left + 1, top + i, channel);
    return (1 - below) * row[0] + below * row[1];
}

/* Each pixel is looked up where it came from, between four. */
static err rotate(image *p, double degrees)
{
    const double pi = 3.14159265358979323846;
    double c = cos(degrees * pi / 180), s = sin(degrees * pi / 180);
    double mx = (p->width - 1) / 2.0, my = (p->height - 1) / 2.0;
    image turned;
    TRY(image_new(&turned, p->width, p->height));
    uint8_t *to = turned.rgb;
    for (int y = 0; y < p->height; y++)
        for (int x = 0; x < p->width; x++)
            for (int k = 0; k < 3; k++)
                *to++ = byte_of(between(p, mx + c * (x - mx) - s * (y - my), my + s * (x - mx) + c * (y - my), k));
    image_free(p);
    *p = turned;
    return OK;
}

static void mirror(image *p)
{
    for (int y = 0; y < p->height; y++) {
        uint8_t *row = p->rgb + 3 * (size_t)y * (size_t)p->width;
        for (int x = 0; x < p->width / 2; x++) {
            uint8_t kept[3], *other = row + 3 * (p->width - 1 - x);
            memcpy(kept, row + 3 * x, 3);
            memcpy(row + 3 * x, other, 3);
            memcpy(other, kept, 3);
        }
    }
}

static int part_of(int side, double keep)
{
    int part = (int)rint(side * keep);
    return part < 1 ? 1 : part > side ? side : part;
}

err augment_apply(image *out, const image *in, const augmentation *a)
{
    int width = part_of(in->width, a->keep), height = part_of(in->height, a->keep);
    int left = (int)((in->width - width) * a->left), top = (int)((in->height - height) * a->top);
    TRY(image_crop(out, in, left, top, width, height));
    if (a->gain[0] != 1 || a->gain[1] != 1 || a->gain[2] != 1 || a->saturation != 1)
        change_colour(out, a);
    err e = a->degrees != 0 ? rotate(out, a->degrees) : OK;
    if (e == OK && a->flip)
        mirror(out);
    if (e != OK)
        image_free(out);
    return e;
}
