/* Pieces of softmax over one row of scores, for the attention kernels. They run in the widest vectors
 * the machine has; the order of the sums is fixed for a given machine. */
#ifndef MSD_AUTOGRAD_CPU_SOFTMAX_H
#define MSD_AUTOGRAD_CPU_SOFTMAX_H

#include <stdint.h>

/* max(so_far, s (n)); a NaN in s is passed over here and shows in softmax_row_exp. */
float softmax_row_max(const float *s, int64_t n, float so_far);

/* s (n) = exp(s - shift); returns the sum of the new s. */
float softmax_row_exp(float *s, int64_t n, float shift);

/* From scores s and dp, the gradients of the probabilities: s (n) = p = exp(s - lse),
 * dp (n) = scale * p * (dp - delta), which is the gradient of the scores before scaling. */
void softmax_row_backward(float *s, float *dp, int64_t n, float lse, float delta, float scale);

#endif
