/* What a UNet's config.json says, within what msd computes: diffusers' UNet2DConditionModel with DownBlock2D and
 * CrossAttnDownBlock2D, their Up forms, UNetMidBlock2DCrossAttn and text_time embedding. */
#ifndef MSD_MODEL_UNET_CONFIG_H
#define MSD_MODEL_UNET_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum { UNET_MAX_LEVELS = 8, UNET_MAX_LAYERS = 16 };

/* One resolution: layers x (resnet [+ transformer of depth[layer] blocks]). */
typedef struct unet_level {
    int64_t channels;
    int64_t heads;     /* of each attention; divides channels */
    int     layers;    /* of the down block; the up block has one more */
    bool    attention; /* a CrossAttn block */
    int     depth[UNET_MAX_LAYERS + 1];
} unet_level;

typedef struct unet_config {
    int64_t    in_channels, out_channels;
    int64_t    sample_height, sample_width; /* of the latents the model was made for; 0: not said */
    int        levels;
    unet_level down[UNET_MAX_LEVELS]; /* in order of running: finest first */
    unet_level up[UNET_MAX_LEVELS];   /* in order of running: coarsest first; layers counts its resnets */
    int        mid_depth;
    int        groups;                  /* of every GroupNorm */
    float      eps;                     /* of the resnets' and the last GroupNorm; transformers have 1e-6 */
    int64_t    text_width;              /* cross_attention_dim */
    int64_t    time_channels;           /* of the time embedding: 4 x channels[0] unless said */
    int64_t    time_id_channels;        /* addition_time_embed_dim: per time id */
    int64_t    pooled_width;            /* of text_embeds: projection_class_embeddings_input_dim - 6 x the above */
    bool       linear_projection;       /* proj_in, proj_out are linear, else 1x1 convolutions */
    int64_t    conv_in_kernel, conv_out_kernel;
} unet_config;

/* `where` names the file in messages. E_MODEL lists every key whose value is not supported, with the value and what is;
 * Stable Diffusion 1.x and 2.x, the SDXL refiner and inpainting UNets are named. */
err unet_config_parse(unet_config *out, const json_t *config, const char *where);

#endif
