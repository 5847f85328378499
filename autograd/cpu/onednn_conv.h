/* oneDNN's convolutions, on NHWC. */
#ifndef MSD_AUTOGRAD_CPU_ONEDNN_CONV_H
#define MSD_AUTOGRAD_CPU_ONEDNN_CONV_H

#include "autograd/device.h"

typedef struct conv_shape {
    int64_t       batch, height, width, in;      /* x (B,H,W,I) */
    int64_t       out_height, out_width, out;    /* y (B,OH,OW,O) */
    int64_t       kernel_height, kernel_width;   /* w (O,KH,KW,I) */
    conv_geometry geometry;
} conv_shape;

/* y = conv(x, w) [+ bias] [+ y, if add] */
err onednn_conv(device *d, float *y, const float *x, const float *w, const float *bias, const conv_shape *s, bool add);
/* dx = the data gradient of dy */
err onednn_conv_dx(device *d, float *dx, const float *dy, const float *w, const conv_shape *s);

#endif
