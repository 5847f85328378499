/* Every narrowing is checked against its definition: each small value, the middle between each two neighbours,
 * and the f32 next to that middle on either side. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "base/half.h"

/* The value by the format's definition, in f64. */
static double defined(uint32_t bits, int exponent_bits, int mantissa_bits)
{
    int bias = (1 << (exponent_bits - 1)) - 1;
    int exponent = (int)(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
    double mantissa = (double)(bits & ((1u << mantissa_bits) - 1));
    double magnitude = exponent ? ldexp(mantissa + (double)(1 << mantissa_bits), exponent - bias - mantissa_bits)
                                : ldexp(mantissa, 1 - bias - mantissa_bits);
    return bits >> (exponent_bits + mantissa_bits) & 1 ? -magnitude : magnitude;
}

typedef struct half_type {
    float (*widen)(uint16_t h);
    uint16_t (*narrow)(float x);
    int exponent_bits, mantissa_bits;
} half_type;

static void check_type(const half_type *t)
{
    uint32_t infinity = ((1u << t->exponent_bits) - 1) << t->mantissa_bits;
    for (uint32_t sign = 0; sign <= 0x8000; sign += 0x8000) {
        for (uint32_t low = 0; low < infinity; low++) {
            uint16_t h = (uint16_t)(sign | low), next = (uint16_t)(h + 1);
            double value = defined(h, t->exponent_bits, t->mantissa_bits);
            assert_true((double)t->widen(h) == value && f32_bits(t->widen(h)) >> 31 == sign >> 15);
            assert_int_equal(t->narrow(t->widen(h)), h);
            double above = defined(next, t->exponent_bits, t->mantissa_bits);
            float middle = (float)((value + above) / 2);
            if ((double)middle != (value + above) / 2)
                continue; /* between bf16 subnormals and at f32's edge there is no such f32 */
            assert_int_equal(t->narrow(middle), low & 1 ? next : h);
            assert_int_equal(t->narrow(nextafterf(middle, 0)), h);
            assert_int_equal(t->narrow(nextafterf(middle, sign ? -INFINITY : INFINITY)), next);
        }
        float huge = sign ? -INFINITY : INFINITY;
        assert_int_equal(t->narrow(huge), sign | infinity);
        assert_true(t->widen((uint16_t)(sign | infinity)) == huge);
        assert_int_equal(t->narrow(sign ? -3.4028234e38f : 3.4028234e38f), sign | infinity);
        for (uint32_t h = infinity + 1; h < 0x8000; h++) {
            assert_true(isnan(t->widen((uint16_t)(sign | h))));
            assert_true((t->narrow(t->widen((uint16_t)(sign | h))) & 0x7FFFu) > infinity);
        }
        assert_true((t->narrow(f32_from_bits(sign << 16 | 0x7F800001u)) & 0x7FFFu) > infinity);
    }
}

static void test_f16(void **state)
{
    (void)state;
    check_type(&(half_type){f16_to_f32, f32_to_f16, 5, 10});
}

static void test_bf16(void **state)
{
    (void)state;
    check_type(&(half_type){bf16_to_f32, f32_to_bf16, 8, 7});
}

static void test_f8(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 256; h++) {
        uint8_t byte = (uint8_t)h;
        if ((h & 0x7F) == 0x7F)
            assert_true(isnan(f8e4m3_to_f32(byte)));
        else
            assert_true((double)f8e4m3_to_f32(byte) == defined(h, 4, 3));
        if ((h & 0x7F) > 0x7C)
            assert_true(isnan(f8e5m2_to_f32(byte)));
        else if ((h & 0x7F) == 0x7C)
            assert_true(isinf(f8e5m2_to_f32(byte)));
        else
            assert_true((double)f8e5m2_to_f32(byte) == defined(h, 5, 2));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f16),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_f8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
