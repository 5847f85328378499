#include "train/draws.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/philox.h"

static draw_key key(uint64_t seed, draw_purpose purpose, int64_t step, int64_t sample)
{
    return (draw_key){.seed = seed, .purpose = purpose, .step = (uint64_t)step, .sample = (uint64_t)sample};
}

int64_t draw_timestep(uint64_t seed, int64_t step, int64_t sample, int64_t count)
{
    return (int64_t)draw_below(key(seed, DRAW_TIMESTEP, step, sample), 0, (uint64_t)count);
}

void draw_noise(float *out, uint64_t seed, int64_t step, int64_t sample, int64_t plane, int64_t channels, double offset)
{
    draw_normals(out, (size_t)(plane * channels), key(seed, DRAW_NOISE, step, sample));
    if (!(offset > 0))
        return;
    float *shift = heap_get((size_t)channels * sizeof *shift);
    draw_normals(shift, (size_t)channels, key(seed, DRAW_NOISE_OFFSET, step, sample));
    for (int64_t i = 0; i < plane * channels; i++)
        out[i] += (float)offset * shift[i % channels];
    free(shift);
}

drops draw_drops(uint64_t seed, int64_t step, int64_t sample, drop_rates r)
{
    draw_key k = key(seed, DRAW_DROP, step, sample);
    double which = draw_uniform(k, 0);
    bool text = which < r.text;
    bool image = !text && which < r.text + r.image;
    bool both = !text && !image && which < r.text + r.image + r.both;
    return (drops){.text = text || both, .image = image || both, .grounding = draw_uniform(k, 1) < r.grounding};
}

void sample_order_open(sample_order *o, uint64_t seed, int64_t count)
{
    CHECK(count >= 1, "%lld samples", (long long)count);
    *o = (sample_order){.seed = seed, .count = count, .epoch = -1,
                        .index = heap_get((size_t)count * sizeof(int64_t))};
}

void sample_order_close(sample_order *o)
{
    free(o->index);
    o->index = NULL;
}

int64_t sample_order_at(sample_order *o, int64_t position)
{
    int64_t epoch = position / o->count;
    if (epoch != o->epoch) {
        for (int64_t i = 0; i < o->count; i++)
            o->index[i] = i;
        draw_key k = key(o->seed, DRAW_ORDER, epoch, 0);
        for (int64_t i = o->count - 1; i > 0; i--) { /* Fisher-Yates */
            int64_t j = (int64_t)draw_below(k, (uint64_t)i, (uint64_t)i + 1), kept = o->index[i];
            o->index[i] = o->index[j];
            o->index[j] = kept;
        }
        o->epoch = epoch;
    }
    return o->index[position % o->count];
}
