#include <math.h>

#include "autograd/cpu/clones.h"
#include "autograd/cpu/cpu.h"
#include "base/half.h"

enum { LANES = 16 };

CPU_CLONES static double chunk_squares(const float *restrict x, int64_t n)
{
    double sum[LANES] = {0}, total = 0;
    int64_t whole = n - n % LANES;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int j = 0; j < LANES; j++)
            sum[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; j < LANES; j++)
        total += sum[j];
    for (int64_t i = whole; i < n; i++)
        total += (double)x[i] * (double)x[i];
    return total;
}

/* Fixed chunks, their sums added in order: the same bits for any number of threads. */
err cpu_sum_squares(device *d, double *out, const tensor *x)
{
    TRY(cpu_need_f32("sum_squares", x));
    int64_t n = tensor_count(x), chunks = (n + CPU_CHUNK - 1) / CPU_CHUNK;
    size_t bytes = (size_t)chunks * sizeof(double);
    void *memory = NULL;
    TRY(d->memory->get(d->memory, &memory, bytes, LIFE_SCRATCH));
    double *part = memory;
    const float *from = x->data;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t k = 0; k < chunks; k++) {
        int64_t i = k * CPU_CHUNK;
        part[k] = chunk_squares(from + i, n - i < CPU_CHUNK ? n - i : CPU_CHUNK);
    }
    *out = 0;
    for (int64_t k = 0; k < chunks; k++)
        *out += part[k];
    d->memory->put(d->memory, memory, bytes, LIFE_SCRATCH);
    return OK;
}

typedef struct adamw_factors {
    float clip, keep, beta1, rest1, beta2, rest2, eps, step_size, root_correction;
} adamw_factors;

CPU_CLONES static void adamw_chunk(float *restrict p, float *restrict m, float *restrict v, const float *restrict g,
                                   const adamw_factors *f, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float slope = g ? g[i] * f->clip : 0.0f;
        float first = m[i] * f->beta1 + slope * f->rest1;
        float second = v[i] * f->beta2 + slope * slope * f->rest2;
        m[i] = first;
        v[i] = second;
        p[i] = p[i] * f->keep - f->step_size * first / (sqrtf(second) / f->root_correction + f->eps);
    }
}

CPU_CLONES static void round_chunk(uint16_t *restrict to, const float *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = f32_to_bf16(from[i]);
}

/* torch.optim.AdamW: p -= lr decay p; p -= lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps) */
err cpu_adamw(device *d, tensor *p, tensor *m, tensor *v, tensor *copy, const tensor *g, float clip, double lr,
              double beta1, double beta2, double eps, double decay, int64_t step)
{
    TRY(cpu_need_f32("adamw", p));
    TRY(cpu_need_f32("adamw", g));
    if (copy && copy->type != DT_BF16)
        return err_set(E_SHAPE, "adamw: the copy of %s is %s, expected bf16", p->name, dtype_name(copy->type));
    adamw_factors f = {
        .clip = clip, .keep = (float)(1.0 - lr * decay), .beta1 = (float)beta1, .rest1 = (float)(1.0 - beta1),
        .beta2 = (float)beta2, .rest2 = (float)(1.0 - beta2), .eps = (float)eps,
        .step_size = (float)(lr / (1.0 - pow(beta1, (double)step))),
        .root_correction = (float)sqrt(1.0 - pow(beta2, (double)step)),
    };
    float *value = p->data, *first = m->data, *second = v->data;
    const float *slope = g ? g->data : NULL;
    uint16_t *rounded = copy ? copy->data : NULL;
    int64_t n = tensor_count(p);
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < n; i += CPU_CHUNK) {
        int64_t length = n - i < CPU_CHUNK ? n - i : CPU_CHUNK;
        adamw_chunk(value + i, first + i, second + i, slope ? slope + i : NULL, &f, length);
        if (rounded)
            round_chunk(rounded + i, value + i, length);
    }
    return OK;
}
