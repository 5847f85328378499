/* `msd doctor`: what this machine has, what is missing, and how to get it. */
#ifndef MSD_TRAIN_DOCTOR_H
#define MSD_TRAIN_DOCTOR_H

#include <stdbool.h>
#include <stdio.h>

#include "base/error.h"

/* Prints lines for people, or one JSON object. E_DEVICE when the CPU device cannot be opened. */
err doctor_print(bool json, FILE *out);

#endif
