/* What a file that is no readable picture seems to be, so that the message can say it. */
#ifndef MSD_DATA_PICTURE_KIND_H
#define MSD_DATA_PICTURE_KIND_H

#include <stddef.h>
#include <stdint.h>

/* "a GIF picture", "an HTML page", ...; by content; bytes may be NULL when size is 0. */
const char *picture_kind_text(const uint8_t *bytes, size_t size);

#endif
