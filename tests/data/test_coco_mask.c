/* COCO's segmentations drawn as masks: polygons, run lengths as a list and packed into text, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "data/coco_mask.h"

static json_t *parsed(const char *text)
{
    json_error_t error;
    json_t *out = json_loads(text, JSON_DECODE_ANY, &error);
    assert_non_null(out);
    return out;
}

/* Draws `text` in a picture of width x height and compares with rows of '#' and '.'. */
static void expect_mask(const char *text, int width, int height, const char *rows)
{
    image mask;
    json_t *segmentation = parsed(text);
    assert_int_equal(coco_mask(&mask, segmentation, width, height), OK);
    for (int i = 0; i < width * height; i++) {
        int wanted = rows[i] == '#' ? 255 : 0;
        for (int c = 0; c < 3; c++)
            if (mask.rgb[3 * i + c] != wanted)
                fail_msg("%s: x %d, y %d: %d, expected %d", text, i % width, i / width, mask.rgb[3 * i + c], wanted);
    }
    image_free(&mask);
    json_decref(segmentation);
}

static void expect_refused(const char *text)
{
    image mask;
    json_t *segmentation = parsed(text);
    if (coco_mask(&mask, segmentation, 5, 4) != E_FORMAT)
        fail_msg("%s is taken", text);
    json_decref(segmentation);
}

static void test_polygons(void **state)
{
    (void)state;
    expect_mask("[[1,1, 4,1, 4,3, 1,3]]", 5, 4,
                "....."
                ".###."
                ".###."
                ".....");
    /* a triangle whose long side meets centres: they are outside; two polygons are united; parts outside are cut off */
    expect_mask("[[0,0, 4,0, 0,4]]", 5, 4,
                "###.."
                "##..."
                "#...."
                ".....");
    expect_mask("[[0,0, 2,0, 2,2, 0,2], [1,1, 9,1, 9,9, 1,9]]", 5, 4,
                "##..."
                "#####"
                ".####"
                ".####");
    expect_mask("[[-5,-5, -4,-5, -4,-4], [1e300,0, 1e300,4, 1e301,4]]", 5, 4, "....................");
}

/* Columns of four. Packed: from the fourth on each number less the one before last (2 - 3 is -1, the letter O), in
 * groups of five bits. */
static void test_runs(void **state)
{
    (void)state;
    const char *rows = "....."
                       ".##.."
                       ".##.."
                       ".#...";
    expect_mask("{\"size\": [4, 5], \"counts\": [5, 3, 1, 2, 9]}", 5, 4, rows);
    expect_mask("{\"size\": [4, 5], \"counts\": \"531O8\"}", 5, 4, rows);
    /* two characters for a number beyond 15, whose fifth bit would read as a sign */
    expect_mask("{\"size\": [4, 5], \"counts\": \"d0\"}", 5, 4, "....................");
    expect_mask("{\"size\": [4, 5], \"counts\": \"0d0\"}", 5, 4, "####################");
}

static void test_refused(void **state)
{
    (void)state;
    const char *const bad[] = {
        "7", "[]", "[[1, 2]]", "[[1, 2, 3, 4, 5]]", "[[1, 2, 3, 4, \"x\", 6]]", "[7]", "{}",
        "{\"size\": [5, 4], \"counts\": [20]}", "{\"size\": [4, 5], \"counts\": [19]}",
        "{\"size\": [4, 5], \"counts\": [21]}", "{\"size\": [4, 5], \"counts\": [-1, 21]}",
        "{\"size\": [4, 5], \"counts\": [20.0]}", "{\"size\": [4, 5], \"counts\": [9223372036854775807, 21]}",
        "{\"size\": [4, 5], \"counts\": \"T\"}", "{\"size\": [4, 5], \"counts\": \"oooooooooooooooo\"}",
        "{\"size\": [4, 5], \"counts\": \" \"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_refused(bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_polygons),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
