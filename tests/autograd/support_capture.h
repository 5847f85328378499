/* Capture (autograd/capture.h) for the CPU device: what it keeps is a list of calls, done again by a launch. It can be
 * told to fail, as a card may. One at a time. */
#ifndef MSD_TESTS_SUPPORT_CAPTURE_H
#define MSD_TESTS_SUPPORT_CAPTURE_H

#include "autograd/capture.h"

typedef struct capture_log {
    int begins, launches, alive;  /* alive: captured and not dropped */
    int pins, pinned;             /* pinned: not given back */
    err refuse_begin, refuse_end, refuse_launch, refuse_pin; /* what these are to answer; OK: nothing */
    bool takes_memory;            /* the next capture takes scratch that no plan foresees */
} capture_log;

/* cpu keeps calls from now on. The log lives until capture_detach. */
capture_log *capture_attach(device *cpu);
void         capture_detach(device *cpu);

#endif
