/* The expected numbers were printed by tests/reference/counter.py. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "data/counter.h"

static void test_key(void **state)
{
    (void)state;
    assert_true(counter_key("unet.conv_in.weight") == 0x12905a3b09af0e85u);
    assert_true(counter_key("größe#7") == 0xf4a0e8a970424fc4u);
}

static void test_weights(void **state)
{
    (void)state;
    float conv[108], norm[5], bias[5], scalar;
    counter_fill(conv, "unet.conv_in.weight", 4, (const int64_t[]){3, 4, 3, 3});
    assert_true(conv[0] == -0x1.1a6378p-4f && conv[1] == -0x1.8db9b8p-3f && conv[107] == 0x1.e6913ap-4f);
    counter_fill(norm, "norm1.weight", 1, (const int64_t[]){5});
    assert_true(norm[0] == 0x1.f9c9b0p-1f && norm[1] == 0x1.109aaep+0f && norm[4] == 0x1.f2f2e2p-1f);
    counter_fill(bias, "norm1.bias", 1, (const int64_t[]){5});
    assert_true(bias[0] == 0x1.c4eac6p-5f && bias[1] == 0x1.5f3f00p-5f && bias[4] == -0x1.c49754p-5f);
    counter_fill(&scalar, "größe#7", 0, NULL);
    assert_true(scalar == 0x1.339580p-6f);
}

static void test_parts_and_plain_values(void **state)
{
    (void)state;
    float whole[108], part[10], plain[2];
    int64_t dim[] = {3, 4, 3, 3};
    counter_fill(whole, "w", 4, dim);
    counter_fill_part(part, "w", 4, dim, 98, 10);
    assert_memory_equal(part, whole + 98, sizeof part);
    counter_uniform(plain, "x", ((uint64_t)1 << 40) + 3, 2);
    assert_true(plain[0] == -0x1.405210p-2f && plain[1] == 0x1.2862f4p-1f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_parts_and_plain_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
