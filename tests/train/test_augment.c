/* References augmented: each change by hand on small pictures, within its bounds, and the target as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "train/sample_view.h"

static const augmentation same = {.keep = 1, .gain = {1, 1, 1}, .saturation = 1};

static image picture(int width, int height)
{
    image p;
    assert_int_equal(image_new(&p, width, height), OK);
    for (int i = 0; i < 3 * width * height; i++)
        p.rgb[i] = (uint8_t)(40 + i * 11 % 190);
    return p;
}

static const uint8_t *pixel(const image *p, int x, int y)
{
    return p->rgb + 3 * (y * p->width + x);
}

static void expect(const image *in, const augmentation *a, int width, int height, const uint8_t *expected)
{
    image out;
    assert_int_equal(augment_apply(&out, in, a), OK);
    assert_int_equal(out.width, width);
    assert_int_equal(out.height, height);
    assert_memory_equal(out.rgb, expected, (size_t)(3 * width * height));
    image_free(&out);
}

static void nothing_is_a_copy(void **state)
{
    (void)state;
    image in = picture(5, 3);
    expect(&in, &same, 5, 3, in.rgb);
    augmentation a = augment_draw(&(augment_rates){0}, (draw_key){.seed = 3, .purpose = DRAW_AUGMENT, .step = 1}, 0);
    expect(&in, &a, 5, 3, in.rgb);
    assert_true(augment_is_off(&(augment_rates){0}) && !augment_is_off(&(augment_rates){.colour = 0.1}));
    image_free(&in);
}

static void a_flip_mirrors_rows(void **state)
{
    (void)state;
    for (int width = 1; width <= 4; width++) {
        image in = picture(width, 2), expected = picture(width, 2);
        for (int y = 0; y < 2; y++)
            for (int x = 0; x < width; x++)
                memcpy(expected.rgb + 3 * (y * width + x), pixel(&in, width - 1 - x, y), 3);
        augmentation a = same;
        a.flip = true;
        expect(&in, &a, width, 2, expected.rgb);
        image_free(&in);
        image_free(&expected);
    }
}

/* (100, 50, 200): luma 0.299 x 100 + 0.587 x 50 + 0.114 x 200 = 82.05. Saturation 0.5: (91.025, 66.025, 141.025), gains 2, 1,
 * 0.5: (182.05, 66.025, 70.5125). Saturation 2: (117.95, 17.95, 317.95). */
static void colours_by_hand(void **state)
{
    (void)state;
    image in;
    assert_int_equal(image_new(&in, 2, 1), OK);
    memcpy(in.rgb, (uint8_t[]){100, 50, 200, 0, 0, 0}, 6);
    augmentation a = same;
    a.saturation = 0.5;
    memcpy(a.gain, (double[]){2, 1, 0.5}, sizeof a.gain);
    expect(&in, &a, 2, 1, (uint8_t[]){182, 66, 71, 0, 0, 0}); /* black stays black */
    a = same;
    a.saturation = 2;
    expect(&in, &a, 2, 1, (uint8_t[]){118, 18, 255, 0, 0, 0});
    image_free(&in);
}

/* Counter-clockwise by a quarter: what was at the top right comes to the top left. By an eighth the corners are black. */
static void rotations_turn_about_the_centre(void **state)
{
    (void)state;
    image in = picture(3, 3), expected = picture(3, 3), out;
    for (int y = 0; y < 3; y++)
        for (int x = 0; x < 3; x++)
            memcpy(expected.rgb + 3 * (y * 3 + x), pixel(&in, 2 - y, x), 3);
    augmentation a = same;
    a.degrees = 90;
    expect(&in, &a, 3, 3, expected.rgb);
    image_free(&in);
    in = picture(20, 20);
    a.degrees = 45;
    assert_int_equal(augment_apply(&out, &in, &a), OK);
    for (int corner = 0; corner < 4; corner++)
        for (int c = 0; c < 3; c++)
            assert_int_equal(pixel(&out, corner % 2 * 19, corner / 2 * 19)[c], 0);
    assert_true(pixel(&out, 10, 10)[0] > 0);
    image_free(&out);
    image_free(&in);
    image_free(&expected);
}

static void draws_stay_within_their_bounds(void **state)
{
    (void)state;
    const augment_rates r = {.flip = 0.25, .rotate = 10, .crop = 0.4, .colour = 0.3};
    image in = picture(10, 7);
    int flips = 0, differ = 0;
    for (int step = 1; step <= 1000; step++) {
        draw_key key = {.seed = 1, .purpose = DRAW_AUGMENT, .step = (uint64_t)step, .sample = 2};
        augmentation a = augment_draw(&r, key, 0), again = augment_draw(&r, key, 0), other = augment_draw(&r, key, 1);
        assert_true(a.keep == again.keep && a.degrees == again.degrees && a.flip == again.flip);
        assert_true(a.keep > 0.6 - 1e-12 && a.keep <= 1 && a.left >= 0 && a.left < 1 && a.top >= 0 && a.top < 1);
        assert_true(a.degrees >= -10 && a.degrees <= 10 && a.saturation >= 0.7 && a.saturation <= 1.3);
        for (int c = 0; c < 3; c++)
            assert_true(a.gain[c] >= 0.7 && a.gain[c] <= 1.3);
        flips += a.flip;
        differ += a.keep != other.keep && a.degrees != other.degrees;
        augmentation crop = same;
        crop.keep = a.keep;
        crop.left = a.left;
        crop.top = a.top;
        image out;
        assert_int_equal(augment_apply(&out, &in, &crop), OK);
        assert_true(out.width >= 6 && out.width <= 10 && out.height >= 4 && out.height <= 7);
        for (int i = 0; i < out.width * out.height; i++)
            assert_true(out.rgb[3 * i] >= 40); /* nothing from outside, which is black */
        image_free(&out);
    }
    assert_in_range(flips, 205, 295); /* 250 +- 3.3 deviations of 13.7 */
    assert_true(differ > 990);
    image_free(&in);
}

/* A one-pixel picture survives any part. */
static void small_pictures_stay(void **state)
{
    (void)state;
    image in = picture(1, 1);
    augmentation a = same;
    a.keep = 0.05;
    a.left = a.top = 0.99;
    expect(&in, &a, 1, 1, in.rgb);
    image_free(&in);
}

static void the_target_is_never_changed(void **state)
{
    (void)state;
    enum { SIDE = 32, CLIP = 16, TARGET = 3 * SIDE * SIDE, PICTURE = 3 * CLIP * CLIP, ALL = TARGET + 2 * PICTURE };
    const char *folder = getenv("MSD_TEST_TMP");
    char path[512];
    snprintf(path, sizeof path, "%s/augment.png", folder ? folder : ".");
    image in = picture(40, 36);
    assert_int_equal(image_save_png(path, &in, NULL, 0), OK);
    run_config c = {0};
    c.data.resolution = SIDE;
    subject of[2] = {{.phrase = "a", .box = {0, 0, 1, 1}},
                     {.phrase = "b", .box = {0.1, 0.2, 0.9, 0.9}, .reference = path}};
    sample m = {.image = path, .text = "a b", .subject = of, .subjects = 2, .units = BOX_NORMALIZED, .valid = true};
    float *plain = calloc(ALL, sizeof *plain), *changed = calloc(ALL, sizeof *changed);
    for (int i = 0; i < 2; i++) {
        float *to = i ? changed : plain, *references[2] = {to + TARGET, to + TARGET + PICTURE};
        arena memory = {0};
        sample_view v;
        int bad;
        c.data.augment.rotate = 30 * i;
        assert_int_equal(sample_view_make(&v, &memory, &m, &c, 0), OK);
        sample_view_augment(&v, &c, 3, 1);
        assert_int_equal(sample_view_load(to, references, &bad, &v, &c, CLIP), OK);
        arena_free(&memory);
    }
    assert_memory_equal(plain, changed, sizeof(float) * TARGET);
    for (int j = 0; j < 2; j++)
        assert_true(memcmp(plain + TARGET + j * PICTURE, changed + TARGET + j * PICTURE, sizeof(float) * PICTURE));
    free(plain);
    free(changed);
    image_free(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_a_copy),
        cmocka_unit_test(a_flip_mirrors_rows),
        cmocka_unit_test(colours_by_hand),
        cmocka_unit_test(rotations_turn_about_the_centre),
        cmocka_unit_test(draws_stay_within_their_bounds),
        cmocka_unit_test(small_pictures_stay),
        cmocka_unit_test(the_target_is_never_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
