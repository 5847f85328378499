/* An adapter's tensors as lists: all of them for files, the trained ones for the optimizer. */
#ifndef MSD_TRAIN_PARAMETERS_H
#define MSD_TRAIN_PARAMETERS_H

#include "model/adapter.h"
#include "train/optimizer.h"

typedef struct parameters {
    parameter *all;     /* in file order */
    int        count;
    parameter *trained; /* those with gradients, in the same order */
    int        trained_count;
} parameters;

/* Lists and names live in `owner`; the tensors stay the adapter's. */
void parameters_list(parameters *out, arena *owner, ms_adapter *a);

#endif
