#include "train/sample_source.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/half.h"

stored_type sample_source_type(const run_config *c)
{
    switch ((config_dtype)c->data.cache_dtype) {
    case CONFIG_F32: return STORED_F32;
    case CONFIG_BF16: return STORED_BF16;
    case CONFIG_F16: return STORED_F16;
    case CONFIG_AUTO: break;
    }
    return c->device.dtype == CONFIG_BF16 ? STORED_BF16 : STORED_F32;
}

void sample_source_round(float *values, int64_t count, stored_type type)
{
    if (type == STORED_BF16)
        for (int64_t i = 0; i < count; i++)
            values[i] = bf16_to_f32(f32_to_bf16(values[i]));
    if (type == STORED_F16)
        for (int64_t i = 0; i < count; i++)
            values[i] = f16_to_f32(f32_to_f16(values[i]));
}

err sample_source_start(sample_source *s, const run_config *c, const manifest *dataset)
{
    const encoder_sizes *z = &s->sizes;
    s->config = c;
    s->dataset = dataset;
    s->type = sample_source_type(c);
    if (c->data.resolution % z->latent_factor)
        return err_set(E_CONFIG, "data.resolution: %" PRId64 " is not a multiple of %" PRId64
                       ", the VAE's factor; give e.g. %" PRId64, c->data.resolution, z->latent_factor, c->data.resolution / z->latent_factor * z->latent_factor);
    int64_t side = c->data.resolution / z->latent_factor;
    s->latent = side * side * z->latent_channels;
    s->empty_text = heap_get((size_t)(z->tokens * z->text_width) * sizeof(float));
    s->empty_pooled = heap_get((size_t)z->pooled_width * sizeof(float));
    s->mean_colour = heap_get((size_t)(z->picture_tokens * z->picture_width) * sizeof(float));
    return OK;
}

void sample_source_release(sample_source *s)
{
    free(s->empty_text);
    free(s->empty_pooled);
    free(s->mean_colour);
}

void sample_source_close(sample_source *s)
{
    if (s)
        s->close(s);
}
