/* A line chart as inline SVG: colours come from the page's style (classes line-NAME), so that it follows light and
 * dark. */
#ifndef MSD_TRAIN_CHART_H
#define MSD_TRAIN_CHART_H

#include <stdbool.h>
#include <stdint.h>

#include "train/html.h"

typedef struct chart_line {
    const char   *name;  /* in the legend, which is shown for more than one line */
    const char   *style; /* class: line-STYLE */
    const double *x, *y; /* (count), x rising; a y that is not finite is a gap */
    int64_t       count;
} chart_line;

enum { CHART_MOST_LINES = 6 };

typedef struct chart {
    const char      *title, *caption; /* markup of our own */
    const char      *unit;            /* of y, behind the title; "" */
    const chart_line *line;
    int              lines;
    bool             from_zero;       /* the y axis begins at 0 */
    bool             percent;         /* y are shares */
} chart;

/* Long lines are drawn by the least and greatest value of every pixel or so. Where a hundredth of the values would take
 * more than half of the height, they are cut off, and the caption says how many. Nothing is written for lines without a
 * finite value. */
void chart_write(html *h, const chart *c);

/* Positions of ticks within [low, high], about `wanted` of them, at multiples of 1, 2 or 5 times a power of ten; whole:
 * at whole numbers only. Returns how many, at most 12. */
int chart_ticks(double tick[12], double low, double high, int wanted, bool whole);

#endif
