/* Panels: f32 matrices whose columns are up to PANEL queries side by side in vector registers, so that scores, softmax
 * and sums of values of attention need no sum across a register. Rows lie PANEL floats apart unless a step is given;
 * every panel and tile is on a boundary of 64 bytes. */
#ifndef MSD_AUTOGRAD_CPU_PANEL_H
#define MSD_AUTOGRAD_CPU_PANEL_H

#include <stdbool.h>
#include <stdint.h>

enum { PANEL_LANES = 16, PANEL_VECTORS = 3, PANEL = PANEL_LANES * PANEL_VECTORS, PANEL_ROWS = 8 };

typedef enum panel_mode { PANEL_SET, PANEL_ADD, PANEL_RESCALE } panel_mode;

/* out (rows, 16 vectors) = sum over k < depth of a[row * a_row + k * a_step] b[k]; PANEL_ADD: added to out;
 * PANEL_RESCALE: added to out times factor, a number for each column. rows is a multiple of PANEL_ROWS. The sums run
 * over rising k in pieces of one length, whatever the number of rows and columns. */
typedef struct panel_product {
    float       *out;
    const float *a, *b, *factor;
    int64_t      out_step, a_row, a_step, b_step; /* in floats; out_step, b_step: multiples of 16 */
    int64_t      rows, vectors, depth;
    panel_mode   mode;
} panel_product;

void panel_multiply(const panel_product *p);

/* What a softmax over keys that come tile by tile has seen so far, for each query of a panel. */
typedef struct panel_state {
    _Alignas(64) float most[PANEL], factor[PANEL]; /* factor: by which what was summed before is to be multiplied */
    double             sum[PANEL];
} panel_state;

/* s (rows, PANEL) = exp(scale s - most) with the maxima brought up to date; `vectors` of the panel are in use. A NaN
 * is passed over by the maximum and stays in s. */
void panel_softmax(float *s, panel_state *state, int64_t rows, int64_t vectors, float scale);

/* x (rows, PANEL) *= factor, a number for each column; nothing to do where all are 1. */
void panel_rescale(float *x, const float *factor, int64_t rows, int64_t vectors);

/* From scores s and dp (rows, PANEL): s = p = exp(times s - lse), dp = scale p (dp - delta). */
void panel_gradients(float *s, float *dp, const float *lse, const float *delta, int64_t rows, int64_t vectors,
                     float times, float scale);

/* sum (PANEL) += over the rows of exp(times s - lse) dp */
void panel_delta(double *sum, const float *s, const float *dp, const float *lse, int64_t rows, int64_t vectors,
                 float times);

/* panel (size, PANEL) = scale x^T; x: `count` rows of `size` elements, `row` apart; other columns 0. */
void panel_load(float *panel, const void *x, int64_t row, int64_t count, int64_t size, float scale, bool bf16);

/* y: `count` rows of `size` elements, `row` apart, (+)= the panel's columns times `factor` (PANEL, or NULL: 1). */
void panel_store(void *y, const float *panel, const float *factor, int64_t row, int64_t count, int64_t size, bool add,
                 bool bf16);

/* tile (count up to the next multiple of PANEL_ROWS, step) = x in f32, 0 beyond its rows and columns. */
void panel_rows_load(float *tile, const void *x, int64_t row, int64_t count, int64_t size, int64_t step, bool bf16);

/* y, rows as above, (+)= tile */
void panel_rows_store(void *y, const float *tile, int64_t row, int64_t count, int64_t size, int64_t step, bool add,
                      bool bf16);

#endif
