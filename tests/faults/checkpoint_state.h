/* A small training state whose numbers follow from the step alone, so that whatever is found on a disk can be judged. */
#ifndef MSD_TESTS_FAULTS_CHECKPOINT_STATE_H
#define MSD_TESTS_FAULTS_CHECKPOINT_STATE_H

#include "train/checkpoint.h"

enum { STATE_KEEP = 2 }; /* checkpoints that rotation leaves */

typedef struct state {
    arena      memory;
    device    *dev; /* one thread, so that a forked child may use it */
    parameter  parameter;
    optimizer *o;
    checkpoint c;
} state;

void state_open(state *s);
void state_close(state *s);
void state_of_step(state *s, int64_t step);
bool state_holds(const state *s, int64_t step); /* exactly the numbers of that step */
err  state_save(state *s, const char *run, int64_t step); /* and rotates, as the trainer does */

#endif
