/* Convolution weights in the order that the products read: oneDNN's blocks, in f32 16 inputs x 16 outputs wherever
 * the channels allow, which Winograd's transform reads too. One copy for both directions; plain values come back
 * exactly. */
#ifndef MSD_AUTOGRAD_CPU_CONV_LAYOUT_H
#define MSD_AUTOGRAD_CPU_CONV_LAYOUT_H

#include "autograd/cpu/onednn_conv.h"

/* tensor.layout of a convolution's weight. */
enum { LAYOUT_CONV = 64 };

/* Replaces the storage of w (O,KH,KW,I), f32 or bf16; others stay plain, as do weights that oneDNN cannot block. */
err conv_lay_out(device *d, tensor *w);
/* The plain values (O,KH,KW,I) of a laid-out weight as `type` to the host. */
err conv_download(device *d, void *host, dtype type, const tensor *w);
conv_weights conv_weights_of(const tensor *w);

#endif
