/* `msd plan`: what the work costs before it is done. Every part runs once on the meta device: parameters, memory by
 * category with the step's planned block, multiply-adds, and the seconds they take at this machine's matrix rate; for a
 * card an estimate of every primitive (roofline.h) and whether its memory suffices. */
#ifndef MSD_TRAIN_PLAN_H
#define MSD_TRAIN_PLAN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "autograd/tensor.h"

typedef struct plan_options {
    const char *config;        /* RUN.yaml: that run's step with its encoders, and nothing else below; or NULL */
    const char *const *set;    /* "a.b=c" for config */
    int         sets;
    const char *model;         /* pipeline folder, or NULL: then random; only headers of weights are read */
    const char *image_encoder; /* folder, or NULL: model/image_encoder */
    const char *random;        /* "tiny", "half", "sdxl" */
    const char *card;          /* "h100": estimate for that GPU (card.h) instead of this machine; or NULL */
    int         ranks;         /* > 0, of config: also that step on so many GPUs (scaling.h); the card is "h100" if NULL */
    const char *link;          /* between them (scaling.h); NULL: "nvlink" */
    int64_t     steps;         /* > 0: only what one picture takes, of so many steps, and the sum */
    int64_t     size;          /* of the picture's side in pixels; 0: what the UNet was made for */
    int         threads;       /* for the matrix rate */
    bool        json;
    dtype       type;          /* what networks compute in; of a run, as its config says */
} plan_options;

/* Prints a table, or one JSON object, to `out`. E_USAGE, E_CONFIG, or what loading met. */
err plan_print(const plan_options *o, FILE *out);

#endif
