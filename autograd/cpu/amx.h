/* Products of bf16 tiles by the matrix unit of x86-64 (AMX), f32 sums, and the layouts it takes: of the left factor
 * plain rows, of the right one "pairs", rows of 32-bit words that hold element (2k, n) below and (2k + 1, n) above.
 * Everything is padded with zeros to multiples of 16 rows and columns and 32 of the summed dimension. */
#ifndef MSD_AUTOGRAD_CPU_AMX_H
#define MSD_AUTOGRAD_CPU_AMX_H

#include <stdbool.h>
#include <stdint.h>

enum { AMX_ROWS = 16, AMX_DEPTH = 32 };

/* Whether this machine, kernel and build have it, with leave to use it. ONEDNN_MAX_CPU_ISA may say no. */
bool amx_ready(void);

/* Around this thread's products. */
void amx_begin(void);
void amx_end(void);

/* out (rows, 16 vectors) f32 (+)= sum over k < depth of a (rows,depth) b (depth, 16 vectors); steps between rows in
 * elements: f32, bf16, 32-bit words. rows a multiple of 16, depth of 32. */
typedef struct amx_product {
    float          *out;
    const uint16_t *a;
    const uint32_t *b;
    int64_t         out_step, a_step, b_step, rows, vectors, depth;
    bool            add;
} amx_product;

void amx_multiply(const amx_product *p);

/* pairs (depth / 2, step) = the rows k < count of x, f32 rounded to bf16, `step` floats apart, 16 vectors wide; 0 for
 * the rest of depth. */
void amx_pairs(uint32_t *pairs, const float *x, int64_t step, int64_t count, int64_t vectors, int64_t depth);

/* rows (count up to the next multiple of 16, step) = x, `row` apart, 0 beyond its count rows of `size`. */
void amx_rows(uint16_t *rows, const uint16_t *x, int64_t row, int64_t count, int64_t size, int64_t step);

/* rows (count up to the next multiple of 16, step) = x f32, x_step apart, rounded; columns, a multiple of 16, of it; 0
 * beyond, up to the next multiple of 32. */
void amx_round(uint16_t *rows, const float *x, int64_t x_step, int64_t count, int64_t columns, int64_t step);

/* pairs (depth / 2, step) = the rows of x, `row` apart; 0 beyond its count rows of `size`. */
void amx_row_pairs(uint32_t *pairs, const uint16_t *x, int64_t row, int64_t count, int64_t size, int64_t step,
                   int64_t depth);

/* words (step / 2, words_step) = pairs of x^T: column r is row r of x (count, size), for r < columns; 0 beyond. step is
 * size, padded. */
void amx_turned_pairs(uint32_t *words, const uint16_t *x, int64_t row, int64_t count, int64_t size, int64_t step,
                      int64_t words_step, int64_t columns);

/* turned (size up to the next multiple of 16, step) = x^T, 0 beyond; step is at least count, a multiple of 32. */
void amx_turned_rows(uint16_t *turned, const uint16_t *x, int64_t row, int64_t count, int64_t size, int64_t step);

#endif
