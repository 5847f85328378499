#include "data/stored.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/text.h"

static const struct {
    const char *name, *torch;
    size_t bytes;
    dtype type;
} types[STORED_TYPE_COUNT] = {
    [STORED_F64] = {"F64", "DoubleStorage", 8, DTYPE_COUNT},
    [STORED_F32] = {"F32", "FloatStorage", 4, DT_F32},
    [STORED_F16] = {"F16", "HalfStorage", 2, DT_F16},
    [STORED_BF16] = {"BF16", "BFloat16Storage", 2, DT_BF16},
    [STORED_F8E4M3] = {"F8_E4M3", NULL, 1, DT_F8E4M3},
    [STORED_F8E5M2] = {"F8_E5M2", NULL, 1, DTYPE_COUNT},
    [STORED_I64] = {"I64", "LongStorage", 8, DTYPE_COUNT},
    [STORED_I32] = {"I32", "IntStorage", 4, DT_I32},
    [STORED_I16] = {"I16", "ShortStorage", 2, DTYPE_COUNT},
    [STORED_I8] = {"I8", "CharStorage", 1, DTYPE_COUNT},
    [STORED_U64] = {"U64", NULL, 8, DTYPE_COUNT},
    [STORED_U32] = {"U32", NULL, 4, DTYPE_COUNT},
    [STORED_U16] = {"U16", NULL, 2, DTYPE_COUNT},
    [STORED_U8] = {"U8", "ByteStorage", 1, DT_U8},
    [STORED_BOOL] = {"BOOL", "BoolStorage", 1, DTYPE_COUNT},
};

const char *stored_type_name(stored_type t)
{
    return types[t].name;
}

size_t stored_type_bytes(stored_type t)
{
    return types[t].bytes;
}

const char *stored_type_torch(stored_type t)
{
    return types[t].torch;
}

dtype stored_dtype(stored_type t)
{
    return types[t].type;
}

bool stored_type_parse(stored_type *out, const char *name)
{
    for (int t = 0; t < STORED_TYPE_COUNT; t++) {
        if (strcmp(types[t].name, name) == 0) {
            *out = (stored_type)t;
            return true;
        }
    }
    return false;
}

bool stored_size(int64_t *count, size_t *bytes, stored_type type, int ndim, const int64_t *dim)
{
    int64_t elements = 1, total;
    for (int d = 0; d < ndim; d++) {
        if (dim[d] < 0 || __builtin_mul_overflow(elements, dim[d], &elements))
            return false;
    }
    if (__builtin_mul_overflow(elements, (int64_t)types[type].bytes, &total))
        return false;
    *count = elements;
    *bytes = (size_t)total;
    return true;
}

char *stored_shape_text(arena *a, int ndim, const int64_t *dim)
{
    enum { DIGITS = 21 };
    char *text = arena_get(a, (size_t)ndim * DIGITS + 3), *at = text;
    *at++ = '(';
    for (int d = 0; d < ndim; d++)
        at += snprintf(at, DIGITS + 1, "%s%lld", d ? "," : "", (long long)dim[d]);
    *at = ')';
    return text;
}

char *stored_name_text(arena *a, const char *name)
{
    enum { ROOM = 200 };
    char *text = arena_get(a, ROOM);
    text_escaped(text, ROOM, name);
    return text;
}

/* Elements may lie at any address, so each is copied out; compilers make plain loads of it. */
#define FOR_EACH(ctype, x, expression)                                \
    for (int64_t i = 0; i < count; i++) {                             \
        ctype x;                                                      \
        memcpy(&x, bytes + (size_t)i * sizeof x, sizeof x);           \
        expression;                                                   \
    }                                                                 \
    break

void stored_to_f32(float *out, stored_type type, const void *data, int64_t count)
{
    const uint8_t *bytes = data;
    switch (type) {
    case STORED_F32:
        if (count)
            memcpy(out, bytes, (size_t)count * sizeof *out);
        break;
    case STORED_F64: FOR_EACH(double, x, out[i] = (float)x);
    case STORED_F16: FOR_EACH(uint16_t, x, out[i] = f16_to_f32(x));
    case STORED_BF16: FOR_EACH(uint16_t, x, out[i] = bf16_to_f32(x));
    case STORED_F8E4M3: FOR_EACH(uint8_t, x, out[i] = f8e4m3_to_f32(x));
    case STORED_F8E5M2: FOR_EACH(uint8_t, x, out[i] = f8e5m2_to_f32(x));
    case STORED_I64: FOR_EACH(int64_t, x, out[i] = (float)x);
    case STORED_I32: FOR_EACH(int32_t, x, out[i] = (float)x);
    case STORED_I16: FOR_EACH(int16_t, x, out[i] = (float)x);
    case STORED_I8: FOR_EACH(int8_t, x, out[i] = (float)x);
    case STORED_U64: FOR_EACH(uint64_t, x, out[i] = (float)x);
    case STORED_U32: FOR_EACH(uint32_t, x, out[i] = (float)x);
    case STORED_U16: FOR_EACH(uint16_t, x, out[i] = (float)x);
    case STORED_U8: FOR_EACH(uint8_t, x, out[i] = (float)x);
    case STORED_BOOL: FOR_EACH(uint8_t, x, out[i] = x ? 1.0f : 0.0f);
    case STORED_TYPE_COUNT: CHECK(false, "type %d", (int)type);
    }
}

static err float_to_i64(int64_t *out, double x, int64_t i)
{
    if (!(x >= -0x1p63 && x < 0x1p63 && x == floor(x)))
        return err_set(E_FORMAT, "element %lld is %g, expected a whole number", (long long)i, x);
    *out = (int64_t)x;
    return OK;
}

static err unsigned_to_i64(int64_t *out, uint64_t x, int64_t i)
{
    if (x > INT64_MAX)
        return err_set(E_FORMAT, "element %lld is %llu, expected less than 2^63", (long long)i, (unsigned long long)x);
    *out = (int64_t)x;
    return OK;
}

err stored_to_i64(int64_t *out, stored_type type, const void *data, int64_t count)
{
    const uint8_t *bytes = data;
    switch (type) {
    case STORED_F64: FOR_EACH(double, x, TRY(float_to_i64(&out[i], x, i)));
    case STORED_F32: FOR_EACH(float, x, TRY(float_to_i64(&out[i], (double)x, i)));
    case STORED_F16: FOR_EACH(uint16_t, x, TRY(float_to_i64(&out[i], (double)f16_to_f32(x), i)));
    case STORED_BF16: FOR_EACH(uint16_t, x, TRY(float_to_i64(&out[i], (double)bf16_to_f32(x), i)));
    case STORED_F8E4M3: FOR_EACH(uint8_t, x, TRY(float_to_i64(&out[i], (double)f8e4m3_to_f32(x), i)));
    case STORED_F8E5M2: FOR_EACH(uint8_t, x, TRY(float_to_i64(&out[i], (double)f8e5m2_to_f32(x), i)));
    case STORED_I64: FOR_EACH(int64_t, x, out[i] = x);
    case STORED_I32: FOR_EACH(int32_t, x, out[i] = x);
    case STORED_I16: FOR_EACH(int16_t, x, out[i] = x);
    case STORED_I8: FOR_EACH(int8_t, x, out[i] = x);
    case STORED_U64: FOR_EACH(uint64_t, x, TRY(unsigned_to_i64(&out[i], x, i)));
    case STORED_U32: FOR_EACH(uint32_t, x, out[i] = x);
    case STORED_U16: FOR_EACH(uint16_t, x, out[i] = x);
    case STORED_U8: FOR_EACH(uint8_t, x, out[i] = x);
    case STORED_BOOL: FOR_EACH(uint8_t, x, out[i] = x ? 1 : 0);
    case STORED_TYPE_COUNT: CHECK(false, "type %d", (int)type);
    }
    return OK;
}

void stored_from_f32(void *out, stored_type type, const float *values, int64_t count)
{
    CHECK(type == STORED_F32 || type == STORED_F16 || type == STORED_BF16, "type %s", types[type].name);
    uint8_t *bytes = out;
    if (type == STORED_F32 && count)
        memcpy(bytes, values, (size_t)count * sizeof *values);
    for (int64_t i = 0; type != STORED_F32 && i < count; i++) {
        uint16_t h = type == STORED_F16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
        memcpy(bytes + (size_t)i * sizeof h, &h, sizeof h);
    }
}

static err get_array(void **out, const stored_tensor *t, size_t element)
{
    size_t bytes;
    if (__builtin_mul_overflow((size_t)t->count, element, &bytes) || !(*out = malloc(bytes ? bytes : 1)))
        return err_set(E_MEMORY, "%s: cannot get memory for %lld numbers", t->name, (long long)t->count);
    return OK;
}

err stored_read_f32(float **out, const stored_tensor *t)
{
    void *memory;
    TRY(get_array(&memory, t, sizeof **out));
    stored_to_f32(memory, t->type, t->data, t->count);
    *out = memory;
    return OK;
}

err stored_read_i64(int64_t **out, const stored_tensor *t)
{
    void *memory;
    TRY(get_array(&memory, t, sizeof **out));
    err e = stored_to_i64(memory, t->type, t->data, t->count);
    if (e) {
        free(memory);
        return err_prefix(e, "%s", t->name);
    }
    *out = memory;
    return OK;
}
