/* The residual block of the UNet and of the VAE (diffusers' ResnetBlock2D with time_embedding_norm "default"):
 *
 *     h = conv1(silu(norm1(x)));  h = conv2(silu(norm2(h + time_emb_proj(time))));  y = shortcut(x) + h */
#ifndef MSD_MODEL_RESNET_H
#define MSD_MODEL_RESNET_H

#include "autograd/ag.h"
#include "model/bind.h"

typedef struct resnet {
    norm   norm1, norm2;
    conv   conv1, conv2;
    conv   shortcut; /* 1x1; w is NULL where in == out */
    linear time;     /* (out, time channels); w is NULL in the VAE */
} resnet;

/* The block's weights at the binder's current path. time: channels of the time embedding, 0 for none. */
void resnet_bind(binder *b, resnet *r, int64_t in, int64_t out, int64_t time);

/* x (B,H,W,in), time (B,time channels) the embedding after its SiLU, NULL where the block has none -> (B,H,W,out). */
tensor *resnet_forward(ag *g, const resnet *r, tensor *x, tensor *time, int groups, float eps);

#endif
