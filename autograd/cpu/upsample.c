/* Nearest neighbour in NHWC: the source of row i is floor(i*h/H), of column j floor(j*w/W), in whole
 * numbers. For the sizes that skip connections have, 2h and 2h-1, torch's f32 scale gives the same. */
#include <string.h>

#include "autograd/cpu/cpu.h"

err cpu_upsample(device *d, tensor *y, const tensor *x)
{
    TRY(cpu_need_f32("upsample", x));
    int64_t      h = x->dim[1], w = x->dim[2], rows = y->dim[1], columns = y->dim[2], channels = x->dim[3];
    const float *from = x->data;
    float       *to = y->data;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t r = 0; r < x->dim[0] * rows; r++) {
        const float *source = from + (r / rows * h + r % rows * h / rows) * w * channels;
        for (int64_t c = 0; c < columns; c++)
            memcpy(to + (r * columns + c) * channels, source + c * w / columns * channels,
                   (size_t)channels * sizeof(float));
    }
    return OK;
}

/* The first of `large` places whose source among `small` is at least i. */
static int64_t first_place(int64_t i, int64_t small, int64_t large)
{
    return (i * large + small - 1) / small;
}

err cpu_upsample_dx(device *d, tensor *dx, const tensor *dy, bool add)
{
    TRY(cpu_need_f32("upsample_dx", dy));
    int64_t      h = dx->dim[1], w = dx->dim[2], rows = dy->dim[1], columns = dy->dim[2], channels = dx->dim[3];
    const float *from = dy->data;
    float       *to = dx->data;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < dx->dim[0] * h * w; i++) {
        int64_t b = i / w / h, row = i / w % h, column = i % w;
        float  *sum = to + i * channels;
        if (!add)
            memset(sum, 0, (size_t)channels * sizeof(float));
        for (int64_t r = first_place(row, h, rows); r < first_place(row + 1, h, rows); r++) {
            for (int64_t c = first_place(column, w, columns); c < first_place(column + 1, w, columns); c++) {
                const float *part = from + ((b * rows + r) * columns + c) * channels;
                for (int64_t j = 0; j < channels; j++)
                    sum[j] += part[j];
            }
        }
    }
    return OK;
}
