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

/* Each column is summed in f64, row by row: the same bits for any number of threads. */
err cpu_sum_rows(device *d, tensor *db, const tensor *dy, bool add)
{
    TRY(cpu_need_f32("sum_rows", dy));
    enum { COLUMNS = 64 };
    const float *from = dy->data;
    float *to = db->data;
    int64_t rows = dy->dim[0], n = dy->dim[1];
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t c0 = 0; c0 < n; c0 += COLUMNS) {
        int64_t width = n - c0 < COLUMNS ? n - c0 : COLUMNS;
        double sum[COLUMNS] = {0};
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < width; c++)
                sum[c] += (double)from[r * n + c0 + c];
        for (int64_t c = 0; c < width; c++)
            to[c0 + c] = (add ? to[c0 + c] : 0.0f) + (float)sum[c];
    }
    return OK;
}
