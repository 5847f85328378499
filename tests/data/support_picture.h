/* The picture that tests/reference/make_images.py makes by the same formula, and readers of its goldens. */
#ifndef TESTS_DATA_SUPPORT_PICTURE_H
#define TESTS_DATA_SUPPORT_PICTURE_H

#include <jansson.h>
#include <stdint.h>

#include "data/image.h"

image      picture_make(int width, int height);
grey_image picture_make_grey(int width, int height, int seed);
json_t    *picture_goldens(void); /* images.json */
int        golden_int(const json_t *list, size_t index);

/* Fails the test unless the bytes' FNV-1a hash is the golden's `key`. */
void expect_hash(const void *bytes, size_t size, const json_t *golden, const char *key, const char *what);

#endif
