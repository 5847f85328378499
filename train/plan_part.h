/* What one part of a plan came to, and how it is printed. */
#ifndef MSD_TRAIN_PLAN_PART_H
#define MSD_TRAIN_PLAN_PART_H

#include <stdio.h>

#include "train/roofline.h"
#include "train/scaling.h"

typedef struct part_plan {
    const char *name;
    int64_t     parameters, trained;
    size_t      weights, state, largest, planned; /* bytes; largest: of the step alive at once, planned: its block */
    size_t      allocations;
    double      multiply_adds;
    bool        recompute; /* with activation checkpointing */
    meta_count  by_kind[META_KIND_COUNT];
    roofline    estimate;  /* card NULL: none was asked for */
    gradient_times gradients; /* of a run's step on many ranks, or empty */
} part_plan;

double part_plan_bytes(const part_plan *p); /* of memory: all that it needs at once */

/* rate: operations a second, of this machine or of the card. first: of a JSON list. many: or NULL. */
void part_plan_print(FILE *out, const part_plan *p, double rate);
void part_plan_print_json(FILE *out, const part_plan *p, const scaling *many, double rate, bool first);

#endif
