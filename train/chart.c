#include "train/chart.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

/* Of the drawing, in units that are pixels at its natural size. */
enum { WIDTH = 440, HEIGHT = 230, LEFT = 54, RIGHT = 12, TOP = 8, BOTTOM = 36, DETAIL = 380, FEW = 24 };

typedef struct frame {
    double x0, x1, y0, y1;
    int64_t cut; /* values outside */
} frame;

/* ---- the axes ---- */

int chart_ticks(double tick[12], double low, double high, int wanted, bool whole)
{
    if (!(high > low) || wanted < 1)
        return 0;
    double raw = (high - low) / wanted, power = pow(10, floor(log10(raw))), share = raw / power;
    double step = power * (share <= 1 ? 1 : share <= 2 ? 2 : share <= 5 ? 5 : 10);
    if (whole && step < 1)
        step = 1;
    int count = 0;
    for (double at = ceil(low / step - 1e-9); at * step <= high + 1e-9 * step && count < 12; at++)
        tick[count++] = at == 0 ? 0 : at * step;
    return count;
}

static const char *tick_text(char out[32], double v, bool percent)
{
    double size = fabs(v);
    if (percent)
        snprintf(out, 32, "%.4g %%", 100 * v);
    else if (size >= 1e6)
        snprintf(out, 32, "%.4gM", v / 1e6);
    else if (size >= 1e4)
        snprintf(out, 32, "%.4gk", v / 1e3);
    else if (size > 0 && size < 1e-3)
        snprintf(out, 32, "%.2g", v);
    else
        snprintf(out, 32, "%.4g", v);
    return out;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* All finite values of all lines, sorted; heap. */
static double *sorted_values(int64_t *count, const chart *c)
{
    int64_t all = 0;
    for (int i = 0; i < c->lines; i++)
        all += c->line[i].count;
    double *value = heap_get((size_t)(all + 1) * sizeof *value);
    *count = 0;
    for (int i = 0; i < c->lines; i++)
        for (int64_t k = 0; k < c->line[i].count; k++)
            if (isfinite(c->line[i].y[k]))
                value[(*count)++] = c->line[i].y[k];
    qsort(value, (size_t)*count, sizeof *value, by_value);
    return value;
}

static void frame_y(frame *f, const chart *c, const double *value, int64_t count)
{
    int64_t edge = count / 100;
    double low = value[0], high = value[count - 1], most = value[count - 1 - edge], least = value[edge];
    if (most - low < 0.5 * (high - low))
        high = most + 0.1 * (most - low);
    if (!c->from_zero && high - least < 0.5 * (high - low))
        low = least - 0.1 * (high - least);
    if (c->from_zero)
        low = 0;
    double pad = high > low ? 0.05 * (high - low) : high != 0 ? 0.1 * fabs(high) : 1;
    f->y0 = c->from_zero ? 0 : low - pad;
    f->y1 = c->percent && high + pad < 0.01 ? 0.01 : high + pad; /* thousandths of a share are noise */
    for (int64_t i = 0; i < count; i++)
        f->cut += value[i] > f->y1 || value[i] < f->y0;
}

static void frame_x(frame *f, const chart *c)
{
    f->x0 = INFINITY;
    f->x1 = -INFINITY;
    for (int i = 0; i < c->lines; i++) {
        if (!c->line[i].count)
            continue;
        f->x0 = fmin(f->x0, c->line[i].x[0]);
        f->x1 = fmax(f->x1, c->line[i].x[c->line[i].count - 1]);
    }
    if (!(f->x1 > f->x0)) {
        f->x0 -= 1;
        f->x1 += 1;
    }
}

static double at_x(const frame *f, double x)
{
    return LEFT + (x - f->x0) / (f->x1 - f->x0) * (WIDTH - LEFT - RIGHT);
}

static double at_y(const frame *f, double y)
{
    double down = (f->y1 - y) / (f->y1 - f->y0);
    down = down < -0.05 ? -0.05 : down > 1.05 ? 1.05 : down; /* the rest is clipped */
    return TOP + down * (HEIGHT - TOP - BOTTOM);
}

static void write_axes(html *h, const chart *c, const frame *f)
{
    double tick[12];
    char text[32];
    int count = chart_ticks(tick, f->y0, f->y1, 5, false);
    for (int i = 0; i < count; i++)
        html_print(h,
                   "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
                   "<text class=\"y\" x=\"%d\" y=\"%.1f\">%s</text>",
                   LEFT, WIDTH - RIGHT, at_y(f, tick[i]), at_y(f, tick[i]), LEFT - 6, at_y(f, tick[i]) + 4,
                   tick_text(text, tick[i], c->percent));
    count = chart_ticks(tick, f->x0, f->x1, 5, true);
    for (int i = 0; i < count; i++)
        html_print(h,
                   "<line class=\"tick\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/><text class=\"x\" x=\"%.1f\" "
                   "y=\"%d\">%s</text>",
                   at_x(f, tick[i]), at_x(f, tick[i]), HEIGHT - BOTTOM, HEIGHT - BOTTOM + 4, at_x(f, tick[i]),
                   HEIGHT - BOTTOM + 16, tick_text(text, tick[i], false));
    html_print(
        h,
        "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/><text class=\"x\" x=\"%d\" y=\"%d\">step</text>",
        LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 3);
}

/* ---- the lines ---- */

static void write_point(html *h, const frame *f, double x, double y, bool *open)
{
    html_print(h, "%s%.1f %.1f", *open ? "L" : "M", at_x(f, x), at_y(f, y));
    *open = true;
}

/* Points [from, to): all of them, or the least and greatest in their order. */
static void write_span(html *h, const frame *f, const chart_line *l, int64_t from, int64_t to, bool *open)
{
    int64_t least = -1, most = -1;
    for (int64_t i = from; i < to; i++) {
        if (!isfinite(l->y[i])) {
            *open = *open && to - from > 1; /* a gap shows where every point does */
            continue;
        }
        least = least < 0 || l->y[i] < l->y[least] ? i : least;
        most = most < 0 || l->y[i] > l->y[most] ? i : most;
    }
    if (least < 0)
        return;
    int64_t first = least < most ? least : most, second = least < most ? most : least;
    write_point(h, f, l->x[first], l->y[first], open);
    if (second != first)
        write_point(h, f, l->x[second], l->y[second], open);
}

static void write_line(html *h, const frame *f, const chart_line *l)
{
    int64_t width = l->count > 2 * DETAIL ? (l->count + DETAIL - 1) / DETAIL : 1;
    bool open = false;
    html_print(h, "<path class=\"line-%s\" d=\"", l->style);
    for (int64_t i = 0; i < l->count; i += width)
        write_span(h, f, l, i, i + width < l->count ? i + width : l->count, &open);
    html_raw(h, "\"/>");
    for (int64_t i = 0; i < l->count && l->count <= FEW; i++)
        if (isfinite(l->y[i]))
            html_print(
                h,
                "<circle class=\"line-%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\"><title>step %.0f: %.5g</title></circle>",
                l->style, at_x(f, l->x[i]), at_y(f, l->y[i]), l->x[i], l->y[i]);
}

static void write_legend(html *h, const chart *c)
{
    if (c->lines < 2)
        return;
    html_raw(h, "<p class=\"legend\">");
    for (int i = 0; i < c->lines; i++)
        html_print(h,
                   "<span><svg viewBox=\"0 0 18 8\" width=\"18\" height=\"8\" aria-hidden=\"true\"><path "
                   "class=\"line-%s\" d=\"M0 4L18 4\"/>"
                   "</svg> %s</span>",
                   c->line[i].style, c->line[i].name);
    html_raw(h, "</p>");
}

void chart_write(html *h, const chart *c)
{
    frame f = {0};
    int64_t count;
    double *value = sorted_values(&count, c);
    if (count) {
        frame_x(&f, c);
        frame_y(&f, c, value, count);
        html_print(h, "<figure><h3>%s%s%s%s</h3>", c->title, c->unit[0] ? " <small>" : "", c->unit,
                   c->unit[0] ? "</small>" : "");
        write_legend(h, c);
        html_print(h, "<svg class=\"chart\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s by step\">", WIDTH,
                   HEIGHT, c->title);
        write_axes(h, c, &f);
        html_print(h, "<svg x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" viewBox=\"%d %d %d %d\">", LEFT - 3, TOP - 3,
                   WIDTH - LEFT - RIGHT + 6, HEIGHT - TOP - BOTTOM + 6, LEFT - 3, TOP - 3, WIDTH - LEFT - RIGHT + 6,
                   HEIGHT - TOP - BOTTOM + 6);
        for (int i = 0; i < c->lines; i++)
            write_line(h, &f, &c->line[i]);
        html_raw(h, "</svg></svg><figcaption>");
        html_raw(h, c->caption);
        if (f.cut)
            html_print(h, " %" PRId64 " value%s outside the frame.", f.cut, f.cut == 1 ? " lies" : "s lie");
        html_raw(h, "</figcaption></figure>\n");
    }
    free(value);
}
