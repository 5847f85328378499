/* The transformer that CLIP's text and vision encoders share: pre-norm layers of self-attention and a two-layer MLP.
 * Names of weights are transformers': layers.N.{layer_norm1,self_attn.{q,k,v,out}_proj,layer_norm2,mlp.{fc1,fc2}}. */
#ifndef MSD_MODEL_CLIP_LAYERS_H
#define MSD_MODEL_CLIP_LAYERS_H

#include "autograd/ag.h"
#include "model/bind.h"
#include "model/config_reader.h"

typedef struct clip_layers_config {
    int64_t hidden, intermediate, layers, heads; /* heads divide hidden */
    unary   activation;                          /* hidden_act: UNARY_GELU or UNARY_QUICK_GELU */
    float   eps;                                 /* layer_norm_eps */
} clip_layers_config;

typedef struct clip_layer {
    norm   norm1, norm2;
    qkv_weights qkv;
    linear out;
    linear fc1, fc2;
} clip_layer;

/* Reads hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, hidden_act, layer_norm_eps. Absent keys
 * keep the values of *out, which the caller has set to the model's defaults: transformers leaves those out of nested
 * configs. Problems stay with the reader. */
void clip_layers_config_read(clip_layers_config *out, config_reader *r);

/* Names config->layers layers at the current path as "encoder.layers.N". *layer is NULL, and then made in `owner`, or
 * was made by an earlier walk with the same config. */
void clip_layers_bind(binder *b, clip_layer **layer, arena *owner, const clip_layers_config *config);

/* x (B,T,hidden) through layers [first, last) -> (B,T,hidden); x itself when first == last. */
tensor *clip_layers_forward(ag *g, const clip_layer *layer, const clip_layers_config *config, tensor *x, int64_t first,
                            int64_t last, bool causal);

#endif
