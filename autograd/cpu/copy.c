/* Moving and converting: host to device and back, fills, and copies between strided tensors of any two types. */
#include <string.h>

#include "autograd/cpu/clones.h"
#include "autograd/cpu/conv_layout.h"
#include "autograd/cpu/cpu.h"
#include "base/half.h"

CPU_CLONES static void widen_f16(float *restrict to, const uint16_t *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = f16_to_f32(from[i]);
}

/* Widens n elements of `type`, `step` elements apart, into f32. */
static void load(float *restrict to, const void *from, dtype type, int64_t step, int64_t n)
{
    const float *f = from;
    const uint16_t *h = from;
    const int32_t *whole = from;
    const uint8_t *byte = from;
    switch (type) {
    case DT_F32:
        for (int64_t i = 0; i < n; i++)
            to[i] = f[i * step];
        break;
    case DT_BF16:
        for (int64_t i = 0; i < n; i++)
            to[i] = bf16_to_f32(h[i * step]);
        break;
    case DT_F16:
        if (step == 1)
            widen_f16(to, h, n);
        else
            for (int64_t i = 0; i < n; i++)
                to[i] = f16_to_f32(h[i * step]);
        break;
    case DT_I32:
        for (int64_t i = 0; i < n; i++)
            to[i] = (float)whole[i * step];
        break;
    case DT_U8:
        for (int64_t i = 0; i < n; i++)
            to[i] = (float)byte[i * step];
        break;
    case DT_F8E4M3:
        for (int64_t i = 0; i < n; i++)
            to[i] = f8e4m3_to_f32(byte[i * step]);
        break;
    default:
        CHECK(false, "no dtype %d", (int)type);
    }
}

/* Narrows n f32 into elements of `type`, `step` apart; `add` accumulates (f32 and bf16). */
static void store(void *to, dtype type, int64_t step, const float *restrict from, int64_t n, bool add)
{
    float *f = to;
    uint16_t *h = to;
    int32_t *whole = to;
    uint8_t *byte = to;
    CHECK(!add || type == DT_F32 || type == DT_BF16, "accumulating into %s", dtype_name(type));
    switch (type) {
    case DT_F32:
        for (int64_t i = 0; i < n; i++)
            f[i * step] = (add ? f[i * step] : 0.0f) + from[i];
        break;
    case DT_BF16:
        for (int64_t i = 0; i < n; i++)
            h[i * step] = f32_to_bf16((add ? bf16_to_f32(h[i * step]) : 0.0f) + from[i]);
        break;
    case DT_F16:
        for (int64_t i = 0; i < n; i++)
            h[i * step] = f32_to_f16(from[i]);
        break;
    case DT_I32:
        for (int64_t i = 0; i < n; i++)
            whole[i * step] = (int32_t)from[i];
        break;
    case DT_U8:
        for (int64_t i = 0; i < n; i++)
            byte[i * step] = (uint8_t)from[i];
        break;
    default:
        CHECK(false, "cannot store %s", dtype_name(type));
    }
}

enum { PIECE = 1024 };

/* n elements from one type and step to another. Equal types are moved as they are: NaN bits and large i32 stay. */
static void convert(void *to, dtype to_type, int64_t to_step, const void *from, dtype from_type, int64_t from_step,
                    int64_t n, bool add)
{
    size_t to_bytes = dtype_bytes(to_type), from_bytes = dtype_bytes(from_type);
    if (to_type == from_type && !add) {
        if (to_step == 1 && from_step == 1) {
            memcpy(to, from, (size_t)n * to_bytes);
            return;
        }
        for (int64_t i = 0; i < n; i++)
            memcpy((char *)to + (size_t)(i * to_step) * to_bytes,
                   (const char *)from + (size_t)(i * from_step) * to_bytes, to_bytes);
        return;
    }
    float piece[PIECE];
    for (int64_t i = 0; i < n; i += PIECE) {
        int64_t m = n - i < PIECE ? n - i : PIECE;
        load(piece, (const char *)from + (size_t)(i * from_step) * from_bytes, from_type, from_step, m);
        store((char *)to + (size_t)(i * to_step) * to_bytes, to_type, to_step, piece, m, add);
    }
}

/* ---- strided tensors, row by row ---- */

static int64_t row_length(const tensor *t)
{
    return t->ndim ? t->dim[t->ndim - 1] : 1;
}

static int64_t row_offset(const tensor *t, int64_t row)
{
    int64_t offset = 0;
    for (int i = t->ndim - 2; i >= 0; i--) {
        offset += row % t->dim[i] * t->stride[i];
        row /= t->dim[i];
    }
    return offset;
}

static int64_t row_step(const tensor *t)
{
    return t->ndim ? t->stride[t->ndim - 1] : 1;
}

static void *element(const tensor *t, int64_t offset)
{
    return (char *)t->data + offset * (int64_t)dtype_bytes(t->type);
}

err cpu_copy(device *d, tensor *y, const tensor *x, bool add)
{
    CHECK(tensor_same_shape(y, x), "copy of %s into %s: other shape", x->name, y->name);
    int64_t n = tensor_count(x), length = row_length(x), rows = length ? n / length : 0;
    if (tensor_contiguous(x) && tensor_contiguous(y)) {
#pragma omp parallel for num_threads(d->threads) schedule(static)
        for (int64_t i = 0; i < n; i += CPU_CHUNK)
            convert(element(y, i), y->type, 1, element(x, i), x->type, 1, n - i < CPU_CHUNK ? n - i : CPU_CHUNK, add);
        return OK;
    }
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t r = 0; r < rows; r++)
        convert(element(y, row_offset(y, r)), y->type, row_step(y), element(x, row_offset(x, r)), x->type, row_step(x),
                length, add);
    return OK;
}

err cpu_upload(device *d, tensor *y, const void *host, dtype type)
{
    CHECK(tensor_contiguous(y), "upload into the strided %s", y->name);
    int64_t n = tensor_count(y);
    size_t bytes = dtype_bytes(type);
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < n; i += CPU_CHUNK) {
        int64_t m = n - i < CPU_CHUNK ? n - i : CPU_CHUNK;
        const char *from = (const char *)host + (size_t)i * bytes;
        if ((uintptr_t)from % bytes == 0 || type == y->type) {
            convert(element(y, i), y->type, 1, from, type, 1, m, false);
            continue;
        }
        for (int64_t j = 0; j < m; j++) { /* files promise no alignment */
            _Alignas(8) char one[8];
            memcpy(one, from + (size_t)j * bytes, bytes);
            convert(element(y, i + j), y->type, 1, one, type, 1, 1, false);
        }
    }
    return OK;
}

err cpu_download(device *d, void *host, dtype type, const tensor *x)
{
    if (x->layout == LAYOUT_CONV)
        return conv_download(d, host, type, x);
    tensor out = *x;
    out.type = type;
    out.data = host;
    tensor_set_shape(&out, x->ndim, x->dim);
    return cpu_copy(d, &out, x, false);
}

/* n elements of y from element `offset`, `step` apart. */
static void fill_run(tensor *y, int64_t offset, int64_t step, float value, int64_t n)
{
    float piece[PIECE];
    for (int64_t i = 0; i < PIECE && i < n; i++)
        piece[i] = value;
    for (int64_t i = 0; i < n; i += PIECE)
        store(element(y, offset + i * step), y->type, step, piece, n - i < PIECE ? n - i : PIECE, false);
}

err cpu_fill(device *d, tensor *y, float value)
{
    int64_t n = tensor_count(y), length = row_length(y), rows = length ? n / length : 0;
    if (tensor_contiguous(y)) {
#pragma omp parallel for num_threads(d->threads) schedule(static)
        for (int64_t i = 0; i < n; i += CPU_CHUNK)
            fill_run(y, i, 1, value, n - i < CPU_CHUNK ? n - i : CPU_CHUNK);
        return OK;
    }
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t r = 0; r < rows; r++)
        fill_run(y, row_offset(y, r), row_step(y), value, length);
    return OK;
}
