#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "data/resize.h"
#include "support_picture.h"

static resize_filter filter_named(const char *name)
{
    return !strcmp(name, "bilinear") ? RESIZE_BILINEAR : !strcmp(name, "bicubic") ? RESIZE_BICUBIC : RESIZE_LANCZOS;
}

/* Every bit as Pillow's, in 26 pairs of sizes (to and from one pixel, up, down, one side alone) by 3 filters. */
static void test_equals_pillow(void **state)
{
    json_t *goldens = *state, *g;
    size_t i;
    json_array_foreach(json_object_get(goldens, "resize"), i, g) {
        json_t *from = json_object_get(g, "from"), *to = json_object_get(g, "to");
        int w = golden_int(from, 0), h = golden_int(from, 1), nw = golden_int(to, 0), nh = golden_int(to, 1);
        const char *name = json_string_value(json_object_get(g, "filter"));
        char what[96];
        snprintf(what, sizeof what, "%dx%d to %dx%d %s", w, h, nw, nh, name);
        image in = picture_make(w, h), out;
        assert_int_equal(image_resize(&out, &in, nw, nh, filter_named(name)), OK);
        expect_hash(out.rgb, 3 * (size_t)nw * (size_t)nh, g, "rgb", what);
        grey_image grey_in = picture_make_grey(w, h, 0), grey_out;
        assert_int_equal(grey_image_resize(&grey_out, &grey_in, nw, nh, filter_named(name)), OK);
        expect_hash(grey_out.grey, (size_t)nw * (size_t)nh, g, "grey", what);
        image_free(&in);
        image_free(&out);
        grey_image_free(&grey_in);
        grey_image_free(&grey_out);
    }
    assert_int_equal(i, 78);
}

static void test_crop_is_black_outside(void **state)
{
    json_t *goldens = *state, *g;
    size_t i;
    json_array_foreach(json_object_get(goldens, "crop"), i, g) {
        json_t *b = json_object_get(g, "box");
        image in = picture_make(13, 9), out;
        assert_int_equal(image_crop(&out, &in, golden_int(b, 0), golden_int(b, 1), golden_int(b, 2), golden_int(b, 3)),
                         OK);
        expect_hash(out.rgb, 3 * (size_t)out.width * (size_t)out.height, g, "rgb", "crop");
        image_free(&in);
        image_free(&out);
    }
    assert_true(i >= 7);
}

static void test_short_side(void **state)
{
    (void)state;
    static const int rows[][5] = {
        /* width, height, side, new width, new height */
        {640, 480, 512, 682, 512}, {480, 640, 512, 512, 682},  {500, 500, 512, 512, 512},
        {3, 1, 7, 21, 7},          {1000, 333, 224, 672, 224},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int w, h;
        resize_short_side(&w, &h, rows[i][0], rows[i][1], rows[i][2]);
        assert_int_equal(w, rows[i][3]);
        assert_int_equal(h, rows[i][4]);
    }
}

static int load(void **state)
{
    *state = picture_goldens();
    return 0;
}

static int drop(void **state)
{
    json_decref(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_pillow),
        cmocka_unit_test(test_crop_is_black_outside),
        cmocka_unit_test(test_short_side),
    };
    return cmocka_run_group_tests(tests, load, drop);
}
