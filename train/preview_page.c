#include "train/preview_page.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data/bitmap_font.h"
#include "data/canvas.h"
#include "data/resize.h"

enum { MARGIN = 14, TARGET = 512, REFERENCE = 224, FRAME = 3, TEXT = 2, SMALL = 1, LABEL = 512, COLOURS = 8 };

static const colour paper = {250, 250, 247}, ink = {25, 25, 28}, grey = {110, 110, 115}, warn = {190, 60, 20}, white = {255, 255, 255};

/* Of about the same lightness, told apart by people who see red and green alike too (order after Okabe and Ito). */
static colour subject_colour(int j)
{
    static const colour of[COLOURS] = {{213, 94, 0},   {0, 114, 178},  {0, 140, 100}, {170, 50, 140},
                                       {150, 120, 0},  {70, 60, 190},  {120, 70, 40}, {60, 100, 110}};
    return of[j % COLOURS];
}

static int at_least_one(int n)
{
    return n > 1 ? n : 1;
}

/* Small pictures are enlarged by whole pixels. */
static int zoom_of(const image *picture, int side)
{
    return at_least_one(side / (picture->width > picture->height ? picture->width : picture->height));
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* No more letters than fit the width. */
static void shorten(char *label, int width)
{
    size_t most = (size_t)at_least_one(width / ((FONT_WIDTH + 1) * TEXT));
    if (strlen(label) > most)
        label[most] = 0;
}

static bool is_absent(const float b[4])
{
    return !(b[0] < b[2] && b[1] < b[3]);
}

/* ---- the target ---- */

/* A strip of the subject's colour with its number and phrase, above the box, or inside where there is no room. */
static void draw_label(image *to, const char *label, int left, int top, const image *bounds, int x0, int y0, colour c)
{
    int width = canvas_text_width(label, TEXT) + 4 * TEXT, height = canvas_line_height(TEXT);
    int y = y0 - height >= 0 ? y0 - height : y0;
    if (x0 + width > bounds->width)
        x0 = bounds->width > width ? bounds->width - width : 0;
    if (width > bounds->width)
        width = bounds->width;
    canvas_fill(to, left + x0, top + y, width, height, c);
    canvas_text(to, left + x0 + 2 * TEXT, top + y + TEXT, TEXT, white, label);
}

static void draw_target(image *to, int left, int top, const preview_sample *s)
{
    int zoom = zoom_of(s->target, TARGET);
    image shown = {.width = s->target->width * zoom, .height = s->target->height * zoom};
    canvas_picture(to, s->target, left, top, zoom);
    for (int pass = 0; pass < 2; pass++) { /* labels over all frames */
        for (int j = 0; j < s->view->subjects; j++) {
            const subject_view *u = &s->view->subject[j];
            char label[LABEL];
            int x0 = (int)lrintf(u->box[0] * (float)shown.width), y0 = (int)lrintf(u->box[1] * (float)shown.height);
            int x1 = (int)lrintf(u->box[2] * (float)shown.width), y1 = (int)lrintf(u->box[3] * (float)shown.height);
            snprintf(label, sizeof label, "%d %s", j + 1, u->words);
            shorten(label, shown.width - 4 * TEXT);
            if (is_absent(u->box))
                continue;
            if (pass == 0)
                canvas_frame(to, left + x0, top + y0, left + x1, top + y1, FRAME, subject_colour(j));
            else
                draw_label(to, label, left, top, &shown, x0, y0, subject_colour(j));
        }
    }
}

/* ---- the references ---- */

typedef struct cells {
    int side, height, rows, columns; /* of a reference with its notes; how they lie */
} cells;

static cells cells_of(const preview_sample *s, int target_height)
{
    cells c = {.side = REFERENCE, .rows = 1};
    if (s->view->subjects)
        c.side = s->references[0].width * zoom_of(&s->references[0], REFERENCE);
    c.height = c.side + 4 * FRAME + canvas_line_height(TEXT) + 3 * canvas_line_height(SMALL) + MARGIN;
    c.rows = at_least_one((target_height + target_height / 4 + MARGIN) / c.height); /* may be somewhat higher than the target */
    if (c.rows > s->view->subjects)
        c.rows = at_least_one(s->view->subjects);
    c.columns = (s->view->subjects + c.rows - 1) / c.rows;
    return c;
}

static void draw_reference(image *to, int left, int top, const preview_sample *s, int j, const cells *c)
{
    const subject_view *u = &s->view->subject[j];
    const image *picture = &s->references[j];
    char label[LABEL], notes[2 * LABEL];
    int outer = c->side + 2 * FRAME;
    canvas_frame(to, left, top, left + outer, top + outer, FRAME, subject_colour(j));
    canvas_picture(to, picture, left + FRAME, top + FRAME, zoom_of(picture, REFERENCE));
    top += outer + FRAME;
    snprintf(label, sizeof label, "%d %s", j + 1, u->words);
    shorten(label, outer);
    canvas_text(to, left, top, TEXT, subject_colour(j), label);
    top += canvas_line_height(TEXT);
    snprintf(notes, sizeof notes, "%.40s%s, (%.0f,%.0f)-(%.0f,%.0f)%s\n%s", u->own ? "cut from the target" : name_of(u->picture),
             u->mask ? ", masked" : "", u->crop.x0, u->crop.y0, u->crop.x1, u->crop.y1,
             u->augmented ? ", augmented" : "", is_absent(u->box) ? "its box lies outside of the target's crop" : "");
    canvas_paragraph(to, left, top, outer, SMALL, is_absent(u->box) ? warn : grey, notes);
}

/* ---- the page ---- */

static const char *drop_note(const drops *d)
{
    return d->text && d->image ? "this step drops text and references: empty prompt, mean colour"
           : d->text           ? "this step drops the text: empty prompt"
           : d->image          ? "this step drops the references: mean colour"
                               : NULL;
}

static int write_text(image *to, int left, int top, int width, const preview_sample *s)
{
    const char *note = drop_note(&s->drop);
    int height = canvas_paragraph(to, left, top, width, TEXT, ink, s->view->text[0] ? s->view->text : "(no text)");
    height += MARGIN / 2;
    height += canvas_paragraph(to, left, top + height, width, SMALL, grey, s->facts);
    if (note)
        height += canvas_paragraph(to, left, top + height, width, SMALL, warn, note);
    if (s->drop.grounding)
        height += canvas_paragraph(to, left, top + height, width, SMALL, warn, "this step drops the grounding: learned queries");
    return height;
}

err preview_page(image *out, const preview_sample *s)
{
    int zoom = zoom_of(s->target, TARGET), width = s->target->width * zoom, height = s->target->height * zoom;
    cells c = cells_of(s, height);
    int right = width + c.columns * (c.side + 2 * FRAME + MARGIN);
    if (right < TARGET)
        right = TARGET;
    int body = c.columns && c.rows * c.height - MARGIN > height ? c.rows * c.height - MARGIN : height;
    int head = canvas_paragraph(NULL, 0, 0, right, SMALL, grey, s->title) + MARGIN / 2;
    int foot = write_text(NULL, 0, 0, right, s);
    TRY(image_new(out, right + 2 * MARGIN, head + body + foot + 3 * MARGIN));
    canvas_fill(out, 0, 0, out->width, out->height, paper);
    canvas_paragraph(out, MARGIN, MARGIN, right, SMALL, grey, s->title);
    draw_target(out, MARGIN, MARGIN + head, s);
    for (int j = 0; j < s->view->subjects; j++)
        draw_reference(out, MARGIN + width + MARGIN + j / c.rows * (c.side + 2 * FRAME + MARGIN),
                       MARGIN + head + j % c.rows * c.height, s, j, &c);
    write_text(out, MARGIN, 2 * MARGIN + head + body, right, s);
    return OK;
}

/* ---- the sheet ---- */

err preview_thumbnail(image *out, const preview_sample *s, int side)
{
    int longer = s->target->width > s->target->height ? s->target->width : s->target->height;
    int width = at_least_one(s->target->width * side / longer), height = at_least_one(s->target->height * side / longer);
    TRY(image_resize(out, s->target, width, height, RESIZE_BILINEAR));
    for (int j = 0; j < s->view->subjects; j++) {
        const float *b = s->view->subject[j].box;
        if (!is_absent(b))
            canvas_frame(out, (int)(b[0] * (float)width), (int)(b[1] * (float)height), (int)(b[2] * (float)width),
                         (int)(b[3] * (float)height), 2, subject_colour(j));
    }
    return OK;
}

err preview_sheet(image *out, const image *thumbnail, int count, int side)
{
    int columns = at_least_one((int)ceil(sqrt(count))), rows = (count + columns - 1) / columns, cell = side + MARGIN;
    TRY(image_new(out, columns * cell + MARGIN, rows * cell + MARGIN));
    canvas_fill(out, 0, 0, out->width, out->height, paper);
    for (int i = 0; i < count; i++)
        canvas_picture(out, &thumbnail[i], MARGIN + i % columns * cell + (side - thumbnail[i].width) / 2,
                       MARGIN + i / columns * cell + (side - thumbnail[i].height) / 2, 1);
    return OK;
}
