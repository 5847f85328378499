/* f32 twins of (B,T,H,D) tensors, for primitives whose arithmetic is f32 whatever the tensors' type. */
#ifndef MSD_AUTOGRAD_CPU_WIDENED_H
#define MSD_AUTOGRAD_CPU_WIDENED_H

#include "autograd/cpu/cpu.h"

enum { WIDENED_MOST = 8 };

typedef struct widened {
    device *d;
    int     count;
    tensor *original[WIDENED_MOST];
    tensor  twin[WIDENED_MOST]; /* contiguous f32 of the original's shape */
    tensor *at[WIDENED_MOST];   /* &twin[i], NULL where the original is NULL */
    void   *memory;
    size_t  bytes;
} widened;

/* Takes one block of LIFE_SCRATCH for the twins of t[0..count), f32 or bf16 with D innermost or NULL, and fills those
 * whose bit is set in `load`. E_MEMORY as the device's memory says. To be closed by widened_close. */
err widened_open(widened *w, device *d, unsigned load, int count, tensor *const *t);

/* Rounds the twin i into its original, if there is one. */
void widened_store(widened *w, int i);

void widened_close(widened *w);

#endif
