#include <string.h>

#include "autograd/cpu/clones.h"
#include "autograd/cpu/conv_layout.h"
#include "autograd/cpu/cpu.h"
#include "autograd/cpu/winograd.h"
#include "base/half.h"

static conv_shape shape_of(const tensor *x, const tensor *w, const tensor *y, const conv_geometry *g)
{
    return (conv_shape){.batch = x->dim[0], .height = x->dim[1], .width = x->dim[2], .in = x->dim[3],
                        .out_height = y->dim[1], .out_width = y->dim[2], .out = y->dim[3],
                        .kernel_height = w->dim[1], .kernel_width = w->dim[2], .geometry = *g, .type = w->type,
                        .weights = conv_weights_of(w)};
}

/* E_DEVICE unless all are of w's type, f32 or bf16; contiguous they must be. */
static err need_one_type(const char *primitive, const tensor *w, int count, const tensor *const *others)
{
    for (int i = -1; i < count; i++) {
        const tensor *x = i < 0 ? w : others[i];
        if (!x)
            continue;
        CHECK(tensor_contiguous(x), "cpu %s: %s is strided", primitive, x->name);
        if (x->type != w->type || (x->type != DT_F32 && x->type != DT_BF16))
            return err_set(E_DEVICE, "cpu %s: %s is %s, expected %s, as the weight %s; leave --dtype at auto",
                           primitive, x->name, dtype_name(x->type), w->type == DT_BF16 ? "bf16" : "f32", w->name);
    }
    return OK;
}

/* ---- bf16 where the machine has only f32: widened, computed, rounded ---- */

static err widened(device *d, tensor *wide, const tensor *x, bool fill)
{
    *wide = *x;
    wide->type = DT_F32;
    wide->layout = 0;
    TRY(d->memory->get(d->memory, &wide->data, (size_t)tensor_count(x) * sizeof(float), LIFE_SCRATCH));
    return !fill || d->dataless ? OK : x->layout ? conv_download(d, wide->data, DT_F32, x) : cpu_copy(d, wide, x, false);
}

static void put_back(device *d, tensor *wide)
{
    if (wide->data)
        d->memory->put(d->memory, wide->data, (size_t)tensor_count(wide) * sizeof(float), LIFE_SCRATCH);
}

static err conv_widened(device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias,
                        const tensor *residual, const conv_geometry *g)
{
    tensor wide_y = {0}, wide_x = {0}, wide_w = {0}, wide_b = {0};
    err e = widened(d, &wide_x, x, true);
    e = e ? e : widened(d, &wide_w, w, true);
    e = e || !bias ? e : widened(d, &wide_b, bias, true);
    e = e ? e : widened(d, &wide_y, residual ? residual : y, residual != NULL);
    e = e ? e : cpu_conv2d(d, &wide_y, &wide_x, &wide_w, bias ? &wide_b : NULL, residual ? &wide_y : NULL, g);
    e = e || d->dataless ? e : cpu_copy(d, y, &wide_y, false);
    put_back(d, &wide_y), put_back(d, &wide_x), put_back(d, &wide_w), put_back(d, &wide_b);
    return e;
}

static err dx_widened(device *d, float *dx, const tensor *shape, const tensor *dy, const tensor *w,
                      const conv_geometry *g)
{
    tensor wide_dx = *shape, wide_dy = {0}, wide_w = {0};
    wide_dx.type = DT_F32;
    wide_dx.data = dx;
    err e = widened(d, &wide_dy, dy, true);
    e = e ? e : widened(d, &wide_w, w, true);
    e = e ? e : cpu_conv2d_dx(d, &wide_dx, &wide_dy, &wide_w, g, false);
    put_back(d, &wide_dy), put_back(d, &wide_w);
    return e;
}

/* ---- the primitives ---- */

err cpu_conv2d(device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias, const tensor *residual,
               const conv_geometry *g)
{
    TRY(need_one_type("conv2d", w, 4, (const tensor *[]){x, y, bias, residual}));
    if (w->type == DT_BF16 && !onednn_has_bf16())
        return conv_widened(d, y, x, w, bias, residual, g);
    if (residual && residual->data != y->data && !d->dataless)
        memcpy(y->data, residual->data, (size_t)tensor_count(y) * dtype_bytes(y->type));
    conv_shape s = shape_of(x, w, y, g);
    if (winograd_suits(&s))
        return winograd_conv(d, y->data, x->data, w->data, bias ? bias->data : NULL, &s, residual != NULL);
    return onednn_conv(d, y->data, x->data, w->data, bias ? bias->data : NULL, &s, residual != NULL);
}

CPU_CLONES static void add_to_f32(float *restrict y, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

CPU_CLONES static void add_to_bf16(uint16_t *restrict y, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = f32_to_bf16(bf16_to_f32(y[i]) + x[i]);
}

/* dx += side, rounded once */
static void add_side(device *d, tensor *dx, const float *side)
{
    int64_t n = tensor_count(dx);
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < n; i += CPU_CHUNK) {
        int64_t m = n - i < CPU_CHUNK ? n - i : CPU_CHUNK;
        if (dx->type == DT_BF16)
            add_to_bf16((uint16_t *)dx->data + i, side + i, m);
        else
            add_to_f32((float *)dx->data + i, side + i, m);
    }
}

err cpu_conv2d_dx(device *d, tensor *dx, const tensor *dy, const tensor *w, const conv_geometry *g, bool add)
{
    TRY(need_one_type("conv2d_dx", w, 2, (const tensor *[]){dx, dy}));
    conv_shape s = shape_of(dx, w, dy, g);
    bool widen = w->type == DT_BF16 && !onednn_has_bf16();
    if (winograd_suits(&s))
        return winograd_conv_dx(d, dx->data, dy->data, w->data, &s, add);
    if (!add && !widen)
        return onednn_conv_dx(d, dx->data, dx->type, dy->data, w->data, &s);
    /* oneDNN's data gradient only overwrites: to the side, then added */
    tensor side = *dx;
    side.type = DT_F32;
    size_t bytes = (size_t)tensor_count(dx) * sizeof(float);
    TRY(d->memory->get(d->memory, &side.data, bytes, LIFE_SCRATCH));
    err e = widen ? dx_widened(d, side.data, dx, dy, w, g)
                  : onednn_conv_dx(d, side.data, DT_F32, dy->data, w->data, &s);
    if (e == OK && add && !d->dataless)
        add_side(d, dx, side.data);
    else if (e == OK && !d->dataless)
        e = cpu_copy(d, dx, &side, false);
    d->memory->put(d->memory, side.data, bytes, LIFE_SCRATCH);
    return e;
}
