#include "autograd/cpu/linear_layout.h"

#include <omp.h>
#include <string.h>

#include "autograd/cpu/clones.h"
#include "autograd/cpu/cpu.h"
#include "autograd/cpu/onednn.h"

enum { BLOCK_ROWS = 64, COLUMNS_OF = 16 }; /* rows of a block; words of 32 bits that move at a time */

/* to [k][64] = from (64,k) */
CPU_CLONES static void pack_f32(uint32_t *restrict to, const uint32_t *restrict from, int64_t k)
{
    for (int64_t i = 0; i < k; i += COLUMNS_OF)
        for (int64_t row = 0; row < BLOCK_ROWS; row++)
            for (int64_t j = i; j < i + COLUMNS_OF; j++)
                to[j * BLOCK_ROWS + row] = from[row * k + j];
}

CPU_CLONES static void unpack_f32(uint32_t *restrict to, const uint32_t *restrict from, int64_t k)
{
    for (int64_t i = 0; i < k; i += COLUMNS_OF)
        for (int64_t row = 0; row < BLOCK_ROWS; row++)
            for (int64_t j = i; j < i + COLUMNS_OF; j++)
                to[row * k + j] = from[j * BLOCK_ROWS + row];
}

/* bf16 moves in pairs of columns: numbers of 32 bits of a matrix half as wide. */
static int64_t words(const tensor *w)
{
    return w->type == DT_BF16 ? w->dim[1] / 2 : w->dim[1];
}

static bool suits(const tensor *w)
{
    return w->ndim == 2 && (w->type == DT_F32 || w->type == DT_BF16) && tensor_count(w) &&
           w->dim[0] % BLOCK_ROWS == 0 && w->dim[1] % (2 * COLUMNS_OF) == 0 && onednn_has_blocks(w->type);
}

/* Each block of 64 rows by itself, to (may be from) <- from. */
static err convert(device *d, uint32_t *to, const uint32_t *from, const tensor *w, bool pack)
{
    int64_t k = words(w), block = BLOCK_ROWS * k;
    size_t  bytes = (size_t)(block * d->threads) * sizeof *to;
    void   *side = NULL;
    TRY(d->memory->get(d->memory, &side, bytes, LIFE_SCRATCH));
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t b = 0; b < w->dim[0] / BLOCK_ROWS; b++) {
        uint32_t *mine = (uint32_t *)side + omp_get_thread_num() * block;
        if (pack)
            pack_f32(mine, from + b * block, k);
        else
            unpack_f32(mine, from + b * block, k);
        memcpy(to + b * block, mine, (size_t)block * sizeof *to);
    }
    d->memory->put(d->memory, side, bytes, LIFE_SCRATCH);
    return OK;
}

err linear_lay_out(device *d, tensor *w)
{
    CHECK(!w->layout && tensor_contiguous(w), "%s is no plain weight of a linear layer", w->name);
    if (!suits(w))
        return OK;
    CHECK(w->mem->references == 1, "%s has views, which would read it in the wrong order", w->name);
    TRY(convert(d, w->data, w->data, w, true));
    w->layout = LAYOUT_LINEAR;
    return OK;
}

err linear_download(device *d, void *host, dtype type, const tensor *w)
{
    tensor plain = *w;
    size_t bytes = (size_t)tensor_count(w) * dtype_bytes(w->type);
    plain.layout = 0;
    TRY(d->memory->get(d->memory, &plain.data, bytes, LIFE_SCRATCH));
    err e = convert(d, plain.data, w->data, w, false);
    if (e == OK)
        e = cpu_download(d, host, type, &plain);
    d->memory->put(d->memory, plain.data, bytes, LIFE_SCRATCH);
    return e;
}
