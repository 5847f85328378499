/* Sample by sample, one of two tensors. */
#include <string.h>

#include "autograd/cpu/cpu.h"
#include "autograd/cpu/element.h"

err cpu_select(device *d, tensor *y, const tensor *pick, const tensor *a, const tensor *b)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, "select", CPU_TENSORS(a, b, y)));
    const int32_t *use_a = pick->data;
    size_t         bytes = (size_t)tensor_count_from(y, 1) * dtype_bytes(y->type);
    int64_t        samples = y->dim[0];
    bool           one = a->dim[0] == 1;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < samples; i++) {
        const char *from = use_a[i] ? a->data : b->data;
        from += use_a[i] && one ? 0 : (size_t)i * bytes;
        memcpy((char *)y->data + (size_t)i * bytes, from, bytes);
    }
    return OK;
}

enum { COLUMNS = 256 };

typedef struct side {
    tensor        *dx; /* (samples or 1, size) */
    const tensor  *dy; /* (samples, size) */
    const int32_t *pick;
    bool           chosen, wide, bf16, add;
} side;

/* Columns [first, first + n) of sample i, or of the sum of all: those whose pick is the side's. */
static void write_columns(const side *s, int64_t i, int64_t first, int64_t n)
{
    int64_t size = tensor_count_from(s->dy, 1);
    bool    one = s->dx->dim[0] == 1;
    float   sum[COLUMNS] = {0};
    for (int64_t k = one ? 0 : i; k < (one ? s->dy->dim[0] : i + 1); k++)
        for (int64_t j = 0; j < n && (s->pick[k] != 0) == s->chosen; j++)
            sum[j] += cpu_get(s->dy->data, k * size + first + j, s->bf16);
    for (int64_t j = 0; j < n; j++) {
        int64_t at = (one ? 0 : i * size) + first + j;
        cpu_put(s->dx->data, at, (s->add ? cpu_get(s->dx->data, at, !s->wide) : 0.0f) + sum[j], !s->wide);
    }
}

/* dx takes the rows of dy whose pick is the side's; with one row they are summed in order. */
static err backward_side(device *d, side s)
{
    TRY(cpu_gradient_type(&s.wide, "select_backward", s.dx, s.bf16));
    int64_t size = tensor_count_from(s.dy, 1), blocks = (size + COLUMNS - 1) / COLUMNS;
#pragma omp parallel for num_threads(d->threads) schedule(static) if (tensor_count(s.dy) > CPU_CHUNK)
    for (int64_t t = 0; t < s.dx->dim[0] * blocks; t++) {
        int64_t first = t % blocks * COLUMNS, left = size - first;
        write_columns(&s, t / blocks, first, left < COLUMNS ? left : COLUMNS);
    }
    return OK;
}

err cpu_select_backward(device *d, tensor *da, tensor *db, const tensor *dy, const tensor *pick, bool add_a, bool add_b)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, "select_backward", CPU_TENSORS(dy)));
    if (da)
        TRY(backward_side(d, (side){da, dy, pick->data, true, false, bf16, add_a}));
    if (db)
        TRY(backward_side(d, (side){db, dy, pick->data, false, false, bf16, add_b}));
    return OK;
}
