#include <string.h>

#include "autograd/cpu/cpu.h"
#include "autograd/cpu/onednn.h"

static matrix plain(const tensor *t)
{
    return (matrix){t->data, t->dim[1], 1};
}

static matrix transposed(const tensor *t)
{
    return (matrix){t->data, 1, t->dim[1]};
}

err cpu_linear(device *d, tensor *y, const tensor *x, const tensor *w, const tensor *bias, const tensor *residual)
{
    TRY(cpu_need_f32("linear", x));
    TRY(cpu_need_f32("linear", w));
    TRY(cpu_need_f32("linear", bias));
    TRY(cpu_need_f32("linear", residual));
    if (residual && residual->data != y->data)
        memcpy(y->data, residual->data, (size_t)tensor_count(y) * sizeof(float));
    return onednn_matmul(d, y->data, plain(x), transposed(w), bias ? bias->data : NULL, x->dim[0], x->dim[1], w->dim[0],
                         residual != NULL);
}

err cpu_linear_dx(device *d, tensor *dx, const tensor *dy, const tensor *w, bool add)
{
    TRY(cpu_need_f32("linear_dx", dy));
    TRY(cpu_need_f32("linear_dx", w));
    return onednn_matmul(d, dx->data, plain(dy), plain(w), NULL, dy->dim[0], dy->dim[1], w->dim[1], add);
}

err cpu_linear_dw(device *d, tensor *dw, const tensor *dy, const tensor *x, bool add)
{
    TRY(cpu_need_f32("linear_dw", dy));
    TRY(cpu_need_f32("linear_dw", x));
    return onednn_matmul(d, dw->data, transposed(dy), plain(x), NULL, dy->dim[1], dy->dim[0], x->dim[1], add);
}

err cpu_sum_rows(device *d, tensor *db, const tensor *dy, bool add)
{
    return cpu_reduce_to(d, db, dy, NULL, add);
}
