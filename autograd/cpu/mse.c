/* Mean squared error. */
#include "autograd/cpu/cpu.h"

enum { BLOCK = 16384 }; /* elements summed by one thread; blocks are added in order */

static double block_sum(const float *a, const float *b, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        double difference = (double)a[i] - (double)b[i];
        sum += difference * difference;
    }
    return sum;
}

err cpu_mse(device *d, tensor *loss, const tensor *a, const tensor *b)
{
    TRY(cpu_need_f32("mse", a));
    TRY(cpu_need_f32("mse", b));
    int64_t      n = tensor_count(a), blocks = (n + BLOCK - 1) / BLOCK;
    size_t       bytes = (size_t)blocks * sizeof(double);
    void        *memory = NULL;
    const float *at = a->data, *bt = b->data;
    TRY(d->memory->get(d->memory, &memory, bytes, LIFE_SCRATCH));
    double *part = memory, sum = 0.0;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < blocks; i++)
        part[i] = block_sum(at + i * BLOCK, bt + i * BLOCK, n - i * BLOCK < BLOCK ? n - i * BLOCK : BLOCK);
    for (int64_t i = 0; i < blocks; i++)
        sum += part[i];
    d->memory->put(d->memory, memory, bytes, LIFE_SCRATCH);
    *(float *)loss->data = (float)(sum / (double)n);
    return OK;
}

err cpu_mse_backward(device *d, tensor *da, const tensor *dloss, const tensor *a, const tensor *b, float sign, bool add)
{
    TRY(cpu_need_f32("mse_backward", a));
    TRY(cpu_need_f32("mse_backward", b));
    int64_t      n = tensor_count(a);
    const float *at = a->data, *bt = b->data;
    float       *to = da->data;
    float        factor = (float)(2.0 * (double)sign * (double)*(const float *)dloss->data / (double)n);
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float gradient = factor * (at[i] - bt[i]);
        to[i] = add ? to[i] + gradient : gradient;
    }
    return OK;
}
