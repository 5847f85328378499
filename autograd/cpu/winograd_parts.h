/* The parts of winograd.c: transforms of tiles and weights, and the products between them. */
#ifndef MSD_AUTOGRAD_CPU_WINOGRAD_PARTS_H
#define MSD_AUTOGRAD_CPU_WINOGRAD_PARTS_H

#include "autograd/cpu/onednn_conv.h"

enum {
    WINO_LANES = 16,  /* channels at a time: one vector */
    WINO_POINTS = 36, /* 6x6 of a tile */
    WINO_TAPS = 9
};

/* One vector of channels, wherever it lies. */
typedef float wino_vector __attribute__((vector_size(4 * WINO_LANES), aligned(4), may_alias));

/* A convolution y = conv(x, w), or the data gradient, which is one too: of dy with the kernel turned round. */
typedef struct winograd {
    const float *x, *bias, *w;
    float       *y;
    int64_t      height, width, in, out_height, out_width, out, top, left;
    int64_t      across, down, tiles; /* tiles in a row, in a column, in the whole batch */
    conv_weights weights;
    bool         turned; /* w is read as (in, out), from its last tap to its first */
    bool         add;
} winograd;

/* The tiles first..first+count, transformed: v[point][block of inputs][tile][lane], `pitch` tiles apart. */
typedef struct wino_tiles {
    int64_t first, count, pitch;
} wino_tiles;

/* Tile `at` of t into v. */
void wino_input_tile(const winograd *c, float *v, const wino_tiles *t, int64_t at);
/* Tile `at` of t from m[point][block of outputs][tile][lane], `blocks` of them from output block `from` on, to y. */
void wino_output_tile(const winograd *c, const float *m, const wino_tiles *t, int64_t at, int64_t from, int64_t blocks);

/* Weights of input block k and output block n:
 * u[point * step + lane of the input * WINO_LANES + lane of the output]. */
void wino_weights(const winograd *c, float *u, int64_t step, int64_t k, int64_t n);

/* For one point: m (tiles, outputs) [+]= v (tiles, inputs) u (inputs, outputs), in blocks of WINO_LANES channels. */
typedef struct wino_product {
    float       *m;
    const float *v, *u;
    const float *next_v;                          /* of the call after this one */
    int64_t      tiles, inputs, outputs;          /* inputs and outputs: blocks */
    int64_t      m_step, v_step, u_step;          /* floats from block to block; of u: of outputs */
    bool         add;
} wino_product;
void wino_multiply(const wino_product *p);

#endif
