#include <inttypes.h>
#include <string.h>

#include "model/vae.h"

static void check_block_types(config_reader *r, const char *key, const char *expected, int64_t blocks)
{
    const char *type[VAE_MAX_BLOCKS];
    int         count = config_texts(type, r, key, VAE_MAX_BLOCKS);
    for (int i = 0; i < count; i++)
        if (strcmp(type[i], expected) != 0)
            config_problem(r, "%s: found \"%.60s\", supported: %s", key, type[i], expected);
    if (count && count != blocks)
        config_problem(r, "%s: found %d blocks, but block_out_channels has %" PRId64, key, count, blocks);
}

static void read_channels(vae_config *out, config_reader *r)
{
    size_t count = json_array_size(json_object_get(r->object, "block_out_channels"));
    if (count < 1 || count > VAE_MAX_BLOCKS) {
        config_problem(r, "block_out_channels: found %zu entries, expected a list of 1 to %d", count, VAE_MAX_BLOCKS);
        return;
    }
    out->blocks = (int64_t)count;
    config_ints(out->channels, r, "block_out_channels", (int)count, CONFIG_REQUIRED, 1, 1 << 16);
    for (size_t i = 0; i < count; i++)
        if (out->channels[i] % out->groups)
            config_problem(r, "norm_num_groups: %d does not divide the %" PRId64 " of block_out_channels", out->groups,
                           out->channels[i]);
}

err vae_config_parse(vae_config *out, const json_t *config, const char *where)
{
    static const config_fixed fixed[] = {
        {"_class_name", "\"AutoencoderKL\""}, {"act_fn", "\"silu\"|\"swish\""}, {"shift_factor", "null"},
        {"latents_mean", "null"},             {"latents_std", "null"},
    };
    config_reader r = config_read(config, where);
    *out = (vae_config){.blocks = 1};
    config_check_fixed(&r, fixed, (int)(sizeof fixed / sizeof *fixed));
    out->in_channels = config_int(&r, "in_channels", 3, 1, 64);
    out->out_channels = config_int(&r, "out_channels", 3, 1, 64);
    out->latent_channels = config_int(&r, "latent_channels", 4, 1, 1024);
    out->layers_per_block = config_int(&r, "layers_per_block", 1, 1, 100);
    out->groups = (int)config_int(&r, "norm_num_groups", 32, 1, 1 << 12);
    read_channels(out, &r);
    check_block_types(&r, "down_block_types", "DownEncoderBlock2D", out->blocks);
    check_block_types(&r, "up_block_types", "UpDecoderBlock2D", out->blocks);
    out->quant_conv = config_bool(&r, "use_quant_conv", true);
    out->post_quant_conv = config_bool(&r, "use_post_quant_conv", true);
    out->attention = config_bool(&r, "mid_block_add_attention", true);
    out->force_upcast = config_bool(&r, "force_upcast", true);
    out->scaling_factor = config_number(&r, "scaling_factor", 0.18215);
    if (!(out->scaling_factor > 0))
        config_problem(&r, "scaling_factor: found 0, expected a positive number (SDXL: 0.13025)");
    return config_end(&r);
}

int64_t vae_factor(const vae_config *config)
{
    return (int64_t)1 << (config->blocks - 1);
}
