/* 3x3 convolutions of stride 1 by Winograd's minimal filtering F(4x4, 3x3): 36 products of matrices for each tile of
 * 4x4 outputs instead of 144 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015). */
#ifndef MSD_AUTOGRAD_CPU_WINOGRAD_H
#define MSD_AUTOGRAD_CPU_WINOGRAD_H

#include "autograd/cpu/onednn_conv.h"

/* Whether it computes this shape faster: enough places to pay for the weights' transform, whole vectors of channels. */
bool winograd_suits(const conv_shape *s);

/* As onednn_conv and onednn_conv_dx. Both read plain weights and, faster, blocked ones. Scratch: 128 tiles of all
 * inputs, and a few MiB for each thread. */
err winograd_conv(device *d, float *y, const float *x, const float *w, const float *bias, const conv_shape *s,
                  bool add);
err winograd_conv_dx(device *d, float *dx, const float *dy, const float *w, const conv_shape *s, bool add);

#endif
