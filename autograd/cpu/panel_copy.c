/* Between tensors' rows, f32 or bf16, and panels and tiles. */
#include <string.h>

#include "autograd/cpu/element.h"
#include "autograd/cpu/panel.h"

CPU_INLINE void load(float *restrict panel, const void *restrict x, int64_t row, int64_t count, int64_t size,
                     float scale, bool bf16)
{
    for (int64_t k = 0; k < size; k++) {
        for (int64_t r = 0; r < count; r++)
            panel[k * PANEL + r] = scale * cpu_get(x, r * row + k, bf16);
        for (int64_t r = count; r < PANEL; r++)
            panel[k * PANEL + r] = 0.0f;
    }
}

void panel_load(float *panel, const void *x, int64_t row, int64_t count, int64_t size, float scale, bool bf16)
{
    CPU_BOTH(load, panel, x, row, count, size, scale);
}

CPU_INLINE void store(void *restrict y, const float *restrict panel, const float *restrict factor, int64_t row,
                      int64_t count, int64_t size, bool add, bool bf16)
{
    for (int64_t r = 0; r < count; r++) {
        float times = factor ? factor[r] : 1.0f;
        for (int64_t k = 0; k < size; k++) {
            float value = panel[k * PANEL + r] * times;
            cpu_put(y, r * row + k, add ? cpu_get(y, r * row + k, bf16) + value : value, bf16);
        }
    }
}

void panel_store(void *y, const float *panel, const float *factor, int64_t row, int64_t count, int64_t size, bool add,
                 bool bf16)
{
    CPU_BOTH(store, y, panel, factor, row, count, size, add);
}

CPU_INLINE void rows_load(float *restrict tile, const void *restrict x, int64_t row, int64_t count, int64_t size,
                          int64_t step, bool bf16)
{
    for (int64_t r = 0; r < count; r++) {
        float *restrict      to = tile + r * step;
        const void *restrict from = cpu_at(x, r * row, bf16);
        for (int64_t k = 0; k < size; k++)
            to[k] = cpu_get(from, k, bf16);
        for (int64_t k = size; k < step; k++)
            to[k] = 0.0f;
    }
    for (; count % PANEL_ROWS; count++)
        memset(tile + count * step, 0, (size_t)step * sizeof *tile);
}

CPU_CLONES static void rows_load_run(float *restrict tile, const void *restrict x, int64_t row, int64_t count,
                                     int64_t size, int64_t step, bool bf16)
{
    CPU_BOTH(rows_load, tile, x, row, count, size, step);
}

void panel_rows_load(float *tile, const void *x, int64_t row, int64_t count, int64_t size, int64_t step, bool bf16)
{
    rows_load_run(tile, x, row, count, size, step, bf16);
}

CPU_INLINE void rows_store(void *restrict y, const float *restrict tile, int64_t row, int64_t count, int64_t size,
                           int64_t step, bool add, bool bf16)
{
    for (int64_t r = 0; r < count; r++) {
        void *restrict        to = cpu_at(y, r * row, bf16);
        const float *restrict from = tile + r * step;
        for (int64_t k = 0; k < size; k++)
            cpu_put(to, k, add ? cpu_get(to, k, bf16) + from[k] : from[k], bf16);
    }
}

CPU_CLONES static void rows_store_run(void *restrict y, const float *restrict tile, int64_t row, int64_t count,
                                      int64_t size, int64_t step, bool add, bool bf16)
{
    CPU_BOTH(rows_store, y, tile, row, count, size, step, add);
}

void panel_rows_store(void *y, const float *tile, int64_t row, int64_t count, int64_t size, int64_t step, bool add,
                      bool bf16)
{
    rows_store_run(y, tile, row, count, size, step, add, bf16);
}

CPU_CLONES static void rescale(float *restrict x, const float *restrict factor, int64_t rows, int64_t columns)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < columns; i++)
            x[r * PANEL + i] *= factor[i];
}

void panel_rescale(float *x, const float *factor, int64_t rows, int64_t vectors)
{
    bool all_one = true;
    for (int64_t i = 0; i < vectors * PANEL_LANES; i++)
        all_one &= factor[i] == 1.0f;
    if (!all_one)
        rescale(x, factor, rows, vectors * PANEL_LANES);
}
