/* Rows of a table, and the sinusoidal embeddings of time and of boxes. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "autograd/cpu/cpu.h"
#include "autograd/cpu/element.h"

static err check_ids(const tensor *ids, int64_t rows)
{
    const int32_t *id = ids->data;
    for (int64_t i = 0; i < tensor_count(ids); i++)
        if (id[i] < 0 || id[i] >= rows)
            return err_set(E_SHAPE, "embedding: id %" PRId32 " at position %" PRId64 ", the table has %" PRId64 " rows",
                           id[i], i, rows);
    return OK;
}

err cpu_embedding(device *d, tensor *y, const tensor *table, const tensor *ids)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, "embedding", CPU_TENSORS(table, y)));
    TRY(check_ids(ids, table->dim[0]));
    const int32_t *id = ids->data;
    int64_t        width = table->dim[1], count = tensor_count(ids);
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < count; i++)
        memcpy(cpu_at(y->data, i * width, bf16), cpu_at(table->data, id[i] * width, bf16),
               (size_t)width * dtype_bytes(table->type));
    return OK;
}

/* Threads share the columns, so that rows that occur twice are summed in the order of the ids. */
err cpu_embedding_dtable(device *d, tensor *dtable, const tensor *dy, const tensor *ids, bool add)
{
    bool bf16;
    TRY(cpu_one_type(&bf16, "embedding_dtable", CPU_TENSORS(dy)));
    TRY(cpu_need_f32("embedding_dtable", dtable));
    TRY(check_ids(ids, dtable->dim[0]));
    const int32_t *id = ids->data;
    float         *to = dtable->data;
    int64_t        width = dtable->dim[1], count = tensor_count(ids), block = 64;
    if (!add)
        memset(to, 0, (size_t)tensor_count(dtable) * sizeof(float));
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t start = 0; start < width; start += block)
        for (int64_t i = 0; i < count; i++)
            for (int64_t j = start; j < width && j < start + block; j++)
                to[id[i] * width + j] += cpu_get(dy->data, i * width + j, bf16);
    return OK;
}

/* The steps and roundings of diffusers' get_timestep_embedding in f32 (flip_sin_to_cos, shift 0): at
 * t = 999 a frequency that is more exact by half an ulp moves the sine by 6e-5. */
err cpu_time_embedding(device *d, tensor *y, const tensor *t)
{
    TRY(cpu_need_f32("time_embedding", t));
    int64_t      count = tensor_count(t), half = y->dim[y->ndim - 1] / 2;
    const float *time = t->data;
    float       *to = y->data;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < count; i++) {
        for (int64_t k = 0; k < half; k++) {
            float exponent = (float)-9.210340371976184 * (float)k / (float)half; /* -ln 10000 */
            float angle = time[i] * expf(exponent);
            to[i * 2 * half + k] = cosf(angle);
            to[i * 2 * half + half + k] = sinf(angle);
        }
    }
    return OK;
}

/* Frequency-major, then sine and cosine, then coordinate; frequencies 100^(k/freqs) as f32. */
err cpu_box_embedding(device *d, tensor *y, const tensor *boxes, int freqs)
{
    TRY(cpu_need_f32("box_embedding", boxes));
    int64_t      count = tensor_count(boxes) / 4;
    const float *box = boxes->data;
    float       *to = y->data;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t i = 0; i < count; i++) {
        for (int k = 0; k < freqs; k++) {
            float  frequency = powf(100.0f, (float)k / (float)freqs);
            float *row = to + i * 8 * freqs + 8 * k;
            for (int j = 0; j < 4; j++) {
                row[j] = sinf(frequency * box[i * 4 + j]);
                row[4 + j] = cosf(frequency * box[i * 4 + j]);
            }
        }
    }
    return OK;
}
