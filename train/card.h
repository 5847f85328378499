/* GPUs as plans know them: the rates that bound a kernel's time from below, and the memory. Figures of others; nothing here was
 * measured by this program. */
#ifndef MSD_TRAIN_CARD_H
#define MSD_TRAIN_CARD_H

#include "autograd/tensor.h"

typedef struct card {
    const char *name;   /* what the user calls it: "h100" */
    const char *title;  /* "NVIDIA H100 SXM, 80 GB" */
    const char *basis;  /* what the rates are, in a few words */
    double      bf16, f32; /* operations a second of matrix products, sums in f32, no TF32 */
    double      bandwidth; /* bytes a second of its memory */
    double      memory;    /* bytes that a process sees */
    double      nvlink;    /* bytes a second that each of 8 in a node sends in an all-reduce; 0: it has none */
} card;

/* By name, or NULL. */
const card *card_find(const char *name);
const char *card_names(void); /* "h100, a100, 4090" */
double      card_rate(const card *c, dtype type);

#endif
