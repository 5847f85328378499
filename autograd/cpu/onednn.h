/* oneDNN's matrix products. Primitives are made once per shape and kept; their scratch comes from the device's
 * allocator. Convolutions: onednn_conv.h. */
#ifndef MSD_AUTOGRAD_CPU_ONEDNN_H
#define MSD_AUTOGRAD_CPU_ONEDNN_H

#include "autograd/device.h"

typedef struct onednn onednn;

err  onednn_open(onednn **out);
void onednn_close(onednn *o);

/* A matrix by its strides (elements): element (i, j) lies at data[i * row + j * column]. */
typedef struct matrix {
    const float *data;
    int64_t      row, column;
} matrix;

/* y (m,n), contiguous = a (m,k) @ b (k,n) [+ bias (n)] [+ y, if add]. All f32. */
err onednn_matmul(device *d, float *y, matrix a, matrix b, const float *bias, int64_t m, int64_t k, int64_t n,
                  bool add);

/* A row of matrices of one size, `each` elements apart; within one as in matrix. */
typedef struct matrix_batch {
    const float *data;
    int64_t      each, row, column;
} matrix_batch;

/* y (count,m,n) = a (count,m,k) @ b (count,k,n); y and a contiguous. All f32. */
err onednn_matmul_batch(device *d, float *y, const float *a, matrix_batch b, int64_t count, int64_t m, int64_t k,
                        int64_t n);

#endif
