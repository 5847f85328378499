/* Nearest neighbour in NHWC: the source of row i is floor(i*h/H), of column j floor(j*w/W), in whole
 * numbers. For the sizes that skip connections have, 2h and 2h-1, torch's f32 scale gives the same. */
#include <string.h>

#include "autograd/cpu/cpu.h"
#include "autograd/cpu/element.h"

err cpu_upsample(device *d, tensor *y, const tensor *x)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, "upsample", CPU_TENSORS(x, y)));
    int64_t h = x->dim[1], w = x->dim[2], rows = y->dim[1], columns = y->dim[2], channels = x->dim[3];
    size_t bytes = (size_t)channels * dtype_bytes(x->type);
    const char *from = x->data;
    char *to = y->data;
#pragma omp parallel for num_threads(d->threads) schedule(static) if (tensor_count(y) > CPU_CHUNK)
    for (int64_t r = 0; r < x->dim[0] * rows; r++) {
        const char *source = from + (size_t)((r / rows * h + r % rows * h / rows) * w) * bytes;
        for (int64_t c = 0; c < columns; c++)
            memcpy(to + (size_t)(r * columns + c) * bytes, source + (size_t)(c * w / columns) * bytes, bytes);
    }
    return OK;
}

/* The first of `large` places whose source among `small` is at least i. */
static int64_t first_place(int64_t i, int64_t small, int64_t large)
{
    return (i * large + small - 1) / small;
}

enum { COLUMNS = 256 };

/* sum (n) += rows of n, `step` elements apart */
CPU_INLINE void rows_added(float *restrict sum, const void *restrict dy, int64_t rows, int64_t step, int64_t n, bool bf16)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < n; c++)
            sum[c] += cpu_get(dy, r * step + c, bf16);
}

CPU_CLONES static void add_rows(float *restrict sum, const void *restrict dy, int64_t rows, int64_t step, int64_t n,
                                bool bf16)
{
    CPU_BOTH(rows_added, sum, dy, rows, step, n);
}

CPU_INLINE void sums_written(void *restrict dx, const float *restrict sum, bool add, int64_t n, bool bf16)
{
    for (int64_t c = 0; c < n; c++)
        cpu_put(dx, c, (add ? cpu_get(dx, c, bf16) : 0.0f) + sum[c], bf16);
}

CPU_CLONES static void write_sums(void *restrict dx, const float *restrict sum, bool add, int64_t n, bool bf16)
{
    if (add)
        CPU_BOTH(sums_written, dx, sum, true, n);
    else
        CPU_BOTH(sums_written, dx, sum, false, n);
}

err cpu_upsample_dx(device *d, tensor *dx, const tensor *dy, bool add)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, "upsample_dx", CPU_TENSORS(dy, dx)));
    int64_t h = dx->dim[1], w = dx->dim[2], rows = dy->dim[1], columns = dy->dim[2], channels = dx->dim[3];
#pragma omp parallel for num_threads(d->threads) schedule(static) if (tensor_count(dy) > CPU_CHUNK)
    for (int64_t i = 0; i < dx->dim[0] * h * w; i++) {
        int64_t b = i / w / h, row = i / w % h, column = i % w;
        int64_t left = first_place(column, w, columns), width = first_place(column + 1, w, columns) - left;
        for (int64_t c0 = 0; c0 < channels; c0 += COLUMNS) {
            int64_t n = channels - c0 < COLUMNS ? channels - c0 : COLUMNS;
            float sum[COLUMNS] = {0};
            for (int64_t r = first_place(row, h, rows); r < first_place(row + 1, h, rows); r++)
                add_rows(sum, cpu_at(dy->data, ((b * rows + r) * columns + left) * channels + c0, bf16), width, channels,
                         n, bf16);
            write_sums(cpu_at(dx->data, i * channels + c0, bf16), sum, add, n, bf16);
        }
    }
    return OK;
}
