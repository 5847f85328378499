/* The transformer of the UNet (diffusers' Transformer2DModel of BasicTransformerBlocks):
 *
 *     h = proj_in(group_norm(x)) as tokens;  for each block:
 *         h += attn1(norm1(h));  h += attn2(norm2(h), text [, subjects]);  h += ff_out(geglu(ff_in(norm3(h))))
 *     y = proj_out(h) + x */
#ifndef MSD_MODEL_TRANSFORMER_H
#define MSD_MODEL_TRANSFORMER_H

#include "autograd/ag.h"
#include "model/adapter.h"
#include "model/bind.h"

typedef struct self_attention {
    qkv_weights qkv; /* to_q, to_k, to_v; no bias */
    linear      out;
} self_attention;

/* k and v are rows of the UNet's text_kv, from first_row on: one product gives those of all layers. */
typedef struct cross_attention {
    linear  q, k, v; /* no bias */
    linear  out;
    int64_t first_row;
} cross_attention;

typedef struct transformer_block {
    norm            norm1, norm2, norm3;
    self_attention  self;  /* attn1 in files */
    cross_attention cross; /* attn2 */
    linear          ff_in, ff_out; /* ff.net.0.proj, ff.net.2 */
} transformer_block;

typedef struct transformer {
    norm               norm;
    linear             proj_in, proj_out; /* w (C,C), or (C,1,1,C) of a 1x1 convolution */
    transformer_block *block;             /* depth of them */
    int                depth;
    int64_t            heads;
    int                groups;
    int64_t            first_pair; /* index of its first block's cross-attention: adapter_channels' order */
} transformer;

typedef struct transformer_sizes {
    int64_t channels, heads, text_width;
    int     depth, groups;
    bool    linear_projection;
    weight_stack *text_kv; /* where cross-attentions put to_k and to_v; between its begin and its end */
} transformer_sizes;

enum { BOX_MASKS_MAX = 16 };

/* What all cross-attentions read: it depends on texts, subjects and the picture's size, not on the noise, so that one
 * serves all steps of a picture. */
typedef struct unet_context {
    tensor           *text_kv;        /* (B,T,rows of the UNet's text_kv) */
    const ms_adapter *adapter;        /* NULL: no subjects, and the fields below are unused */
    tensor           *ip_kv[ADAPTER_MAX_GROUPS]; /* (A,S*N,rows of the adapter's group) */
    tensor           *subject_scales; /* f32 (S) or NULL */
    float             scale;
    struct {
        int64_t h, w;
        tensor *mask; /* u8 (A,S,h*w) */
    } grid[BOX_MASKS_MAX]; /* one for each size at which subjects are attended to */
    int grids;
    bool recompute; /* activation checkpointing: backward computes blocks again; 'false' as it is made */
} unet_context;

/* Names the weights at the binder's current path; blocks live in `owner`. */
void transformer_bind(binder *b, transformer *t, arena *owner, const transformer_sizes *sizes);

/* x (B,h,w,C) -> (B,h,w,C) */
tensor *transformer_forward(ag *g, const transformer *t, tensor *x, const unet_context *c);

#endif
