#include "train/html.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/text.h"

static void add(html *h, const char *bytes, size_t size)
{
    if (h->size + size + 1 > h->room) {
        h->room = 2 * (h->size + size) + 256;
        h->text = heap_grow(h->text, h->room);
    }
    memcpy(h->text + h->size, bytes, size);
    h->size += size;
    h->text[h->size] = 0;
}

void html_raw(html *h, const char *markup)
{
    add(h, markup, strlen(markup));
}

void html_print(html *h, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length > 0)
        add(h, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
}

static void add_byte(html *h, char c)
{
    switch (c) {
    case '&': html_raw(h, "&amp;"); return;
    case '<': html_raw(h, "&lt;"); return;
    case '>': html_raw(h, "&gt;"); return;
    case '"': html_raw(h, "&quot;"); return;
    case '\'': html_raw(h, "&#39;"); return;
    default: break;
    }
    if (((unsigned char)c < 0x20 && c != '\n' && c != '\t') || c == 0x7F)
        html_raw(h, "\xEF\xBF\xBD");
    else
        add(h, &c, 1);
}

void html_text(html *h, const char *text)
{
    size_t size = strlen(text), at = 0;
    while (at < size) {
        size_t bad = size - at;
        text_utf8_valid(&bad, text + at, size - at);
        for (size_t end = at + bad; at < end; at++)
            add_byte(h, text[at]);
        if (at < size) {
            html_raw(h, "\xEF\xBF\xBD");
            at++;
        }
    }
}

void html_base64(html *h, const uint8_t *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t three =
            (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) | (left > 2 ? bytes[i + 2] : 0);
        char four[4] = {digits[three >> 18], digits[three >> 12 & 63], left > 1 ? digits[three >> 6 & 63] : '=',
                        left > 2 ? digits[three & 63] : '='};
        add(h, four, 4);
    }
}
