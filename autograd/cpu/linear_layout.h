/* Weights of linear layers in the order that the forward product reads: blocks of 64 rows of w (m,k), in each the k
 * columns one after another, 64 numbers long; in bf16 two columns interleaved, as AMX multiplies them. As many bytes as
 * plain. The data gradient reads plain weights. */
#ifndef MSD_AUTOGRAD_CPU_LINEAR_LAYOUT_H
#define MSD_AUTOGRAD_CPU_LINEAR_LAYOUT_H

#include "autograd/device.h"

/* tensor.layout of a linear layer's weight. */
enum { LAYOUT_LINEAR = 65 };

/* In place. Leaves w plain where m is no multiple of 64 or k none of 32, the type is neither f32 nor bf16, or the machine
 * has no product that reads blocks. */
err linear_lay_out(device *d, tensor *w);
/* The plain values (m,k) of a laid-out weight as `type` to the host. */
err linear_download(device *d, void *host, dtype type, const tensor *w);

#endif
