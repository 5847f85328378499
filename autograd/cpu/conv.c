#include <string.h>

#include "autograd/cpu/cpu.h"
#include "autograd/cpu/winograd.h"

static conv_shape shape_of(const tensor *x, const tensor *w, const tensor *y, const conv_geometry *g)
{
    return (conv_shape){.batch = x->dim[0], .height = x->dim[1], .width = x->dim[2], .in = x->dim[3],
                        .out_height = y->dim[1], .out_width = y->dim[2], .out = y->dim[3],
                        .kernel_height = w->dim[1], .kernel_width = w->dim[2], .geometry = *g};
}

err cpu_conv2d(device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias, const tensor *residual,
               const conv_geometry *g)
{
    TRY(cpu_need_f32("conv2d", x));
    TRY(cpu_need_f32("conv2d", w));
    TRY(cpu_need_f32("conv2d", bias));
    TRY(cpu_need_f32("conv2d", residual));
    if (residual && residual->data != y->data)
        memcpy(y->data, residual->data, (size_t)tensor_count(y) * sizeof(float));
    conv_shape s = shape_of(x, w, y, g);
    if (winograd_suits(&s))
        return winograd_conv(d, y->data, x->data, w->data, bias ? bias->data : NULL, &s, residual != NULL);
    return onednn_conv(d, y->data, x->data, w->data, bias ? bias->data : NULL, &s, residual != NULL);
}

err cpu_conv2d_dx(device *d, tensor *dx, const tensor *dy, const tensor *w, const conv_geometry *g, bool add)
{
    TRY(cpu_need_f32("conv2d_dx", dy));
    TRY(cpu_need_f32("conv2d_dx", w));
    conv_shape s = shape_of(dx, w, dy, g);
    if (winograd_suits(&s))
        return winograd_conv_dx(d, dx->data, dy->data, w->data, &s, add);
    if (!add)
        return onednn_conv_dx(d, dx->data, dy->data, w->data, &s);
    /* oneDNN's data gradient only overwrites: to the side, then added */
    tensor side = *dx;
    size_t bytes = (size_t)tensor_count(dx) * sizeof(float);
    TRY(d->memory->get(d->memory, &side.data, bytes, LIFE_SCRATCH));
    err e = onednn_conv_dx(d, side.data, dy->data, w->data, &s);
    if (e == OK)
        e = cpu_copy(d, dx, &side, true);
    d->memory->put(d->memory, side.data, bytes, LIFE_SCRATCH);
    return e;
}
