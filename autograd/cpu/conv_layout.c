#include "autograd/cpu/conv_layout.h"

#include <string.h>

#include "autograd/cpu/cpu.h"

conv_weights conv_weights_of(const tensor *w)
{
    CHECK(!w->layout || w->layout == LAYOUT_CONV, "%s: layout %d is none of a convolution", w->name, w->layout);
    return w->layout ? CONV_BLOCKED : CONV_PLAIN;
}

static conv_shape shape_of(const tensor *w)
{
    return (conv_shape){.out = w->dim[0], .kernel_height = w->dim[1], .kernel_width = w->dim[2], .in = w->dim[3],
                        .type = w->type};
}

err conv_lay_out(device *d, tensor *w)
{
    CHECK(w->ndim == 4 && !w->layout && tensor_contiguous(w), "%s is no plain weight of a convolution", w->name);
    CHECK(w->mem && w->mem->references == 1 && w->data == w->mem->data, "%s has views, it cannot be laid out", w->name);
    bool known = w->type == DT_F32 || (w->type == DT_BF16 && onednn_has_bf16());
    if (!known || !tensor_count(w))
        return OK;
    conv_shape s = shape_of(w);
    size_t bytes = 0;
    void *blocked = NULL;
    TRY(onednn_conv_blocked_bytes(d, &bytes, &s));
    TRY(d->memory->get(d->memory, &blocked, bytes, w->mem->life));
    err e = onednn_conv_block(d, blocked, w->data, &s);
    if (e != OK) {
        d->memory->put(d->memory, blocked, bytes, w->mem->life);
        return e;
    }
    d->memory->put(d->memory, w->mem->data, w->mem->bytes, w->mem->life);
    w->mem->data = w->data = blocked;
    w->mem->bytes = bytes;
    w->layout = LAYOUT_CONV;
    return OK;
}

err conv_download(device *d, void *host, dtype type, const tensor *w)
{
    tensor plain = *w;
    plain.layout = 0;
    conv_shape s = shape_of(w);
    size_t bytes = (size_t)tensor_count(w) * dtype_bytes(w->type);
    TRY(d->memory->get(d->memory, &plain.data, bytes, LIFE_SCRATCH));
    err e = onednn_conv_unblock(d, plain.data, w->data, &s);
    if (e == OK)
        e = cpu_download(d, host, type, &plain);
    d->memory->put(d->memory, plain.data, bytes, LIFE_SCRATCH);
    return e;
}
