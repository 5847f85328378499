#include "model/unet_config.h"

#include <inttypes.h>
#include <string.h>

#include "model/config_reader.h"

enum { MAX_CHANNELS = 1 << 16, MAX_DEPTH = 64 };

/* Keys that change the network and are supported in one form only. */
static const config_fixed fixed_keys[] = {
    {"_class_name", "\"UNet2DConditionModel\""},
    {"act_fn", "\"silu\"|\"swish\""},
    {"addition_embed_type", "\"text_time\""},
    {"attention_type", "\"default\"|null"},
    {"center_input_sample", "false|null"},
    {"class_embed_type", "null"},
    {"class_embeddings_concat", "false|null"},
    {"cross_attention_norm", "null"},
    {"downsample_padding", "1"},
    {"dropout", "0.0|0|null"},
    {"dual_cross_attention", "false|null"},
    {"encoder_hid_dim", "null"},
    {"encoder_hid_dim_type", "null"},
    {"flip_sin_to_cos", "true"},
    {"freq_shift", "0|0.0"},
    {"mid_block_only_cross_attention", "false|null"},
    {"mid_block_scale_factor", "1|1.0"},
    {"mid_block_type", "\"UNetMidBlock2DCrossAttn\""},
    {"num_attention_heads", "null"}, /* diffusers refuses it, too: attention_head_dim is the number of heads */
    {"num_class_embeds", "null"},
    {"resnet_out_scale_factor", "1.0|1"},
    {"resnet_skip_time_act", "false|null"},
    {"resnet_time_scale_shift", "\"default\""},
    {"time_cond_proj_dim", "null"},
    {"time_embedding_act_fn", "null"},
    {"time_embedding_type", "\"positional\""},
    {"timestep_post_act", "null"},
};

/* Keys that are read below, or that change nothing here: upcast_attention (softmax is always f32),
 * addition_embed_type_num_heads (of another embedding). */
static const char *const read_keys[] = {
    "addition_embed_type_num_heads",
    "addition_time_embed_dim",
    "attention_head_dim",
    "block_out_channels",
    "conv_in_kernel",
    "conv_out_kernel",
    "cross_attention_dim",
    "down_block_types",
    "in_channels",
    "layers_per_block",
    "norm_eps",
    "norm_num_groups",
    "only_cross_attention",
    "out_channels",
    "projection_class_embeddings_input_dim",
    "reverse_transformer_layers_per_block",
    "sample_size",
    "time_embedding_dim",
    "transformer_layers_per_block",
    "up_block_types",
    "upcast_attention",
    "use_linear_projection",
};

enum { FIXED_KEYS = sizeof fixed_keys / sizeof *fixed_keys, READ_KEYS = sizeof read_keys / sizeof *read_keys };

static bool known_key(const char *key)
{
    bool known = key[0] == '_';
    for (int i = 0; !known && i < READ_KEYS; i++)
        known = !strcmp(key, read_keys[i]);
    for (int i = 0; !known && i < FIXED_KEYS; i++)
        known = !strcmp(key, fixed_keys[i].key);
    return known;
}

/* A key of a newer format that asks for something would change the network unseen. */
static void refuse_unknown_keys(config_reader *r)
{
    const char *key;
    json_t     *value;
    json_object_foreach((json_t *)(uintptr_t)r->object, key, value)
        if (!known_key(key) && !json_is_null(value) && !json_is_false(value))
            config_problem(r, "%.60s: unknown key, this network may need more than msd computes", key);
}

/* ---- other people's models, named ---- */

static int64_t plain_int(const json_t *config, const char *key)
{
    return json_integer_value(json_object_get(config, key)); /* 0 when absent or no integer */
}

static err refuse_relatives(const json_t *config, const char *where)
{
    int64_t     in = plain_int(config, "in_channels"), width = plain_int(config, "cross_attention_dim");
    const char *embedding = json_string_value(json_object_get(config, "addition_embed_type"));
    if (in == 9)
        return err_set(E_MODEL,
                       "%s: in_channels: found 9, supported: 4; this looks like an inpainting UNet; give an SDXL base "
                       "model",
                       where);
    if (!embedding && (width == 768 || width == 1024))
        return err_set(E_MODEL,
                       "%s: addition_embed_type: found null, supported: \"text_time\"; cross_attention_dim %" PRId64
                       ": this looks like a Stable Diffusion %s UNet; give an SDXL base model",
                       where, width, width == 768 ? "1.x" : "2.x");
    if (embedding && width == 1280 && plain_int(config, "projection_class_embeddings_input_dim") == 2560)
        return err_set(
            E_MODEL,
            "%s: cross_attention_dim: found 1280 with projection_class_embeddings_input_dim 2560: this looks "
            "like the SDXL refiner; give an SDXL base model (2048 and 2816)",
            where);
    return OK;
}

/* ---- blocks ---- */

/* Whether each block of a list has attention, by its type. */
static int read_block_types(bool *attention, config_reader *r, const char *key, const char *plain,
                            const char *attending)
{
    const char *type[UNET_MAX_LEVELS];
    int         count = config_texts(type, r, key, UNET_MAX_LEVELS);
    for (int i = 0; i < count; i++) {
        attention[i] = !strcmp(type[i], attending);
        if (!attention[i] && strcmp(type[i], plain))
            config_problem(r, "%s: found \"%.60s\", supported: %s, %s", key, type[i], plain, attending);
    }
    return count;
}

/* One entry of transformer_layers_per_block: a number for all layers, or a list with one for each. */
static void read_depth(unet_level *level, config_reader *r, const char *key, const json_t *entry)
{
    for (int i = 0; i < level->layers && i <= UNET_MAX_LAYERS; i++) {
        const json_t *value = json_is_array(entry) ? json_array_get(entry, (size_t)i) : entry;
        int64_t       depth = json_integer_value(value);
        if (!json_is_integer(value) || depth < 1 || depth > MAX_DEPTH) {
            config_problem(r, "%s: expected whole numbers from 1 to %d, or a list of %d of them for a block", key,
                           MAX_DEPTH, level->layers);
            depth = 1;
            entry = NULL;
        }
        level->depth[i] = (int)depth;
        if (!entry)
            return;
    }
}

static void read_depths(unet_config *c, config_reader *r)
{
    static const char key[] = "transformer_layers_per_block", reverse_key[] = "reverse_transformer_layers_per_block";
    json_t       *one = json_integer(1);
    const json_t *down = json_object_get(r->object, key), *up = json_object_get(r->object, reverse_key);
    size_t        levels = (size_t)c->levels;
    bool          reversed = !up || json_is_null(up);
    if (!down || json_is_null(down))
        down = one;
    if ((json_is_array(down) && json_array_size(down) != levels) ||
        (!reversed && (!json_is_array(up) || json_array_size(up) != levels))) {
        config_problem(r, "%s: expected one entry for each of the %zu blocks", reversed ? key : reverse_key, levels);
        json_decref(one);
        return;
    }
    for (size_t i = 0; i < levels; i++) {
        const json_t *mirror = json_is_array(down) ? json_array_get(down, levels - 1 - i) : down;
        if (reversed && json_is_array(mirror))
            config_problem(r, "%s: a list inside the list needs %s beside it", key, reverse_key);
        else
            read_depth(&c->up[i], r, reversed ? key : reverse_key, reversed ? mirror : json_array_get(up, i));
        read_depth(&c->down[i], r, key, json_is_array(down) ? json_array_get(down, i) : down);
    }
    c->mid_depth = c->down[levels - 1].depth[0];
    json_decref(one);
}

static void read_levels(unet_config *c, config_reader *r)
{
    bool    down[UNET_MAX_LEVELS] = {0}, up[UNET_MAX_LEVELS] = {0};
    int64_t channels[UNET_MAX_LEVELS], layers[UNET_MAX_LEVELS], heads[UNET_MAX_LEVELS];
    int     n = read_block_types(down, r, "down_block_types", "DownBlock2D", "CrossAttnDownBlock2D");
    int     up_count = read_block_types(up, r, "up_block_types", "UpBlock2D", "CrossAttnUpBlock2D");
    if (n && up_count && n != up_count)
        config_problem(r, "up_block_types: found %d blocks, but down_block_types has %d", up_count, n);
    if (!n || n != up_count)
        return;
    c->levels = n;
    config_ints(channels, r, "block_out_channels", n, CONFIG_REQUIRED, 1, MAX_CHANNELS);
    config_ints(layers, r, "layers_per_block", n, 2, 1, UNET_MAX_LAYERS);
    config_ints(heads, r, "attention_head_dim", n, 8, 1, MAX_CHANNELS);
    for (int i = 0; i < n; i++) {
        int mirror = n - 1 - i;
        c->down[i] = (unet_level){channels[i], heads[i], (int)layers[i], down[i], {0}};
        c->up[i] = (unet_level){channels[mirror], heads[mirror], (int)layers[mirror] + 1, up[i], {0}};
    }
    read_depths(c, r);
    for (int i = 0; i < n; i++) {
        if (channels[i] % c->groups)
            config_problem(r, "norm_num_groups: %d does not divide the %" PRId64 " of block_out_channels", c->groups,
                           channels[i]);
        if ((down[i] || up[n - 1 - i] || i == n - 1) && channels[i] % heads[i])
            config_problem(r, "attention_head_dim: %" PRId64 " (the number of heads) does not divide the %" PRId64
                           " of block_out_channels", heads[i], channels[i]);
    }
    if (channels[0] % 2)
        config_problem(r, "block_out_channels: the first, %" PRId64 ", is odd; the time embedding needs it even",
                       channels[0]);
}

/* ---- the rest ---- */

static void read_sample_size(unet_config *c, config_reader *r)
{
    int64_t size[2];
    config_ints(size, r, "sample_size", 2, 0, 0, MAX_CHANNELS);
    c->sample_height = size[0];
    c->sample_width = size[1];
}

static void read_text_width(unet_config *c, config_reader *r)
{
    int64_t width[UNET_MAX_LEVELS];
    config_ints(width, r, "cross_attention_dim", c->levels ? c->levels : 1, 1280, 1, MAX_CHANNELS);
    for (int i = 1; i < c->levels; i++)
        if (width[i] != width[0])
            config_problem(r, "cross_attention_dim: blocks differ (%" PRId64 ", %" PRId64 "), supported: one for all",
                           width[0], width[i]);
    c->text_width = width[0];
}

static void read_embeddings(unet_config *c, config_reader *r)
{
    if (!json_object_get(r->object, "addition_embed_type"))
        config_problem(r, "addition_embed_type: missing, supported: \"text_time\"");
    c->time_channels =
        config_int(r, "time_embedding_dim", c->levels ? 4 * c->down[0].channels : 1, 1, 4 * MAX_CHANNELS);
    c->time_id_channels = config_int(r, "addition_time_embed_dim", CONFIG_REQUIRED, 2, MAX_CHANNELS);
    int64_t projected = config_int(r, "projection_class_embeddings_input_dim", CONFIG_REQUIRED, 1, 16 * MAX_CHANNELS);
    c->pooled_width = projected - 6 * c->time_id_channels;
    if (!r->count && (c->pooled_width < 1 || c->time_id_channels % 2))
        config_problem(r,
                       "projection_class_embeddings_input_dim: found %" PRId64
                       ", expected the pooled text's width plus six "
                       "times addition_time_embed_dim (%" PRId64 ", even)",
                       projected, c->time_id_channels);
}

static void read_only_cross_attention(config_reader *r)
{
    const json_t *value = json_object_get(r->object, "only_cross_attention");
    bool          off = !value || json_is_null(value) || json_is_false(value) || json_is_array(value);
    for (size_t i = 0; i < json_array_size(value); i++)
        off = off && json_is_false(json_array_get(value, i));
    if (!off)
        config_problem(r, "only_cross_attention: supported: false");
}

err unet_config_parse(unet_config *out, const json_t *config, const char *where)
{
    unet_config c = {0};
    TRY(refuse_relatives(config, where));
    config_reader r = config_read(config, where);
    config_check_fixed(&r, fixed_keys, FIXED_KEYS);
    refuse_unknown_keys(&r);
    c.in_channels = config_int(&r, "in_channels", 4, 1, MAX_CHANNELS);
    c.out_channels = config_int(&r, "out_channels", 4, 1, MAX_CHANNELS);
    if (c.in_channels != c.out_channels)
        config_problem(&r, "in_channels: found %" PRId64 ", out_channels %" PRId64 ": supported: both the latents' 4",
                       c.in_channels, c.out_channels);
    c.groups = (int)config_int(&r, "norm_num_groups", 32, 1, MAX_CHANNELS);
    c.eps = (float)config_number(&r, "norm_eps", 1e-5);
    read_levels(&c, &r);
    read_text_width(&c, &r);
    read_embeddings(&c, &r);
    read_sample_size(&c, &r);
    read_only_cross_attention(&r);
    c.linear_projection = config_bool(&r, "use_linear_projection", false);
    c.conv_in_kernel = config_int(&r, "conv_in_kernel", 3, 1, 15);
    c.conv_out_kernel = config_int(&r, "conv_out_kernel", 3, 1, 15);
    if (c.conv_in_kernel % 2 == 0 || c.conv_out_kernel % 2 == 0)
        config_problem(&r, "conv_in_kernel, conv_out_kernel: supported: odd sizes");
    TRY(config_end(&r));
    *out = c;
    return OK;
}
