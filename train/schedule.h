/* The learning rate of a step, as a pure function: nothing to save, the same after any resume. In optimizer steps,
 * whatever the number of ranks. The formulas are those of diffusers' and transformers' get_scheduler, with
 * k = step - 1, w = warmup, n = steps:
 *     k < w:     lr * k / w    (all kinds; the first step of a warm-up has rate 0)
 *     constant:  lr
 *     linear:    lr * max(0, n - k) / (n - w)
 *     cosine:    lr * (1 + cos(pi * min(1, (k - w) / (n - w)))) / 2
 */
#ifndef MSD_TRAIN_SCHEDULE_H
#define MSD_TRAIN_SCHEDULE_H

#include <stdint.h>

typedef enum schedule_kind { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE } schedule_kind;

typedef struct schedule {
    schedule_kind kind;
    double        lr;
    int64_t       warmup, steps;
} schedule;

double schedule_rate(schedule s, int64_t step); /* step from 1 */

#endif
