/* SDXL's UNet (diffusers' UNet2DConditionModel), with the adapter behind one optional argument. The same function runs
 * plain SDXL, training and inference. */
#ifndef MSD_MODEL_UNET_H
#define MSD_MODEL_UNET_H

#include "model/adapter.h"
#include "model/resnet.h"
#include "model/transformer.h"
#include "model/unet_config.h"

typedef struct unet_block {
    resnet      *resnet;      /* layers of them */
    transformer *transformer; /* the same number, or NULL */
    conv         sampler;     /* downsamplers.0.conv or upsamplers.0.conv; w is NULL in the last block */
} unet_block;

typedef struct unet {
    unet_config config;
    conv        conv_in, conv_out;
    linear      time_in, time_out; /* time_embedding.linear_1, .linear_2 */
    linear      add_in, add_out;   /* add_embedding.linear_1, .linear_2 */
    unet_block  down[UNET_MAX_LEVELS], up[UNET_MAX_LEVELS];
    resnet      mid_first, mid_second;
    transformer mid;
    norm        norm_out;          /* conv_norm_out */
    weight_stack text_kv;          /* to_k, to_v of all cross-attentions, in the order of adapter_channels */
} unet;

/* Names every weight; arrays live in `owner`. *u has to be zero or bound before with the same config. */
void unet_bind(binder *b, unet *u, arena *owner, const unet_config *config);
void unet_release(unet *u); /* its weights */

/* Cross-attention i in the order of adapter_channels. */
const cross_attention *unet_cross_attention(const unet *u, int64_t i);

/* Lays the text's keys and values out for forward products (device.h, lay_out), when no new adapter will be made from them:
 * their parts are gone after it. */
err unet_lay_out_text(unet *u);

dtype unet_type(const unet *u); /* what it computes in */

/* f32 or the UNet's type where nothing else is said. */
typedef struct unet_inputs {
    tensor *sample;      /* (B,h,w,in_channels); any h, w >= 1 */
    tensor *timestep;    /* f32 (B) */
    tensor *text_embeds; /* (B,pooled_width) */
    tensor *time_ids;    /* f32 (B,6) */
} unet_inputs;

/* A samples with subjects, A <= B: samples A, A+1, ... get no image attention (the unconditional half of guidance). */
typedef struct adapter_inputs {
    const ms_adapter *adapter;
    tensor *ip_tokens;      /* (A,S*N,text_width) of any type: what the resampler gave; S subjects of N tokens */
    tensor *boxes;          /* f32 (A,S,4) normalised xyxy; a zero box covers nothing */
    tensor *subject_scales; /* f32 (S) or NULL: replaces scale, one for each subject */
    float   scale;
} adapter_inputs;

/* The context of a text (B,T,text_width), of any type, and of subjects (NULL: none) for latents of h x w. Its tensors are
 * g's; a forward in another graph may read them as long as they live. E_SHAPE names the input that does not fit. */
err unet_context_make(unet_context *out, ag *g, const unet *u, tensor *text, const adapter_inputs *subjects, int64_t h,
                      int64_t w);

/* Predicted noise, f32 (B,h,w,out_channels), of a batch whose context was made for its size. NULL on error, which is kept
 * in g: E_SHAPE names the input that does not fit, with both shapes. */
tensor *unet_forward(ag *g, const unet *u, const unet_inputs *in, const unet_context *context);

#endif
