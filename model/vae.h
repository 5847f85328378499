/* The VAE (diffusers' AutoencoderKL), both ways, from config.json. Latents here are unscaled: multiply by
 * scaling_factor after encoding, divide before decoding.
 *
 *     encode: conv_in, per block resnets and a stride-2 convolution (padded right and below only), mid, norm, silu,
 *             conv_out, quant_conv -> [mean | log variance]
 *     decode: post_quant_conv, conv_in, mid, per block resnets and nearest x2 with a convolution, norm, silu, conv_out
 *     mid:    resnet, single-head self-attention over all places, resnet */
#ifndef MSD_MODEL_VAE_H
#define MSD_MODEL_VAE_H

#include "model/config_reader.h"
#include "model/resnet.h"

enum { VAE_MAX_BLOCKS = 8 };

typedef struct vae_config {
    int64_t in_channels, out_channels, latent_channels;
    int64_t channels[VAE_MAX_BLOCKS]; /* block_out_channels */
    int64_t blocks, layers_per_block;
    int     groups;                   /* norm_num_groups */
    bool    quant_conv, post_quant_conv, attention; /* use_quant_conv, use_post_quant_conv, mid_block_add_attention */
    bool    force_upcast;             /* overflows f16: run in f32 or bf16 */
    double  scaling_factor;
} vae_config;

/* `where` names the file in messages. Absent keys take diffusers' defaults. E_MODEL names every key that is wrong:
 * other block types, activations, shift_factor, latents_mean and latents_std are refused. */
err vae_config_parse(vae_config *out, const json_t *config, const char *where);
int64_t vae_factor(const vae_config *config); /* pixels a latent side: 8 in SDXL */

typedef struct vae_attention {
    norm   norm;
    linear q, k, v, out;
} vae_attention;

typedef struct vae_block {
    resnet *resnet;
    int64_t resnets;
    conv    resample; /* downsampler's or upsampler's; w is NULL in the last block */
} vae_block;

typedef struct vae_half {
    conv          conv_in, conv_out;
    norm          norm_out;
    resnet        mid[2];
    vae_attention attention;
    vae_block     block[VAE_MAX_BLOCKS];
} vae_half;

typedef struct vae {
    vae_config config;
    vae_half   encoder, decoder;
    conv       quant, post_quant; /* 1x1; w is NULL where the config has none */
} vae;

/* Names every weight; arrays live in `owner`. Attention may have today's names (to_q ...) or the old ones (query, key,
 * value, proj_attn), its matrices may be stored as 1x1 convolutions. *m has to be zero or bound before with the same
 * config. */
void vae_bind(binder *b, vae *m, arena *owner, const vae_config *config);
void vae_release(vae *m); /* its weights */

/* sample (B,H,W,in_channels) in [-1,1] -> moments (B,H/8,W/8,2*latent_channels), rounded down at every halving.
 * E_SHAPE when a side is smaller than vae_factor or the channels differ. */
err vae_encode(tensor **moments, ag *g, const vae *m, tensor *sample);
/* mean, logvar (count,channels) from host moments (count,2*channels); logvar clamped to [-30,20]; NaN stays NaN. */
void vae_posterior(float *mean, float *logvar, const float *moments, int64_t count, int64_t channels);

/* latent (B,h,w,latent_channels), unscaled -> sample (B,8h,8w,out_channels), not clamped. E_SHAPE: channels. */
err vae_decode(tensor **sample, ag *g, const vae *m, tensor *latent);

#endif
