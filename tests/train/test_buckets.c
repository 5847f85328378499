/* The forms of aspect buckets against SDXL's list, and the crops that they make of pictures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/preprocess.h"
#include "train/buckets.h"

static void sizes_are_sdxls(void **state)
{
    (void)state;
    int64_t widths = 0, heights = 0;
    for (int i = 0; i < BUCKETS; i++) {
        bucket_size b = bucket_size_at(i, 1024), half = bucket_size_at(i, 512);
        int64_t pixels = (int64_t)b.width * b.height;
        assert_true(b.width % 64 == 0 && b.height % 64 == 0);
        assert_true(pixels >= 946176 && pixels <= 1048576); /* 704 x 1344 has the fewest */
        assert_true(half.width == b.width / 2 && half.height == b.height / 2);
        if (i)
            assert_true((double)b.width / b.height > (double)bucket_size_at(i - 1, 1024).width / bucket_size_at(i - 1, 1024).height);
        widths += b.width;
        heights += b.height;
    }
    /* Sums of the report's two columns, which differ: it has 704 x 1344 lying, but not standing. */
    assert_int_equal(heights, 43456);
    assert_int_equal(widths, 44096);
    bucket_size square = bucket_size_at(bucket_square(), 1024);
    assert_true(square.width == 1024 && square.height == 1024);
}

static void a_picture_goes_to_the_nearest_form(void **state)
{
    (void)state;
    static const struct {
        int width, height, to_width, to_height;
    } table[] = {
        {1024, 1024, 1024, 1024}, {7, 7, 1024, 1024},       {4000, 3000, 1152, 896}, {3000, 4000, 896, 1152},
        {3000, 2000, 1216, 832},  {1920, 1080, 1344, 768},  {1080, 1920, 768, 1344}, {1000, 10, 2048, 512},
        {10, 1000, 512, 2048},    {8192, 2048, 2048, 512},  {1344, 704, 1344, 704},  {704, 1344, 704, 1408},
        {640, 480, 1152, 896},    {500, 375, 1152, 896},    {1091, 1024, 1024, 960},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        bucket_size b = bucket_size_at(bucket_choose(table[i].width, table[i].height, 1024), 1024);
        if (b.width != table[i].to_width || b.height != table[i].to_height)
            fail_msg("%d x %d goes to %d x %d", table[i].width, table[i].height, b.width, b.height);
    }
}

static void small_resolutions_stay_multiples(void **state)
{
    (void)state;
    static const int64_t resolutions[] = {8, 16, 64, 104, 256, 768, 1000, 8192};
    for (size_t r = 0; r < sizeof resolutions / sizeof *resolutions; r++) {
        for (int i = 0; i < BUCKETS; i++) {
            bucket_size b = bucket_size_at(i, resolutions[r]), most = bucket_largest(resolutions[r]);
            assert_true(b.width >= 8 && b.height >= 8 && b.width % BUCKET_UNIT == 0 && b.height % BUCKET_UNIT == 0);
            assert_true((int64_t)b.width * b.height <= (int64_t)most.width * most.height);
        }
        bucket_size square = bucket_size_at(bucket_square(), resolutions[r]);
        assert_true(square.width == resolutions[r] && square.height == resolutions[r]);
    }
}

/* Whatever the picture, the resized one covers the crop, and no more than it must. */
static void crops_lie_inside(void **state)
{
    (void)state;
    for (int width = 1; width < 2000; width += 37) {
        for (int height = 1; height < 2000; height += 41) {
            bucket_size b = bucket_size_at(bucket_choose(width, height, 256), 256);
            target_frame f = target_frame_center(width, height, b.width, b.height);
            assert_true(f.left >= 0 && f.top >= 0 && f.left + b.width <= f.width && f.top + b.height <= f.height);
            assert_true(f.width == b.width || f.height == b.height);
            float ids[6], whole[4];
            target_time_ids(ids, &f);
            assert_true(ids[0] == (float)height && ids[1] == (float)width && ids[4] == (float)b.height && ids[5] == (float)b.width);
            assert_true(target_box(whole, (box){0, 0, width, height}, &f));
            assert_true(whole[0] == 0 && whole[1] == 0 && whole[2] > 0.99f && whole[3] > 0.99f);
        }
    }
}

/* 300 x 200 to 96 x 56 (pixels): scale 0.32, 96 x 64, 4 rows cut off above and below. */
static void boxes_follow_both_sides(void **state)
{
    (void)state;
    target_frame f = target_frame_center(300, 200, 96, 56);
    assert_true(f.width == 96 && f.height == 64 && f.left == 0 && f.top == 4);
    float found[4], expected[4] = {0.5f, (float)((32 - 4) / 56.0), 1, 1};
    assert_true(target_box(found, (box){150, 100, 300, 200}, &f));
    for (int i = 0; i < 4; i++)
        assert_float_equal(found[i], expected[i], 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_sdxls),
        cmocka_unit_test(a_picture_goes_to_the_nearest_form),
        cmocka_unit_test(small_resolutions_stay_multiples),
        cmocka_unit_test(crops_lie_inside),
        cmocka_unit_test(boxes_follow_both_sides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
