/* Text of an HTML page as it grows; everything that is not our own markup goes through html_text. */
#ifndef MSD_TRAIN_HTML_H
#define MSD_TRAIN_HTML_H

#include <stddef.h>
#include <stdint.h>

typedef struct html {
    char  *text; /* heap, NUL-terminated once something was added; free() it */
    size_t size, room;
} html;

void html_raw(html *h, const char *markup);
/* Markup with numbers and our own words. */
void html_print(html *h, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A stranger's text, for between tags and within quoted attributes: & < > " ' are escaped, control bytes (but newline
 * and tab) and bytes that are not UTF-8 become U+FFFD. */
void html_text(html *h, const char *text);
void html_base64(html *h, const uint8_t *bytes, size_t size);

#endif
