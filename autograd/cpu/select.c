/* Sample by sample, one of two tensors. */
#include <string.h>

#include "autograd/cpu/cpu.h"

err cpu_select(device *d, tensor *y, const tensor *pick, const tensor *a, const tensor *b)
{
    TRY(cpu_need_f32("select", a));
    TRY(cpu_need_f32("select", b));
    const int32_t *use_a = pick->data;
    int64_t        size = tensor_count_from(y, 1), samples = y->dim[0];
    bool           one = a->dim[0] == 1;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < samples; i++) {
        const float *from = use_a[i] ? a->data : b->data;
        from += use_a[i] && one ? 0 : i * size;
        memcpy((float *)y->data + i * size, from, (size_t)size * sizeof(float));
    }
    return OK;
}

/* dx (samples or 1, size) takes the rows of dy whose pick is `side`; with one row they are summed in order. */
static void backward_side(device *d, tensor *dx, const tensor *dy, const int32_t *pick, bool side, bool add)
{
    int64_t      size = tensor_count_from(dy, 1), samples = dy->dim[0];
    bool         one = dx->dim[0] == 1;
    const float *from = dy->data;
    float       *to = dx->data;
    if (!add)
        memset(to, 0, (size_t)tensor_count(dx) * sizeof(float));
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t j = 0; j < size; j++)
        for (int64_t i = 0; i < samples; i++)
            if ((pick[i] != 0) == side)
                to[(one ? 0 : i * size) + j] += from[i * size + j];
}

err cpu_select_backward(device *d, tensor *da, tensor *db, const tensor *dy, const tensor *pick, bool add_a, bool add_b)
{
    TRY(cpu_need_f32("select_backward", dy));
    if (da)
        backward_side(d, da, dy, pick->data, true, add_a);
    if (db)
        backward_side(d, db, dy, pick->data, false, add_b);
    return OK;
}
