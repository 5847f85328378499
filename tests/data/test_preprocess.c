#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "data/preprocess.h"
#include "support_picture.h"

static int whole(const json_t *g, const char *key)
{
    return (int)json_integer_value(json_object_get(g, key));
}

static float *pixels_of(int side)
{
    return malloc(3 * (size_t)side * (size_t)side * sizeof(float));
}

static void expect_pixels(float *pixels, int side, const json_t *g, const char *key)
{
    char what[64];
    const json_t *from = json_object_get(g, "from");
    snprintf(what, sizeof what, "%dx%d to %d", golden_int(from, 0), golden_int(from, 1), side);
    expect_hash(pixels, 3 * (size_t)side * (size_t)side * sizeof *pixels, g, key, what);
}

/* To the bit as CLIPImageProcessorPil, alone and behind the stretch of generation. */
static void test_clip(void **state)
{
    json_t *g;
    size_t i;
    json_array_foreach(json_object_get(json_object_get(*state, "preprocess"), "clip"), i, g) {
        int side = whole(g, "side");
        image in = picture_make(golden_int(json_object_get(g, "from"), 0), golden_int(json_object_get(g, "from"), 1));
        float *out = pixels_of(side);
        assert_int_equal(preprocess_clip(out, &in, side), OK);
        expect_pixels(out, side, g, "clip");
        assert_int_equal(preprocess_generate_reference(out, &in, side), OK);
        expect_pixels(out, side, g, "generate");
        free(out);
        image_free(&in);
    }
    assert_true(i >= 8);
}

static void expect_boxes(const json_t *g, const target_frame *frame, double *worst)
{
    json_t *boxes = json_object_get(g, "boxes"), *followed = json_object_get(g, "followed"), *b;
    size_t i;
    json_array_foreach(boxes, i, b) {
        box in = {json_number_value(json_array_get(b, 0)), json_number_value(json_array_get(b, 1)),
                  json_number_value(json_array_get(b, 2)), json_number_value(json_array_get(b, 3))};
        float out[4], wanted[4];
        for (size_t k = 0; k < 4; k++)
            wanted[k] = (float)json_number_value(json_array_get(json_array_get(followed, i), k));
        bool left = wanted[0] < wanted[2] && wanted[1] < wanted[3];
        assert_int_equal(target_box(out, in, frame), left);
        for (size_t k = 0; k < 4; k++) {
            double e = fabs((double)out[k] - (left ? (double)wanted[k] : 0.0));
            if (!(e <= *worst))
                *worst = e;
        }
    }
}

static void test_target(void **state)
{
    const double tolerance = 3e-6; /* the reference follows boxes in f32: a few units in the last place of 512 / 16 */
    double worst = 0;
    json_t *g;
    size_t i;
    json_array_foreach(json_object_get(json_object_get(*state, "preprocess"), "target"), i, g) {
        int side = whole(g, "side");
        image in = picture_make(golden_int(json_object_get(g, "from"), 0), golden_int(json_object_get(g, "from"), 1));
        target_frame frame = target_frame_center(in.width, in.height, side, side);
        if (json_is_true(json_object_get(g, "corner")))
            frame.left = frame.top = 0;
        float *out = pixels_of(side), ids[6];
        assert_int_equal(preprocess_target(out, &in, &frame), OK);
        expect_pixels(out, side, g, "pixels");
        target_time_ids(ids, &frame);
        for (size_t k = 0; k < 6; k++)
            assert_int_equal((int)ids[k], golden_int(json_object_get(g, "time_ids"), k));
        expect_boxes(g, &frame, &worst);
        free(out);
        image_free(&in);
    }
    assert_true(i >= 16);
    print_message("boxes: %.3g, %.0f %% of tolerance\n", worst, 100 * worst / tolerance);
    assert_true(worst <= tolerance);
}

static void test_reference(void **state)
{
    json_t *g;
    size_t i;
    json_array_foreach(json_object_get(json_object_get(*state, "preprocess"), "reference"), i, g) {
        int side = whole(g, "side");
        image in = picture_make(golden_int(json_object_get(g, "from"), 0), golden_int(json_object_get(g, "from"), 1));
        grey_image mask = picture_make_grey(in.width, in.height, 4);
        json_t *b = json_object_get(g, "box");
        box crop = {json_number_value(json_array_get(b, 0)), json_number_value(json_array_get(b, 1)),
                    json_number_value(json_array_get(b, 2)), json_number_value(json_array_get(b, 3))};
        float *out = pixels_of(side);
        const grey_image *used = json_is_true(json_object_get(g, "masked")) ? &mask : NULL;
        assert_int_equal(preprocess_train_reference(out, &in, used, crop, whole(g, "resolution"), side), OK);
        expect_pixels(out, side, g, "pixels");
        free(out);
        image_free(&in);
        grey_image_free(&mask);
    }
    assert_true(i >= 4);
}

/* A box thinner than a pixel still gives a reference; a picture like a thread is refused, not grown to gigabytes. */
static void test_extremes(void **state)
{
    (void)state;
    float out[3 * 8 * 8], *large = pixels_of(1024);
    image in = picture_make(20, 10);
    assert_int_equal(preprocess_train_reference(out, &in, NULL, (box){19.8, 9.9, 20, 10}, 16, 8), OK);
    assert_int_equal(preprocess_train_reference(out, &in, NULL, (box){3.1, 3.1, 3.2, 3.2}, 16, 8), OK);
    grey_image mask = picture_make_grey(10, 20, 0);
    assert_int_equal(preprocess_train_reference(out, &in, &mask, (box){0, 0, 5, 5}, 16, 8), E_FORMAT);
    grey_image_free(&mask);
    image_free(&in);
    in = picture_make(8192, 1);
    assert_int_equal(preprocess_clip(large, &in, 1024), E_FORMAT);
    target_frame frame = target_frame_center(in.width, in.height, 1024, 1024);
    assert_int_equal(preprocess_target(large, &in, &frame), E_FORMAT);
    image_free(&in);
    free(large);
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
        cmocka_unit_test(test_clip),
        cmocka_unit_test(test_target),
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_extremes),
    };
    return cmocka_run_group_tests(tests, load, drop);
}
