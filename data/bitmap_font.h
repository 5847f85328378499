/* Letters for notes on pictures: ASCII 32..126, 5 dots wide and 7 high. */
#ifndef MSD_DATA_BITMAP_FONT_H
#define MSD_DATA_BITMAP_FONT_H

#include <stdbool.h>
#include <stdint.h>

enum { FONT_WIDTH = 5, FONT_HEIGHT = 7 };

/* Whether the dot at column x, row y is set. A code that is not printable ASCII is a hollow box. */
bool bitmap_font_dot(uint32_t code, int x, int y);

#endif
