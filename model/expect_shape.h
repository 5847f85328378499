/* The shape rule of a network's input, in one message. */
#ifndef MSD_MODEL_EXPECT_SHAPE_H
#define MSD_MODEL_EXPECT_SHAPE_H

#include "autograd/tensor.h"

/* dim[i] < 0: any size from 1. E_SHAPE: "boxes: got (2,3), expected (2,*,4)". */
err expect_shape(const char *name, const tensor *t, int ndim, const int64_t *dim);

#endif
