/* `msd benchmark`: how long the work takes, against what the machine can do. Each part runs once to warm up, then
 * `repeats` times on the plain device, then once on a profile (autograd/profile.h) for operations and the slowest ops.
 * The matrix rate is that of a large product, measured before each part and after it. */
#ifndef MSD_TRAIN_BENCHMARK_H
#define MSD_TRAIN_BENCHMARK_H

#include <stdio.h>

#include "infer/encode.h"
#include "model/clip_text.h"
#include "model/clip_vision.h"
#include "model/vae.h"
#include "train/average.h"
#include "train/config.h"
#include "train/parameters.h"
#include "train/step.h"

typedef struct benchmark_options {
    const char *what;          /* "train", "generate", "ops"; "unet", "vae", "encode", "text", "vision"; an op: "conv" */
    const char *model;         /* pipeline folder, or NULL: then random */
    const char *image_encoder; /* folder, or NULL: model/image_encoder */
    const char *random;        /* "tiny", "half", "sdxl" */
    int64_t     repeats, size; /* size: of the picture's side in pixels */
    int64_t     batch;         /* pictures of the training step */
    const char *device;        /* its name for device_open; `msd plan` has none */
    int         threads;
    bool        graphs;        /* where the device has them */
    bool        json;
    bool        recompute;     /* the training step with activation checkpointing */
    dtype       type;          /* what networks compute in */
    const run_config *config;  /* of `msd plan RUN.yaml` alone */
    int         ranks;         /* likewise; 0: one process */
} benchmark_options;

/* Prints a table, or one JSON object, to `out`. E_USAGE, or what loading and running met. */
err benchmark_run(const benchmark_options *o, FILE *out);

/* ---- the parts ---- */

typedef struct benchmark {
    const benchmark_options *options;
    device                  *dev;
    arena                    memory; /* of the open part */
    unet                     unet;
    vae                      vae;
    clip_vision              vision;
    clip_text                text;
    encoders                *encoders; /* of plan_run, and what they give; NULL: a cache has it */
    encoder_sizes            sizes;
    ms_adapter               adapter, running; /* running: its copy in the networks' type, when that is not f32 */
    tensor                  *input[8]; /* persistent, random */
    int                      inputs;
    batch                    batch;
    step_models              models;
    optimizer               *optimizer;
    float                    loss;     /* of the training step */
    average                 *average;  /* of plan_run, or NULL */
    ag_whole                 whole;    /* of plan_run: told of the gradients of the last micro-batch, or NULL */
    void                    *whole_user;
} benchmark;

typedef struct benchmark_part {
    const char *name;
    const char *groups; /* the words that choose it, each between blanks: " unet generate " */
    err  (*open)(benchmark *b);
    err  (*run)(benchmark *b, ag *g);
    int  times; /* that a picture with guidance and 2 subjects needs it; PART_EACH_STEP: as often as it has steps */
    bool replays;             /* what runs do by planned_replay */
    err  (*after)(benchmark *b); /* done after run, outside of the graph: waits for the device; NULL: nothing */
} benchmark_part;

enum { PART_EACH_STEP = -1 };

/* Both lists end with a part whose name is NULL. */
extern const benchmark_part benchmark_networks[], benchmark_ops[];

/* Of a network in another type than f32: the adapter's copy that it reads, in b->running. list may be NULL. */
err benchmark_copy_adapter(benchmark *b, parameters *list);
/* A tensor of numbers in [-1,1) that lives until the part is closed, put into b->input. */
err benchmark_input(benchmark *b, const char *name, int ndim, const int64_t *dim);
/* Releases all that the open part has; for after its runs, and for after an open that failed. */
void benchmark_close(benchmark *b);
/* Operations a second of a large product: in f32, 2048 x 2048, on the CPU; in `type` and larger where that is over too soon. */
err benchmark_matrix_rate(double *out, device *dev, dtype type);

#endif
