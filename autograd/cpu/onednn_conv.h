/* oneDNN's convolutions, on NHWC, in f32 and bf16. */
#ifndef MSD_AUTOGRAD_CPU_ONEDNN_CONV_H
#define MSD_AUTOGRAD_CPU_ONEDNN_CONV_H

#include "autograd/cpu/onednn.h"

/* How weights lie: as (O,KH,KW,I), or in the order that oneDNN's forward convolution of their size and type reads
 * (conv_layout.h). */
typedef enum conv_weights { CONV_PLAIN, CONV_BLOCKED } conv_weights;

typedef struct conv_shape {
    int64_t       batch, height, width, in;      /* x (B,H,W,I) */
    int64_t       out_height, out_width, out;    /* y (B,OH,OW,O) */
    int64_t       kernel_height, kernel_width;   /* w (O,KH,KW,I) */
    conv_geometry geometry;
    dtype         type;                          /* of x, w, bias, y: DT_F32 or DT_BF16 */
    conv_weights  weights;
} conv_shape;

/* y = conv(x, w) [+ bias] [+ y, if add]; sums in f32, rounded once */
err onednn_conv(device *d, void *y, const void *x, const void *w, const void *bias, const conv_shape *s, bool add);
/* dx = the data gradient of dy; dx of type dx_type: f32, or that of the others */
err onednn_conv_dx(device *d, void *dx, dtype dx_type, const void *dy, const void *w, const conv_shape *s);

/* Bytes of blocked weights; of s only out, the kernel, in and type are read. */
err onednn_conv_blocked_bytes(device *d, size_t *bytes, const conv_shape *s);
/* Plain weights to blocked ones and back. */
err onednn_conv_block(device *d, void *blocked, const void *plain, const conv_shape *s);
err onednn_conv_unblock(device *d, void *plain, const void *blocked, const conv_shape *s);

#endif
