#include "train/sample_source.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/half.h"
#include "train/parameters.h"

stored_type sample_source_type(const run_config *c)
{
    switch ((config_dtype)c->data.cache_dtype) {
    case CONFIG_F32: return STORED_F32;
    case CONFIG_BF16: return STORED_BF16;
    case CONFIG_F16: return STORED_F16;
    case CONFIG_AUTO: break;
    }
    return parameters_type(c) == DT_BF16 ? STORED_BF16 : STORED_F32;
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

err sample_source_check_sizes(const run_config *c, int64_t factor)
{
    int64_t side = c->data.resolution;
    if (side % factor)
        return err_set(E_CONFIG, "data.resolution: %" PRId64 " is not a multiple of %" PRId64 ", the VAE's factor; give e.g. %" PRId64,
                       side, factor, side / factor * factor);
    if (c->data.buckets && BUCKET_UNIT % factor)
        return err_set(E_CONFIG, "data.buckets: sizes are multiples of %d pixels, the VAE's factor is %" PRId64 "; leave it at off",
                       BUCKET_UNIT, factor);
    return OK;
}

int64_t sample_source_latent(const sample_source *s, const sample_view *v)
{
    const encoder_sizes *z = &s->sizes;
    return v->frame.crop_height / z->latent_factor * (v->frame.crop_width / z->latent_factor) * z->latent_channels;
}

err sample_source_start(sample_source *s, const run_config *c, const manifest *dataset)
{
    const encoder_sizes *z = &s->sizes;
    s->config = c;
    s->dataset = dataset;
    s->type = sample_source_type(c);
    TRY(sample_source_check_sizes(c, z->latent_factor));
    bucket_size most = sample_view_largest(c);
    s->latent = most.height / z->latent_factor * (most.width / z->latent_factor) * z->latent_channels;
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
