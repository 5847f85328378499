/* Mean squared error. */
#include "autograd/cpu/cpu.h"
#include "autograd/cpu/element.h"

enum { LANES = 16 };

/* In f64 and in a fixed order of lanes. */
CPU_INLINE void squares_summed(double *sum, const void *restrict a, const void *restrict b, int64_t n, bool bf16)
{
    double lane[LANES] = {0};
    for (int64_t i = 0; i < n; i++) {
        double difference = (double)cpu_get(a, i, bf16) - (double)cpu_get(b, i, bf16);
        lane[i % LANES] += difference * difference;
    }
    *sum = 0;
    for (int j = 0; j < LANES; j++)
        *sum += lane[j];
}

CPU_CLONES static void sum_squares_of_difference(double *sum, const void *restrict a, const void *restrict b, int64_t n,
                                                 bool bf16)
{
    CPU_BOTH(squares_summed, sum, a, b, n);
}

err cpu_mse(device *d, tensor *loss, const tensor *a, const tensor *b)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, "mse", CPU_TENSORS(a, b)));
    TRY(cpu_need_f32("mse", loss));
    int64_t n = tensor_count(a), chunks = (n + CPU_CHUNK - 1) / CPU_CHUNK;
    size_t bytes = (size_t)chunks * sizeof(double);
    void *memory = NULL;
    TRY(d->memory->get(d->memory, &memory, bytes, LIFE_SCRATCH));
    if (d->dataless)
        return cpu_done(d, memory, bytes);
    double *part = memory, sum = 0.0;
#pragma omp parallel for num_threads(d->threads) schedule(static) if (n > CPU_CHUNK)
    for (int64_t k = 0; k < chunks; k++) {
        int64_t i = k * CPU_CHUNK;
        sum_squares_of_difference(part + k, cpu_at(a->data, i, bf16), cpu_at(b->data, i, bf16),
                                  n - i < CPU_CHUNK ? n - i : CPU_CHUNK, bf16);
    }
    for (int64_t k = 0; k < chunks; k++)
        sum += part[k];
    *(float *)loss->data = (float)(sum / (double)n);
    return cpu_done(d, memory, bytes);
}

CPU_INLINE void differences(void *restrict da, const void *restrict a, const void *restrict b, float factor, bool add,
                            int64_t n, bool bf16)
{
    for (int64_t i = 0; i < n; i++) {
        float slope = factor * (cpu_get(a, i, bf16) - cpu_get(b, i, bf16));
        cpu_put(da, i, (add ? cpu_get(da, i, bf16) : 0.0f) + slope, bf16);
    }
}

CPU_CLONES static void write_differences(void *restrict da, const void *restrict a, const void *restrict b, float factor,
                                         bool add, int64_t n, bool bf16)
{
    if (add)
        CPU_BOTH(differences, da, a, b, factor, true, n);
    else
        CPU_BOTH(differences, da, a, b, factor, false, n);
}

err cpu_mse_backward(device *d, tensor *da, const tensor *dloss, const tensor *a, const tensor *b, float sign, bool add)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, "mse_backward", CPU_TENSORS(a, b, da)));
    TRY(cpu_need_f32("mse_backward", dloss));
    int64_t n = tensor_count(a);
    float factor = (float)(2.0 * (double)sign * (double)*(const float *)dloss->data / (double)n);
#pragma omp parallel for num_threads(d->threads) schedule(static) if (n > CPU_CHUNK)
    for (int64_t i = 0; i < n; i += CPU_CHUNK)
        write_differences(cpu_at(da->data, i, bf16), cpu_at(a->data, i, bf16), cpu_at(b->data, i, bf16), factor, add,
                          n - i < CPU_CHUNK ? n - i : CPU_CHUNK, bf16);
    return OK;
}
