/* Drawing on pictures: areas, frames, other pictures, text. What lies outside is cut off. */
#ifndef MSD_DATA_CANVAS_H
#define MSD_DATA_CANVAS_H

#include "data/image.h"

typedef struct colour {
    uint8_t red, green, blue;
} colour;

void canvas_fill(image *to, int left, int top, int width, int height, colour c);
/* The border of [left, right) x [top, bottom), `thick` pixels inwards. */
void canvas_frame(image *to, int left, int top, int right, int bottom, int thick, colour c);
/* Each pixel of `from` becomes zoom x zoom pixels. */
void canvas_picture(image *to, const image *from, int left, int top, int zoom);

/* One line of UTF-8 in letters of 5 x 7 dots of `scale` pixels; what is not ASCII is a box. */
void canvas_text(image *to, int left, int top, int scale, colour c, const char *text);
int  canvas_text_width(const char *text, int scale);
int  canvas_line_height(int scale);
/* Lines of at most `width` pixels, broken at spaces, or inside words that are longer. Returns their height; to NULL:
 * nothing is drawn. */
int  canvas_paragraph(image *to, int left, int top, int width, int scale, colour c, const char *text);

#endif
