/* Drawing: dots where they belong, nothing outside of the picture, lines broken where they should be; and the pictures
 * that are drawn from what the networks take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/bitmap_font.h"
#include "data/canvas.h"
#include "data/preprocess.h"

static const colour white = {255, 255, 255};

static int lit(const image *p)
{
    int count = 0;
    for (size_t i = 0; i < (size_t)p->width * (size_t)p->height; i++)
        count += p->rgb[3 * i] > 0;
    return count;
}

static void letters_differ(void **state)
{
    (void)state;
    uint64_t drawn[128] = {0};
    for (uint32_t code = 32; code < 128; code++) /* 127: the box */
        for (int y = 0; y < FONT_HEIGHT; y++)
            for (int x = 0; x < FONT_WIDTH; x++)
                drawn[code] = drawn[code] << 1 | bitmap_font_dot(code, x, y);
    assert_int_equal(drawn[' '], 0);
    for (int a = 32; a < 128; a++)
        for (int b = 32; b < a; b++)
            assert_true(drawn[a] != drawn[b]);
    assert_true(bitmap_font_dot(0x72ac, 0, 3) && !bitmap_font_dot(0x72ac, 2, 3) && !bitmap_font_dot('A', 5, 0));
    assert_true(!bitmap_font_dot('L', 4, 0) && bitmap_font_dot('L', 0, 0) && bitmap_font_dot('L', 4, 6)); /* not mirrored */
}

static void drawing_stays_inside(void **state)
{
    (void)state;
    image p, small;
    assert_int_equal(image_new(&p, 10, 8), OK);
    assert_int_equal(image_new(&small, 2, 2), OK);
    memset(small.rgb, 255, 12);
    canvas_fill(&p, -5, -5, 7, 7, white); /* a 2 x 2 corner */
    assert_int_equal(lit(&p), 4);
    canvas_picture(&p, &small, 8, 6, 3); /* 6 x 6, of which 2 x 2 are inside */
    assert_int_equal(lit(&p), 8);
    canvas_frame(&p, 2, 2, 7, 6, 1, white); /* 5 x 4, hollow: 14 */
    assert_int_equal(lit(&p), 22);
    canvas_text(&p, 5, 4, 4, white, "#####");
    canvas_text(&p, -100, -100, 2, white, "A");
    image_free(&p);
    image_free(&small);
}

static void lines_break_at_spaces(void **state)
{
    (void)state;
    int line = canvas_line_height(2);
    assert_int_equal(canvas_text_width("ab", 2), 22);
    assert_int_equal(canvas_text_width("\xe7\x8a\xac\xc3\xa9", 1), 11); /* two characters */
    assert_int_equal(canvas_paragraph(NULL, 0, 0, 5 * 12, 2, white, "ab cd ef"), 2 * line);
    assert_int_equal(canvas_paragraph(NULL, 0, 0, 5 * 12, 2, white, "ab cdef g"), 3 * line);
    assert_int_equal(canvas_paragraph(NULL, 0, 0, 5 * 12, 2, white, "abcdefghijk"), 3 * line);
    assert_int_equal(canvas_paragraph(NULL, 0, 0, 5 * 12, 2, white, "ab\n\ncd"), 3 * line);
    assert_int_equal(canvas_paragraph(NULL, 0, 0, 1, 2, white, "\xe7\x8a\xac b"), 2 * line); /* one letter a line at least */
    assert_int_equal(canvas_paragraph(NULL, 0, 0, 100, 2, white, ""), 0);
}

/* Pictures of every byte come back as they were from both forms. */
static void pictures_come_back(void **state)
{
    (void)state;
    image p, back;
    assert_int_equal(image_new(&p, 16, 16), OK);
    for (int i = 0; i < 3 * 256; i++)
        p.rgb[i] = (uint8_t)(i * 7 + i / 3);
    float *values = calloc(3 * 256, sizeof *values);
    target_frame f = target_frame_center(16, 16, 16, 16);
    assert_int_equal(preprocess_target(values, &p, &f), OK);
    assert_int_equal(preprocess_target_picture(&back, values, 16, 16), OK);
    assert_memory_equal(back.rgb, p.rgb, 3 * 256);
    image_free(&back);
    assert_int_equal(preprocess_clip(values, &p, 16), OK);
    assert_int_equal(preprocess_clip_picture(&back, values, 16), OK);
    assert_memory_equal(back.rgb, p.rgb, 3 * 256);
    image_free(&back);
    image_free(&p);
    free(values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters_differ),
        cmocka_unit_test(drawing_stays_inside),
        cmocka_unit_test(lines_break_at_spaces),
        cmocka_unit_test(pictures_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
