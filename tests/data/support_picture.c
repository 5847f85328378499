#include "support_picture.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/hash.h"

static uint8_t sample(int x, int y, int c, int seed)
{
    int v = x * (7 + c) + y * (13 - c) + ((x * y * (c + 1)) >> 3);
    return (uint8_t)((v ^ (x * 31 + y * 57 + seed * 101)) & 255);
}

image picture_make(int width, int height)
{
    image out;
    assert_int_equal(image_new(&out, width, height), OK);
    uint8_t *p = out.rgb;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++)
                *p++ = sample(x, y, c, 0);
    return out;
}

grey_image picture_make_grey(int width, int height, int seed)
{
    grey_image out;
    assert_int_equal(grey_image_new(&out, width, height), OK);
    uint8_t *p = out.grey;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            *p++ = sample(x, y, 0, seed);
    return out;
}

json_t *picture_goldens(void)
{
    json_error_t problem;
    json_t *goldens = json_load_file(MSD_GOLDENS "/images/images.json", 0, &problem);
    if (!goldens)
        fail_msg("images.json:%d: %s", problem.line, problem.text);
    return goldens;
}

int golden_int(const json_t *list, size_t index)
{
    const json_t *number = json_array_get(list, index);
    assert_true(json_is_integer(number));
    return (int)json_integer_value(number);
}

void expect_hash(const void *bytes, size_t size, const json_t *golden, const char *key, const char *what)
{
    char found[17];
    const char *wanted = json_string_value(json_object_get(golden, key));
    assert_non_null(wanted);
    snprintf(found, sizeof found, "%016" PRIx64, hash_fnv1a(bytes, size));
    if (strcmp(found, wanted))
        fail_msg("%s: %s: hash %s, golden %s", what, key, found, wanted);
}
