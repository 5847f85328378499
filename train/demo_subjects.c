#include "train/demo_subjects.h"

#include <ctype.h>
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "data/resize.h"

enum { MAX_SUBJECTS = 1000, MAX_DEPTH = 4, SAMPLES = 4 };

typedef enum shape { SHAPE_CIRCLE, SHAPE_SQUARE, SHAPE_TRIANGLE, SHAPE_RING, SHAPE_COUNT } shape;

static const char *const shape_names[SHAPE_COUNT] = {"circle", "square", "triangle", "ring"};

static const struct {
    const char *name;
    uint8_t     rgb[3];
} colours[] = {{"red", {205, 40, 45}}, {"blue", {40, 80, 200}}, {"green", {40, 150, 70}}, {"yellow", {235, 195, 40}}};
enum { COLOUR_COUNT = sizeof colours / sizeof *colours };

/* ---- photographs ---- */

static bool is_picture(const char *name)
{
    static const char *const endings[] = {".png", ".jpg", ".jpeg", ".webp"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (!strcasecmp(dot, endings[i]))
            return true;
    return false;
}

static void add_photograph(demo_subjects *s, arena *memory, const char *path, const char *file)
{
    demo_subject *d = &s->item[s->count++];
    char *name = arena_copy_string(memory, file);
    *strrchr(name, '.') = 0;
    char *phrase = arena_copy_string(memory, name);
    for (size_t n = strlen(phrase); n > 1 && isdigit((unsigned char)phrase[n - 1]); n--)
        phrase[n - 1] = 0;
    for (char *c = phrase; *c; c++)
        if (*c == '_')
            *c = ' ';
    /* numbered: two folders may hold a cat.jpg each */
    *d = (demo_subject){.phrase = phrase, .name = arena_print(memory, "%03d_%s", s->count, name), 
                        .photograph = arena_copy_string(memory, path)};
}

static err search(demo_subjects *s, arena *memory, const char *folder, int depth)
{
    struct dirent **entry = NULL;
    int n = scandir(folder, &entry, NULL, alphasort);
    if (n < 0)
        return err_set(E_IO, "%s: cannot list this folder; give a folder of pictures", folder);
    err e = OK;
    for (int i = 0; i < n; i++) {
        const char *name = entry[i]->d_name;
        char *path = path_join(folder, name);
        if (name[0] == '.')
            ; /* hidden files, . and .. */
        else if (folder_exists(path) && depth < MAX_DEPTH && e == OK)
            e = search(s, memory, path, depth + 1);
        else if (is_picture(name) && s->count < MAX_SUBJECTS)
            add_photograph(s, memory, path, name);
        free(path);
        free(entry[i]);
    }
    free(entry);
    return e;
}

err demo_subjects_find(demo_subjects *out, arena *memory, const char *photos)
{
    *out = (demo_subjects){.item = ARENA_ARRAY(memory, demo_subject, MAX_SUBJECTS)};
    TRY(search(out, memory, photos, 0));
    if (out->count < 2)
        return err_set(E_DATASET, "%s: found %d pictures (.png, .jpg, .webp), at least 2 are needed", photos, out->count);
    return OK;
}

/* ---- shapes ---- */

void demo_subjects_shapes(demo_subjects *out, arena *memory)
{
    *out = (demo_subjects){.item = ARENA_ARRAY(memory, demo_subject, SHAPE_COUNT * COLOUR_COUNT)};
    for (int i = 0; i < SHAPE_COUNT * COLOUR_COUNT; i++) {
        int form = i / COLOUR_COUNT, colour = i % COLOUR_COUNT;
        out->item[out->count++] = (demo_subject){
            .phrase = arena_print(memory, "%s %s", colours[colour].name, shape_names[form]),
            .name = arena_print(memory, "%s_%s", colours[colour].name, shape_names[form]),
            .shape = form, .colour = colour};
    }
}

/* Whether the point (u, v) of the unit square lies in the shape. */
static bool inside(shape s, double u, double v)
{
    double r = hypot(u - 0.5, v - 0.5);
    switch (s) {
    case SHAPE_CIRCLE: return r <= 0.5;
    case SHAPE_RING: return r <= 0.5 && r >= 0.28;
    case SHAPE_TRIANGLE: return fabs(u - 0.5) <= v / 2;
    default: return true;
    }
}

/* Share of the pixel (column, row) of a width x height box that the shape covers. */
static double coverage(shape s, int column, int row, int width, int height)
{
    int hits = 0;
    for (int i = 0; i < SAMPLES; i++)
        for (int j = 0; j < SAMPLES; j++)
            hits += inside(s, (column + (j + 0.5) / SAMPLES) / width, (row + (i + 0.5) / SAMPLES) / height);
    return (double)hits / (SAMPLES * SAMPLES);
}

static void paste_shape(image *target, const demo_subject *s, int x, int y, int width, int height)
{
    for (int row = 0; row < height; row++) {
        for (int column = 0; column < width; column++) {
            double share = coverage((shape)s->shape, column, row, width, height);
            uint8_t *pixel = target->rgb + 3 * ((size_t)(y + row) * (size_t)target->width + (size_t)(x + column));
            for (int c = 0; c < 3; c++)
                pixel[c] = (uint8_t)lround(share * colours[s->colour].rgb[c] + (1 - share) * pixel[c]);
        }
    }
}

/* ---- both ---- */

static err load_resized(image *out, const demo_subject *s, int width, int height)
{
    image whole;
    TRY(err_as(image_load(&whole, s->photograph, NULL), E_DATASET));
    err e = image_resize(out, &whole, width, height, RESIZE_BICUBIC);
    image_free(&whole);
    return e;
}

static err photograph_reference(image *out, const demo_subject *s, int side)
{
    image_header h;
    TRY(err_as(image_probe(&h, s->photograph, NULL), E_DATASET));
    int width = image_header_width(&h), height = image_header_height(&h), longest = width > height ? width : height;
    double factor = longest > side ? (double)side / longest : 1;
    int w = (int)lround(width * factor), t = (int)lround(height * factor);
    return load_resized(out, s, w > 0 ? w : 1, t > 0 ? t : 1);
}

err demo_subject_reference(image *out, const demo_subject *s, int side)
{
    if (s->photograph)
        return photograph_reference(out, s, side);
    TRY(image_new(out, side, side));
    memset(out->rgb, 255, 3 * (size_t)side * (size_t)side);
    int margin = side / 8;
    paste_shape(out, s, margin, margin, side - 2 * margin, side - 2 * margin);
    return OK;
}

err demo_subject_paste(image *target, const demo_subject *s, int x, int y, int width, int height)
{
    CHECK(x >= 0 && y >= 0 && width > 0 && height > 0 && x + width <= target->width && y + height <= target->height,
          "rectangle %d,%d %dx%d in %dx%d", x, y, width, height, target->width, target->height);
    if (!s->photograph) {
        paste_shape(target, s, x, y, width, height);
        return OK;
    }
    image part;
    TRY(load_resized(&part, s, width, height));
    for (int row = 0; row < height; row++)
        memcpy(target->rgb + 3 * ((size_t)(y + row) * (size_t)target->width + (size_t)x),
               part.rgb + 3 * (size_t)row * (size_t)width, 3 * (size_t)width);
    image_free(&part);
    return OK;
}
