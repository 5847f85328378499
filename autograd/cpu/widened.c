#include "autograd/cpu/widened.h"

#include "autograd/cpu/element.h"

CPU_INLINE void row_widen(float *restrict y, const void *restrict x, int64_t n, bool bf16)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = cpu_get(x, i, bf16);
}

CPU_CLONES static void row_load(float *restrict y, const void *restrict x, int64_t n, bool bf16)
{
    CPU_BOTH(row_widen, y, x, n);
}

CPU_INLINE void row_round(void *restrict y, const float *restrict x, int64_t n, bool bf16)
{
    for (int64_t i = 0; i < n; i++)
        cpu_put(y, i, x[i], bf16);
}

CPU_CLONES static void row_store(void *restrict y, const float *restrict x, int64_t n, bool bf16)
{
    CPU_BOTH(row_round, y, x, n);
}

static void copy_rows(widened *w, int i, bool store)
{
    const tensor *x = w->original[i];
    float        *twin = w->twin[i].data;
    int64_t       queries = x->dim[1], heads = x->dim[2], size = x->dim[3];
    bool          bf16 = x->type == DT_BF16;
#pragma omp parallel for num_threads(w->d->threads) schedule(static)
    for (int64_t r = 0; r < x->dim[0] * queries * heads; r++) {
        int64_t b = r / heads / queries, t = r / heads % queries, h = r % heads;
        void   *row = cpu_at(x->data, b * x->stride[0] + t * x->stride[1] + h * x->stride[2], bf16);
        if (store)
            row_store(row, twin + r * size, size, bf16);
        else
            row_load(twin + r * size, row, size, bf16);
    }
}

err widened_open(widened *w, device *d, unsigned load, int count, tensor *const *t)
{
    CHECK(count <= WIDENED_MOST, "%d tensors to widen, at most %d", count, WIDENED_MOST);
    *w = (widened){.d = d, .count = count};
    for (int i = 0; i < count; i++)
        w->bytes += t[i] ? (size_t)tensor_count(t[i]) * sizeof(float) : 0;
    TRY(d->memory->get(d->memory, &w->memory, w->bytes, LIFE_SCRATCH));
    float *next = w->memory;
    for (int i = 0; i < count; i++) {
        if (!t[i])
            continue;
        w->original[i] = t[i];
        w->twin[i] = *t[i];
        w->twin[i].type = DT_F32;
        w->twin[i].data = next;
        tensor_set_shape(&w->twin[i], t[i]->ndim, t[i]->dim);
        w->at[i] = &w->twin[i];
        next += tensor_count(t[i]);
        if (load >> i & 1u && !d->dataless)
            copy_rows(w, i, false);
    }
    return OK;
}

void widened_store(widened *w, int i)
{
    if (w->original[i])
        copy_rows(w, i, true);
}

void widened_close(widened *w)
{
    w->d->memory->put(w->d->memory, w->memory, w->bytes, LIFE_SCRATCH);
}
