/* oneDNN's matrix products. Primitives are made once per shape and kept; their scratch comes from the device's
 * allocator. Convolutions: onednn_conv.h. */
#ifndef MSD_AUTOGRAD_CPU_ONEDNN_H
#define MSD_AUTOGRAD_CPU_ONEDNN_H

#include "autograd/device.h"

typedef struct onednn onednn;

err  onednn_open(onednn **out);
void onednn_close(onednn *o);

/* Whether oneDNN has products and convolutions of bf16 on this machine. */
bool onednn_has_bf16(void);

/* Whether products that read blocked matrices are fast here, in f32 or bf16. */
bool onednn_has_blocks(dtype type);

/* A matrix by its strides (elements): element (i, j) lies at data[i * row + j * column]. Types: f32 or bf16. The second
 * operand may be `blocked` instead, as linear_layout.h says; its strides are 0 then. */
typedef struct matrix {
    const void *data;
    dtype       type;
    int64_t     row, column;
    bool        blocked;
} matrix;

/* y (m,n), contiguous = a (m,k) @ b (k,n) [+ bias (n), of a's type] [+ y, if add]. a and b of one type, y of the same or
 * f32; sums in f32, rounded once. bf16 only where onednn_has_bf16. */
err onednn_matmul(device *d, void *y, dtype y_type, matrix a, matrix b, const void *bias, int64_t m, int64_t k,
                  int64_t n, bool add);

/* A row of matrices of one size, `each` elements apart; within one as in matrix. */
typedef struct matrix_batch {
    const void *data;
    dtype       type;
    int64_t     each, row, column;
} matrix_batch;

/* y (count,m,n), contiguous = a (count,m,k) @ b (count,k,n); types as in onednn_matmul. */
err onednn_matmul_batch(device *d, void *y, dtype y_type, matrix_batch a, matrix_batch b, int64_t count, int64_t m,
                        int64_t k, int64_t n);

#endif
