/* Moving and converting: host to device and back, fills, and copies between strided tensors of any two types. */
#include <string.h>

#include "autograd/cpu/conv_layout.h"
#include "autograd/cpu/cpu.h"
#include "autograd/cpu/element.h"
#include "autograd/cpu/linear_layout.h"

/* ---- runs of neighbours ---- */

CPU_CLONES static void widen_bf16(float *restrict to, const uint16_t *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = bf16_to_f32(from[i]);
}

CPU_CLONES static void widen_f16(float *restrict to, const uint16_t *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = f16_to_f32(from[i]);
}

CPU_CLONES static void f16_to_bf16(uint16_t *restrict to, const uint16_t *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = f32_to_bf16(f16_to_f32(from[i]));
}

CPU_CLONES static void narrow_bf16(uint16_t *restrict to, const float *restrict from, int64_t n, bool add)
{
    if (add)
        for (int64_t i = 0; i < n; i++)
            to[i] = f32_to_bf16(bf16_to_f32(to[i]) + from[i]);
    else
        for (int64_t i = 0; i < n; i++)
            to[i] = f32_to_bf16(from[i]);
}

CPU_CLONES static void add_f32(float *restrict to, const float *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] += from[i];
}

/* ---- elements `step` apart ---- */

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
        if (step == 1)
            widen_bf16(to, h, n);
        else
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

/* Narrows n f32 into elements of `type`, `step` apart; `add` accumulates (f32 and bf16 only). */
static void store(void *to, dtype type, int64_t step, const float *restrict from, int64_t n, bool add)
{
    float *f = to;
    uint16_t *h = to;
    int32_t *whole = to;
    uint8_t *byte = to;
    CHECK(!add || type == DT_F32 || type == DT_BF16, "accumulating into %s", dtype_name(type));
    switch (type) {
    case DT_F32:
        if (step == 1 && add)
            add_f32(f, from, n);
        else
            for (int64_t i = 0; i < n; i++)
                f[i * step] = (add ? f[i * step] : 0.0f) + from[i];
        break;
    case DT_BF16:
        if (step == 1)
            narrow_bf16(h, from, n, add);
        else
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

/* Elements of any type of `bytes` bytes, as they are. */
static void move(void *to, int64_t to_step, const void *from, int64_t from_step, int64_t n, size_t bytes)
{
    uint16_t *to2 = to;
    uint32_t *to4 = to;
    const uint16_t *from2 = from;
    const uint32_t *from4 = from;
    if (to_step == 1 && from_step == 1)
        memcpy(to, from, (size_t)n * bytes);
    else if (bytes == 4)
        for (int64_t i = 0; i < n; i++)
            to4[i * to_step] = from4[i * from_step];
    else if (bytes == 2)
        for (int64_t i = 0; i < n; i++)
            to2[i * to_step] = from2[i * from_step];
    else
        for (int64_t i = 0; i < n; i++)
            ((char *)to)[i * to_step] = ((const char *)from)[i * from_step];
}

enum { PIECE = 1024 };

/* n elements from one type and step to another. Equal types are moved as they are: NaN bits and large i32 stay. */
static void convert(void *to, dtype to_type, int64_t to_step, const void *from, dtype from_type, int64_t from_step,
                    int64_t n, bool add)
{
    size_t to_bytes = dtype_bytes(to_type), from_bytes = dtype_bytes(from_type);
    float piece[PIECE];
    if (to_type == from_type && !add) {
        move(to, to_step, from, from_step, n, to_bytes);
    } else if (to_type == DT_F32 && to_step == 1 && !add) {
        load(to, from, from_type, from_step, n);
    } else if (from_type == DT_F32 && from_step == 1) {
        store(to, to_type, to_step, from, n, add);
    } else if (from_type == DT_F16 && to_type == DT_BF16 && from_step == 1 && to_step == 1 && !add) {
        f16_to_bf16(to, from, n);
    } else {
        for (int64_t i = 0; i < n; i += PIECE) {
            int64_t m = n - i < PIECE ? n - i : PIECE;
            load(piece, (const char *)from + (size_t)(i * from_step) * from_bytes, from_type, from_step, m);
            store((char *)to + (size_t)(i * to_step) * to_bytes, to_type, to_step, piece, m, add);
        }
    }
}

/* ---- strided tensors, row by row ---- */

/* Two tensors of one shape with their dimensions joined wherever both lie densely, so that rows are long. */
typedef struct walk {
    int     ndim; /* at least 1: the last is the row */
    int64_t dim[TENSOR_MAX_DIM], to[TENSOR_MAX_DIM], from[TENSOR_MAX_DIM]; /* strides */
    int64_t rows, pieces;                                               /* pieces of CPU_CHUNK in a row */
} walk;

static walk walk_of(const tensor *y, const tensor *x)
{
    walk w = {.rows = 1};
    for (int i = 0; i < x->ndim; i++) {
        if (x->dim[i] == 1)
            continue;
        int last = w.ndim - 1;
        if (w.ndim && w.to[last] == y->stride[i] * y->dim[i] && w.from[last] == x->stride[i] * x->dim[i]) {
            w.dim[last] *= x->dim[i];
            w.to[last] = y->stride[i];
            w.from[last] = x->stride[i];
        } else {
            w.dim[w.ndim] = x->dim[i];
            w.to[w.ndim] = y->stride[i];
            w.from[w.ndim++] = x->stride[i];
        }
    }
    if (!w.ndim) {
        w.dim[0] = w.to[0] = w.from[0] = 1;
        w.ndim = 1;
    }
    for (int i = 0; i < w.ndim - 1; i++)
        w.rows *= w.dim[i];
    w.pieces = (w.dim[w.ndim - 1] + CPU_CHUNK - 1) / CPU_CHUNK;
    return w;
}

/* Piece `t` of all: where it begins in both, and its length. */
static int64_t piece_of(int64_t *to, int64_t *from, const walk *w, int64_t t)
{
    int last = w->ndim - 1;
    int64_t start = t % w->pieces * CPU_CHUNK, row = t / w->pieces, left = w->dim[last] - start;
    *to = start * w->to[last];
    *from = start * w->from[last];
    for (int i = last - 1; i >= 0; i--) {
        int64_t index = row % w->dim[i];
        row /= w->dim[i];
        *to += index * w->to[i];
        *from += index * w->from[i];
    }
    return left < CPU_CHUNK ? left : CPU_CHUNK;
}

static void *element(const tensor *t, int64_t offset)
{
    return (char *)t->data + offset * (int64_t)dtype_bytes(t->type);
}

err cpu_copy(device *d, tensor *y, const tensor *x, bool add)
{
    CHECK(tensor_same_shape(y, x), "copy of %s into %s: other shape", x->name, y->name);
    int64_t n = tensor_count(x);
    if (!n)
        return OK;
    walk w = walk_of(y, x);
    int last = w.ndim - 1;
#pragma omp parallel for num_threads(d->threads) schedule(static) if (n > CPU_CHUNK)
    for (int64_t t = 0; t < w.rows * w.pieces; t++) {
        int64_t to, from, length = piece_of(&to, &from, &w, t);
        convert(element(y, to), y->type, w.to[last], element(x, from), x->type, w.from[last], length, add);
    }
    return OK;
}

err cpu_upload(device *d, tensor *y, const void *host, dtype type)
{
    CHECK(tensor_contiguous(y), "upload into the strided %s", y->name);
    int64_t n = tensor_count(y);
    size_t bytes = dtype_bytes(type);
#pragma omp parallel for num_threads(d->threads) schedule(static) if (n > CPU_CHUNK)
    for (int64_t i = 0; i < n; i += CPU_CHUNK) {
        int64_t m = n - i < CPU_CHUNK ? n - i : CPU_CHUNK;
        const char *from = (const char *)host + (size_t)i * bytes;
        if ((uintptr_t)from % bytes == 0 || type == y->type) {
            convert(element(y, i), y->type, 1, from, type, 1, m, false);
            continue;
        }
        _Alignas(64) char aligned[PIECE * sizeof(float)]; /* files promise no alignment */
        for (int64_t j = 0; j < m; j += PIECE) {
            int64_t length = m - j < PIECE ? m - j : PIECE;
            memcpy(aligned, from + (size_t)j * bytes, (size_t)length * bytes);
            convert(element(y, i + j), y->type, 1, aligned, type, 1, length, false);
        }
    }
    return OK;
}

err cpu_download(device *d, void *host, dtype type, const tensor *x)
{
    if (x->layout == LAYOUT_CONV)
        return conv_download(d, host, type, x);
    if (x->layout == LAYOUT_LINEAR)
        return linear_download(d, host, type, x);
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
    int64_t n = tensor_count(y);
    if (!n)
        return OK;
    walk w = walk_of(y, y);
#pragma omp parallel for num_threads(d->threads) schedule(static) if (n > CPU_CHUNK)
    for (int64_t t = 0; t < w.rows * w.pieces; t++) {
        int64_t to, from, length = piece_of(&to, &from, &w, t);
        fill_run(y, to, w.to[w.ndim - 1], value, length);
    }
    return OK;
}
