#include <math.h>

#include "autograd/cpu/clones.h"
#include "autograd/cpu/cpu.h"
#include "autograd/moment_code.h"
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
    if (d->dataless)
        return cpu_done(d, memory, bytes);
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
    return cpu_done(d, memory, bytes);
}

typedef struct adamw_factors {
    float clip, keep, beta1, rest1, beta2, rest2, eps, step_size, root_correction;
} adamw_factors;

static adamw_factors factors_of(float clip, double lr, double beta1, double beta2, double eps, double decay, int64_t step)
{
    return (adamw_factors){
        .clip = clip, .keep = (float)(1.0 - lr * decay), .beta1 = (float)beta1, .rest1 = (float)(1.0 - beta1),
        .beta2 = (float)beta2, .rest2 = (float)(1.0 - beta2), .eps = (float)eps,
        .step_size = (float)(lr / (1.0 - pow(beta1, (double)step))),
        .root_correction = (float)sqrt(1.0 - pow(beta2, (double)step)),
    };
}

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
    adamw_factors f = factors_of(clip, lr, beta1, beta2, eps, decay, step);
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

/* ---- moments of 8 bits ---- */

CPU_CLONES static float block_absmax(const float *x, int64_t n)
{
    float most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

CPU_CLONES static void decode_block(float *restrict x, const uint8_t *restrict code, const float *restrict value, float absmax,
                                    int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = value[code[i]] * absmax;
}

/* A halving search of all numbers side by side; codes begin at `lowest` where a number is not 0. */
CPU_CLONES static void encode_block(uint8_t *restrict code, const float *restrict x, const float *restrict middle, float absmax,
                                    int32_t lowest, int64_t n)
{
    int32_t at[MOMENT_BLOCK] = {0};
    float   unit[MOMENT_BLOCK];
    for (int64_t i = 0; i < n; i++)
        unit[i] = absmax > 0 ? x[i] / absmax : 0;
    for (int32_t half = MOMENT_CODES / 2; half; half /= 2)
        for (int64_t i = 0; i < n; i++)
            at[i] += middle[at[i] + half - 1] < unit[i] ? half : 0;
    for (int64_t i = 0; i < n; i++)
        code[i] = (uint8_t)(at[i] < lowest && x[i] != 0 ? lowest : at[i]);
}

typedef struct coded_moment {
    moment_map map;
    uint8_t   *code;
    float     *absmax;
    int32_t    lowest;
} coded_moment;

static coded_moment coded_moment_of(const tensor *code, const tensor *absmax, bool is_signed)
{
    coded_moment c = {.code = code->data, .absmax = absmax->data, .lowest = is_signed ? 0 : 1};
    moment_map_make(&c.map, is_signed);
    return c;
}

static void decode(float *x, const coded_moment *c, int64_t block, int64_t n)
{
    decode_block(x, c->code + block * MOMENT_BLOCK, c->map.value, c->absmax[block], n);
}

static void encode(const coded_moment *c, const float *x, int64_t block, int64_t n)
{
    c->absmax[block] = block_absmax(x, n);
    encode_block(c->code + block * MOMENT_BLOCK, x, c->map.middle, c->absmax[block], c->lowest, n);
}

err cpu_adamw8(device *d, tensor *p, tensor *m, tensor *m_absmax, tensor *v, tensor *v_absmax, tensor *copy, const tensor *g,
               float clip, double lr, double beta1, double beta2, double eps, double decay, int64_t step)
{
    TRY(cpu_need_f32("adamw8", p));
    TRY(cpu_need_f32("adamw8", g));
    if (m->type != DT_U8 || v->type != DT_U8 || (copy && copy->type != DT_BF16))
        return err_set(E_SHAPE, "adamw8: the moments of %s are %s and %s, its copy %s; expected u8, u8 and bf16", p->name,
                       dtype_name(m->type), dtype_name(v->type), copy ? dtype_name(copy->type) : "none");
    adamw_factors f = factors_of(clip, lr, beta1, beta2, eps, decay, step);
    coded_moment first = coded_moment_of(m, m_absmax, true), second = coded_moment_of(v, v_absmax, false);
    float *value = p->data;
    const float *slope = g ? g->data : NULL;
    uint16_t *rounded = copy ? copy->data : NULL;
    int64_t n = tensor_count(p), blocks = moment_blocks(n);
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t block = 0; block < blocks; block++) {
        float a[MOMENT_BLOCK], b[MOMENT_BLOCK];
        int64_t at = block * MOMENT_BLOCK, length = n - at < MOMENT_BLOCK ? n - at : MOMENT_BLOCK;
        decode(a, &first, block, length);
        decode(b, &second, block, length);
        adamw_chunk(value + at, a, b, slope ? slope + at : NULL, &f, length);
        if (rounded)
            round_chunk(rounded + at, value + at, length);
        encode(&first, a, block, length);
        encode(&second, b, block, length);
    }
    return OK;
}
