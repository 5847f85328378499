#include "autograd/tensor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/device.h"

static const struct {
    const char *name;
    size_t      bytes;
} dtypes[DTYPE_COUNT] = {
    [DT_F32] = {"f32", 4}, [DT_BF16] = {"bf16", 2}, [DT_F16] = {"f16", 2},
    [DT_F8E4M3] = {"f8e4m3", 1}, [DT_I32] = {"i32", 4}, [DT_U8] = {"u8", 1},
};

const char *dtype_name(dtype d)
{
    return dtypes[d].name;
}

size_t dtype_bytes(dtype d)
{
    return dtypes[d].bytes;
}

const char *lifetime_name(lifetime life)
{
    static const char *const names[LIFETIME_COUNT] = {
        [LIFE_WEIGHTS] = "weights", [LIFE_STATE] = "state", [LIFE_STEP] = "step", [LIFE_SCRATCH] = "scratch"};
    return names[life];
}

void tensor_set_shape(tensor *t, int ndim, const int64_t *dim)
{
    CHECK(ndim >= 0 && ndim <= TENSOR_MAX_DIM, "%s: %d dimensions", t->name ? t->name : "tensor", ndim);
    t->ndim = ndim;
    int64_t stride = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        t->dim[i] = dim[i];
        t->stride[i] = stride;
        stride *= dim[i];
    }
}

static err byte_size(size_t *bytes, const char *name, dtype type, int ndim, const int64_t *dim)
{
    *bytes = dtype_bytes(type);
    for (int i = 0; i < ndim; i++) {
        if (dim[i] < 0 || __builtin_mul_overflow(*bytes, (size_t)dim[i], bytes))
            return err_set(E_SHAPE, "%s: dimension %d is %" PRId64 ": the tensor's size overflows", name, i, dim[i]);
    }
    return OK;
}

err tensor_new(tensor **out, arena *owner, device *dev, lifetime life, const char *name, dtype type, int ndim,
               const int64_t *dim)
{
    *out = NULL;
    size_t bytes = 0;
    TRY(byte_size(&bytes, name, type, ndim, dim));
    void *memory = NULL;
    if (dev->memory->get(dev->memory, &memory, bytes, life) != OK)
        return err_prefix(E_MEMORY, "%s", name);
    storage *mem = heap_get(sizeof *mem);
    *mem = (storage){.dev = dev, .data = memory, .bytes = bytes, .life = life, .references = 1};
    tensor *t = ARENA_NEW(owner, tensor);
    t->name = name;
    t->type = type;
    t->dev = dev;
    t->mem = mem;
    t->data = memory;
    tensor_set_shape(t, ndim, dim);
    *out = t;
    return OK;
}

tensor *tensor_view(arena *owner, tensor *x, const char *name)
{
    CHECK(x->mem, "view '%s' of '%s', whose data was released", name, x->name);
    tensor *view = ARENA_NEW(owner, tensor);
    *view = *x;
    view->name = name;
    view->needs_grad = false;
    view->recorded = false;
    view->grad_fresh = false;
    view->grad = NULL;
    view->mem->references++;
    return view;
}

tensor *tensor_rows_view(arena *owner, tensor *x, const char *name, int64_t start, int64_t rows)
{
    CHECK(start >= 0 && rows >= 0 && x->ndim > 0 && start + rows <= x->dim[0] && !x->layout, "%s: rows %" PRId64 " + %" PRId64,
          x->name, start, rows);
    tensor *view = tensor_view(owner, x, name);
    int64_t at = start * x->stride[0];
    view->dim[0] = rows;
    view->data = (char *)x->data + (size_t)at * dtype_bytes(x->type);
    view->base = x->base ? x->base : x;
    view->offset = x->offset + at;
    return view;
}

tensor *tensor_grad_view(arena *owner, const tensor *t)
{
    tensor *whole = t->base->grad, *view = tensor_view(owner, whole, t->name);
    view->ndim = t->ndim;
    for (int i = 0; i < t->ndim; i++) {
        view->dim[i] = t->dim[i];
        view->stride[i] = t->stride[i];
    }
    view->data = (char *)whole->data + (size_t)t->offset * dtype_bytes(whole->type);
    return view;
}

void tensor_release(tensor *t)
{
    if (!t || !t->mem)
        return;
    storage *mem = t->mem;
    t->mem = NULL;
    t->data = NULL;
    if (--mem->references > 0)
        return;
    mem->dev->memory->put(mem->dev->memory, mem->data, mem->bytes, mem->life);
    free(mem);
}

int64_t tensor_count_from(const tensor *t, int from)
{
    int64_t n = 1;
    for (int i = from; i < t->ndim; i++)
        n *= t->dim[i];
    return n;
}

int64_t tensor_count(const tensor *t)
{
    return tensor_count_from(t, 0);
}

bool tensor_contiguous(const tensor *t)
{
    int64_t stride = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        if (t->dim[i] != 1 && t->stride[i] != stride)
            return false;
        stride *= t->dim[i];
    }
    return true;
}

bool tensor_same_shape(const tensor *a, const tensor *b)
{
    return a->ndim == b->ndim && !memcmp(a->dim, b->dim, (size_t)a->ndim * sizeof *a->dim);
}

char *tensor_shape_text(arena *a, const tensor *t)
{
    char text[TENSOR_MAX_DIM * 22 + 3] = "(";
    size_t at = 1;
    for (int i = 0; i < t->ndim; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%" PRId64, i ? "," : "", t->dim[i]);
    snprintf(text + at, sizeof text - at, ")");
    return arena_copy_string(a, text);
}

err tensor_upload(tensor *t, const void *host, dtype type)
{
    CHECK(t->data, "%s: upload into a released tensor", t->name);
    return t->dev->p->upload(t->dev, t, host, type);
}

err tensor_download(void *host, dtype type, const tensor *t)
{
    CHECK(t->data, "%s: download of a released tensor", t->name);
    return t->dev->p->download(t->dev, host, type, t);
}
