/* The grounding resampler: picture tokens and where they belong -> a few tokens per subject (facts.md 1).
 *
 *     latents = norm(reshape(W2 gelu(W1 [phrase | box]), (N, dim))), or grounding_latents where grounding is dropped
 *     x = proj_in(image_hidden);  depth times: latents += attention(x, latents); latents += feed_forward(latents)
 *     tokens = norm_out(proj_out(attention_norm(latents))) */
#ifndef MSD_MODEL_RESAMPLER_H
#define MSD_MODEL_RESAMPLER_H

#include "autograd/ag.h"
#include "model/bind.h"

enum { RESAMPLER_HEAD_WIDTH = 64, RESAMPLER_BOX_FREQUENCIES = 8, RESAMPLER_MAX_DEPTH = 64 };

typedef struct resampler_sizes {
    int64_t dim;          /* of the latents */
    int64_t depth;        /* layers */
    int64_t heads;        /* of 64 each; heads x 64 need not be dim */
    int64_t queries;      /* tokens per subject */
    int64_t image_width;  /* of image_hidden */
    int64_t phrase_width; /* of phrase_embeds */
    int64_t hidden_width; /* of the feed-forward */
    int64_t out_width;    /* of the tokens: the UNet's cross_attention_dim */
} resampler_sizes;

typedef struct resampler_layer {
    norm   norm_image, norm_latents; /* norm1, norm2 in files */
    linear q, kv, out;               /* kv gives k, then v */
    norm   norm_forward;
    linear up, down;
} resampler_layer;

typedef struct resampler {
    resampler_sizes  sizes;
    tensor          *grounding_latents; /* (1, queries, dim) */
    linear           latent_in, latent_out; /* latent_proj.0, .2 */
    norm             latent_norm, attention_norm, norm_out;
    linear           proj_in, proj_out;
    resampler_layer *layer; /* sizes.depth of them */
} resampler;

/* Names every weight at the binder's current path, in the order of the reference's module; layers live in `owner`. */
void resampler_bind(binder *b, resampler *r, arena *owner, const resampler_sizes *sizes);

void resampler_release(resampler *r); /* its weights */

/* R subjects: image_hidden (R,L,image_width), phrase_embeds (R,phrase_width), boxes f32 (R,4) normalised xyxy,
 * drop i32 (R): 1 takes grounding_latents instead of phrase and box -> (R,queries,out_width). recompute: activation
 * checkpointing of the layers. */
tensor *resampler_forward(ag *g, const resampler *r, tensor *image_hidden, tensor *phrase_embeds, tensor *boxes,
                          tensor *drop, bool recompute);

#endif
