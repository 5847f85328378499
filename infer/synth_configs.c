#include "infer/synth_configs.h"

#include <inttypes.h>
#include <string.h>

#include "data/vocab.h"

/* Of CLIP-L, OpenCLIP bigG text and vision, and SDXL's VAE. */
#define SDXL_ENCODERS                                                                                             \
    .vocabulary = 49408, .text1 = {768, 3072, 12, 12, 768}, .text2 = {1280, 5120, 32, 20, 1280},                  \
    .vision = {1664, 8192, 48, 16, 1280}, .image = 224, .patch = 14, .vae_channels = {128, 256, 512, 512},        \
    .vae_layers = 2, .vae_groups = 32

/* `tiny` has every kind of part (a level without attention, growing depth, odd numbers of heads, groups of two
 * channels) and runs in seconds. */
static const synth_size sizes[] = {
    {.name = "tiny", .sample = 16, .channels = {32, 96, 160}, .heads = {1, 3, 5}, .depth = {1, 1, 2}, .groups = 16,
     .time_id_channels = 32, .vocabulary = VOCAB_TOKENS, .text1 = {48, 96, 3, 3, 48}, .text2 = {80, 160, 3, 5, 64},
     .vision = {48, 96, 3, 3, 32}, .image = 112, .patch = 14, .vae_channels = {16, 32, 32, 48}, .vae_layers = 2,
     .vae_groups = 8},
    {.name = "half", .sample = 128, .channels = {160, 320, 640}, .heads = {5, 5, 10}, .depth = {1, 2, 10}, .groups = 32,
     .time_id_channels = 256, SDXL_ENCODERS},
    {.name = "sdxl", .sample = 128, .channels = {320, 640, 1280}, .heads = {5, 10, 20}, .depth = {1, 2, 10},
     .groups = 32, .time_id_channels = 256, SDXL_ENCODERS},
};

const synth_size *synth_size_find(const char *name)
{
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (!strcmp(sizes[i].name, name))
            return &sizes[i];
    return NULL;
}

/* The templates below have ' for ", to be read without backslashes. */
static const char *quoted(char *text)
{
    for (char *c = text; *c; c++)
        if (*c == '\'')
            *c = '"';
    return text;
}

static const char *list(arena *a, const int64_t *value, int count)
{
    char *text = arena_print(a, "[%" PRId64, value[0]);
    for (int i = 1; i < count; i++)
        text = arena_print(a, "%s, %" PRId64, text, value[i]);
    return arena_print(a, "%s]", text);
}

static const char *unet_text(arena *a, const synth_size *s)
{
    return quoted(arena_print(a,
        "{\n  '_class_name': 'UNet2DConditionModel',\n  '_diffusers_version': '0.19.0.dev0',\n  'act_fn': 'silu',\n"
        "  'addition_embed_type': 'text_time',\n  'addition_time_embed_dim': %" PRId64 ",\n"
        "  'attention_head_dim': %s,\n  'block_out_channels': %s,\n  'center_input_sample': false,\n"
        "  'cross_attention_dim': %" PRId64 ",\n"
        "  'down_block_types': ['DownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'],\n"
        "  'downsample_padding': 1,\n  'flip_sin_to_cos': true,\n  'freq_shift': 0,\n  'in_channels': 4,\n"
        "  'layers_per_block': 2,\n  'mid_block_scale_factor': 1,\n  'mid_block_type': 'UNetMidBlock2DCrossAttn',\n"
        "  'norm_eps': 1e-05,\n  'norm_num_groups': %" PRId64 ",\n  'out_channels': 4,\n"
        "  'projection_class_embeddings_input_dim': %" PRId64 ",\n  'sample_size': %" PRId64 ",\n"
        "  'transformer_layers_per_block': %s,\n"
        "  'up_block_types': ['CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'],\n"
        "  'use_linear_projection': true\n}\n",
        s->time_id_channels, list(a, s->heads, 3), list(a, s->channels, 3), s->text1.hidden + s->text2.hidden,
        s->groups, s->text2.projection + 6 * s->time_id_channels, s->sample, list(a, s->depth, 3)));
}

static const char *vae_text(arena *a, const synth_size *s)
{
    return quoted(arena_print(a,
        "{\n  '_class_name': 'AutoencoderKL',\n  '_diffusers_version': '0.20.0.dev0',\n  'act_fn': 'silu',\n"
        "  'block_out_channels': %s,\n  'down_block_types':"
        " ['DownEncoderBlock2D', 'DownEncoderBlock2D', 'DownEncoderBlock2D', 'DownEncoderBlock2D'],\n"
        "  'force_upcast': true,\n  'in_channels': 3,\n  'latent_channels': 4,\n  'layers_per_block': %" PRId64 ",\n"
        "  'norm_num_groups': %" PRId64 ",\n  'out_channels': 3,\n  'sample_size': %" PRId64 ",\n"
        "  'scaling_factor': 0.13025,\n  'up_block_types':"
        " ['UpDecoderBlock2D', 'UpDecoderBlock2D', 'UpDecoderBlock2D', 'UpDecoderBlock2D']\n}\n",
        list(a, s->vae_channels, 4), s->vae_layers, s->vae_groups, 8 * s->sample));
}

/* eos_token_id 2, as SDXL's files say whatever their vocabulary: pooling takes the largest id, which is end-of-text. */
static const char *text_encoder_text(arena *a, const synth_size *s, const synth_clip *c, const char *class,
                                     const char *activation)
{
    return quoted(arena_print(a,
        "{\n  'architectures': ['%s'],\n  'attention_dropout': 0.0,\n  'bos_token_id': 0,\n  'eos_token_id': 2,\n"
        "  'hidden_act': '%s',\n  'hidden_size': %" PRId64 ",\n  'initializer_factor': 1.0,\n"
        "  'initializer_range': 0.02,\n  'intermediate_size': %" PRId64 ",\n  'layer_norm_eps': 1e-05,\n"
        "  'max_position_embeddings': 77,\n  'model_type': 'clip_text_model',\n  'num_attention_heads': %" PRId64 ",\n"
        "  'num_hidden_layers': %" PRId64 ",\n  'pad_token_id': 1,\n  'projection_dim': %" PRId64 ",\n"
        "  'vocab_size': %" PRId64 "\n}\n",
        class, activation, c->hidden, c->intermediate, c->heads, c->layers, c->projection, s->vocabulary));
}

static const char *vision_text(arena *a, const synth_size *s)
{
    return quoted(arena_print(a,
        "{\n  'architectures': ['CLIPVisionModelWithProjection'],\n  'attention_dropout': 0.0,\n"
        "  'hidden_act': 'gelu',\n"
        "  'hidden_size': %" PRId64 ",\n  'image_size': %" PRId64 ",\n  'initializer_factor': 1.0,\n"
        "  'initializer_range': 0.02,\n  'intermediate_size': %" PRId64 ",\n  'layer_norm_eps': 1e-05,\n"
        "  'model_type': 'clip_vision_model',\n  'num_attention_heads': %" PRId64 ",\n  'num_channels': 3,\n"
        "  'num_hidden_layers': %" PRId64 ",\n  'patch_size': %" PRId64 ",\n  'projection_dim': %" PRId64 "\n}\n",
        s->vision.hidden, s->image, s->vision.intermediate, s->vision.heads, s->vision.layers, s->patch,
        s->vision.projection));
}

static const char *preprocessor_text(arena *a, const synth_size *s)
{
    return quoted(arena_print(a,
        "{\n  'crop_size': {'height': %" PRId64 ", 'width': %" PRId64 "},\n  'do_center_crop': true,\n"
        "  'do_convert_rgb': true,\n  'do_normalize': true,\n  'do_rescale': true,\n  'do_resize': true,\n"
        "  'image_mean': [0.48145466, 0.4578275, 0.40821073],\n  'image_processor_type': 'CLIPImageProcessor',\n"
        "  'image_std': [0.26862954, 0.26130258, 0.27577711],\n  'resample': 3,\n"
        "  'rescale_factor': 0.00392156862745098,\n  'size': {'shortest_edge': %" PRId64 "}\n}\n",
        s->image, s->image, s->image));
}

static const char *scheduler_text(arena *a)
{
    return quoted(arena_copy_string(a,
        "{\n  '_class_name': 'EulerDiscreteScheduler',\n  '_diffusers_version': '0.19.0.dev0',\n"
        "  'beta_end': 0.012,\n  'beta_schedule': 'scaled_linear',\n  'beta_start': 0.00085,\n  'clip_sample': false,\n"
        "  'interpolation_type': 'linear',\n  'num_train_timesteps': 1000,\n  'prediction_type': 'epsilon',\n"
        "  'sample_max_value': 1.0,\n  'set_alpha_to_one': false,\n  'skip_prk_steps': true,\n  'steps_offset': 1,\n"
        "  'timestep_spacing': 'leading',\n  'trained_betas': null,\n  'use_karras_sigmas': false\n}\n"));
}

static const char *index_text(arena *a)
{
    return quoted(arena_copy_string(a,
        "{\n  '_class_name': 'StableDiffusionXLPipeline',\n  '_diffusers_version': '0.19.0.dev0',\n"
        "  'force_zeros_for_empty_prompt': true,\n  'scheduler': ['diffusers', 'EulerDiscreteScheduler'],\n"
        "  'text_encoder': ['transformers', 'CLIPTextModel'],\n"
        "  'text_encoder_2': ['transformers', 'CLIPTextModelWithProjection'],\n"
        "  'tokenizer': ['transformers', 'CLIPTokenizer'],\n  'tokenizer_2': ['transformers', 'CLIPTokenizer'],\n"
        "  'unet': ['diffusers', 'UNet2DConditionModel'],\n  'vae': ['diffusers', 'AutoencoderKL']\n}\n"));
}

void synth_files(synth_file out[SYNTH_FILES], arena *memory, const synth_size *s)
{
    static const char config[] = "config.json";
    const synth_file  all[SYNTH_FILES] = {
        {"unet", config, unet_text(memory, s)},
        {"vae", config, vae_text(memory, s)},
        {"text_encoder", config, text_encoder_text(memory, s, &s->text1, "CLIPTextModel", "quick_gelu")},
        {"text_encoder_2", config, text_encoder_text(memory, s, &s->text2, "CLIPTextModelWithProjection", "gelu")},
        {"image_encoder", config, vision_text(memory, s)},
        {"image_encoder", "preprocessor_config.json", preprocessor_text(memory, s)},
        {"scheduler", "scheduler_config.json", scheduler_text(memory)},
        {NULL, "model_index.json", index_text(memory)},
    };
    memcpy(out, all, sizeof all);
}
