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

typedef struct attention_layer {
    linear q, k, v; /* no bias */
    linear out;
} attention_layer;

typedef struct transformer_block {
    norm            norm1, norm2, norm3;
    attention_layer self, cross; /* attn1, attn2 in files */
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
} transformer_sizes;

enum { BOX_MASKS_MAX = 16 };

/* What all cross-attentions of one forward share. */
typedef struct attention_context {
    tensor           *text;           /* (B,T,text_width) */
    const ms_adapter *adapter;        /* NULL: no subjects, and the fields below are unused */
    tensor           *ip_tokens;      /* (A,S*N,text_width) */
    tensor           *subject_scales; /* f32 (S) or NULL */
    float             scale;
    struct {
        int64_t h, w;
        tensor *mask; /* u8 (A,S,h*w) */
    } grid[BOX_MASKS_MAX]; /* made once per forward for each size, used by every layer of that size */
    int grids;
} attention_context;

/* Names the weights at the binder's current path; blocks live in `owner`. */
void transformer_bind(binder *b, transformer *t, arena *owner, const transformer_sizes *sizes);

/* x (B,h,w,C) -> (B,h,w,C) */
tensor *transformer_forward(ag *g, const transformer *t, tensor *x, const attention_context *c);

#endif
