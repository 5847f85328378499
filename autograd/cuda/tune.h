/* Which of several algorithms of the library for the same call is fastest here. */
#ifndef MSD_AUTOGRAD_CUDA_TUNE_H
#define MSD_AUTOGRAD_CUDA_TUNE_H

#include "autograd/cuda/cuda.h"

/* Queues the call with the i-th candidate; its result goes to `scratch`. Not 0: this one cannot. */
typedef int (*cuda_candidate)(const void *user, int i, void *scratch);

/* The fastest of `count` candidates by the card's clock, the first one where another is faster by less than 3 % or nothing
 * can be timed: while a graph is captured, without memory for a scratch of `bytes`. E_DEVICE when the card fails. */
err cuda_fastest(int *best, cuda_state *s, cuda_candidate run, const void *user, int count, size_t bytes);

#endif
