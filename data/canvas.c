#include "data/canvas.h"

#include <string.h>

#include "data/bitmap_font.h"

void canvas_fill(image *to, int left, int top, int width, int height, colour c)
{
    int right = left + width < to->width ? left + width : to->width;
    int bottom = top + height < to->height ? top + height : to->height;
    for (int y = top > 0 ? top : 0; y < bottom; y++) {
        for (int x = left > 0 ? left : 0; x < right; x++) {
            uint8_t *pixel = to->rgb + 3 * ((size_t)y * (size_t)to->width + (size_t)x);
            pixel[0] = c.red;
            pixel[1] = c.green;
            pixel[2] = c.blue;
        }
    }
}

void canvas_frame(image *to, int left, int top, int right, int bottom, int thick, colour c)
{
    canvas_fill(to, left, top, right - left, thick, c);
    canvas_fill(to, left, bottom - thick, right - left, thick, c);
    canvas_fill(to, left, top, thick, bottom - top, c);
    canvas_fill(to, right - thick, top, thick, bottom - top, c);
}

void canvas_picture(image *to, const image *from, int left, int top, int zoom)
{
    for (int y = 0; y < from->height; y++) {
        for (int x = 0; x < from->width; x++) {
            const uint8_t *pixel = from->rgb + 3 * ((size_t)y * (size_t)from->width + (size_t)x);
            canvas_fill(to, left + x * zoom, top + y * zoom, zoom, zoom, (colour){pixel[0], pixel[1], pixel[2]});
        }
    }
}

/* ---- text ---- */

enum { ADVANCE = FONT_WIDTH + 1, LINE = FONT_HEIGHT + 3 };

static bool continues(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

/* Characters of the first `bytes` bytes. */
static int letters(const char *text, size_t bytes)
{
    int count = 0;
    for (size_t i = 0; i < bytes; i++)
        count += !continues(text[i]);
    return count;
}

int canvas_text_width(const char *text, int scale)
{
    int count = letters(text, strlen(text));
    return count ? (count * ADVANCE - 1) * scale : 0;
}

int canvas_line_height(int scale)
{
    return LINE * scale;
}

static void draw_letter(image *to, int left, int top, int scale, colour c, char first)
{
    uint32_t code = (unsigned char)first;
    for (int y = 0; y < FONT_HEIGHT; y++)
        for (int x = 0; x < FONT_WIDTH; x++)
            if (bitmap_font_dot(code, x, y))
                canvas_fill(to, left + x * scale, top + y * scale, scale, scale, c);
}

static void draw_bytes(image *to, int left, int top, int scale, colour c, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (continues(text[i]))
            continue;
        draw_letter(to, left, top, scale, c, text[i]);
        left += ADVANCE * scale;
    }
}

void canvas_text(image *to, int left, int top, int scale, colour c, const char *text)
{
    draw_bytes(to, left, top, scale, c, text, strlen(text));
}

/* Bytes of the text that fit `room` letters: up to the last space, or as many as fit. */
static size_t fitting(const char *text, int room)
{
    size_t end = 0, space = 0;
    int count = 0;
    while (text[end] && text[end] != '\n') {
        size_t next = end + 1;
        while (continues(text[next]))
            next++;
        if (text[end] == ' ')
            space = end;
        if (++count > room)
            return text[end] == ' ' ? end : space ? space : end;
        end = next;
    }
    return end;
}

int canvas_paragraph(image *to, int left, int top, int width, int scale, colour c, const char *text)
{
    int room = (width / scale + 1) / ADVANCE, height = 0;
    if (room < 1)
        room = 1;
    while (*text) {
        size_t bytes = fitting(text, room);
        if (to)
            draw_bytes(to, left, top + height, scale, c, text, bytes);
        height += LINE * scale;
        text += bytes;
        if (*text == ' ' || *text == '\n')
            text++;
    }
    return height;
}
