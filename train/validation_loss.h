/* What a validation says: the mean squared error over a held-out list, by timestep. */
#ifndef MSD_TRAIN_VALIDATION_LOSS_H
#define MSD_TRAIN_VALIDATION_LOSS_H

#include <stdint.h>

enum { VALIDATION_BINS = 4 };

typedef struct validation_loss {
    int64_t samples;                    /* that were asked; 0: there was no validation */
    int64_t edge[VALIDATION_BINS + 1];  /* bin i: timesteps edge[i]..edge[i+1]-1 */
    double  bin[VALIDATION_BINS], mean; /* of all samples; of the bins */
} validation_loss;

#endif
