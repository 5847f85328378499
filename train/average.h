/* Averaged weights (EMA): after every update mean = decay * mean + (1 - decay) * weight, in f32, from the weights at the
 * start of the run on. They take no part in training. */
#ifndef MSD_TRAIN_AVERAGE_H
#define MSD_TRAIN_AVERAGE_H

#include "train/optimizer.h"

typedef struct average {
    device          *dev;
    const parameter *param; /* borrowed: the trained tensors */
    int              count;
    tensor         **mean;  /* f32, LIFE_STATE */
    double           decay;
} average;

/* Structs live in `owner`, data until average_free. E_MEMORY. */
err  average_new(average **out, arena *owner, device *dev, const parameter *param, int count, double decay);
void average_free(average *a);    /* NULL is fine */
err  average_start(average *a);   /* the means become the weights as they are */
err  average_update(average *a);

/* The weights become the means and the means the weights; called again, everything is as before, to the bit. E_MEMORY: then
 * nothing has changed. */
err average_swap(average *a);

/* The mean of tensor t, or t itself where there is none (what is not trained). */
tensor *average_of(const average *a, tensor *t);

#endif
