/* RUN.yaml: what a run is. Every key has one row in config_keys.c, from which reading, checking, writing and comparing
 * follow; docs list the keys. Paths are absolute here (relative ones were relative to RUN.yaml). */
#ifndef MSD_TRAIN_CONFIG_H
#define MSD_TRAIN_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/problems.h"
#include "data/augment.h"
#include "train/draws.h"
#include "train/schedule.h"

typedef enum recompute_kind { RECOMPUTE_OFF, RECOMPUTE_ON, RECOMPUTE_AUTO } recompute_kind;
typedef enum crop_kind { CROP_CENTER, CROP_RANDOM } crop_kind;
typedef enum config_dtype { CONFIG_AUTO, CONFIG_F32, CONFIG_BF16, CONFIG_F16 } config_dtype;
typedef enum bad_samples { BAD_SAMPLES_FATAL, BAD_SAMPLES_SKIP } bad_samples;
typedef enum train_part { TRAIN_ALL, TRAIN_RESAMPLER, TRAIN_KV } train_part; /* the rest of the adapter is frozen */
typedef enum reduce_dtype { REDUCE_F32, REDUCE_BF16 } reduce_dtype; /* what gradients are sent in */
typedef enum optimizer_kind { OPTIMIZER_ADAMW, OPTIMIZER_ADAMW8BIT } optimizer_kind;
typedef enum config_device { CONFIG_DEVICE_AUTO, CONFIG_DEVICE_CPU, CONFIG_DEVICE_CUDA } config_device;

enum { CONFIG_KEYS = 59 }; /* rows of the table */

typedef struct config_place {
    const char *file; /* RUN.yaml, "--set a.b=c", or NULL: a default */
    int         line;
} config_place;

typedef struct run_config {
    struct {
        const char *base, *image_encoder, *adapter; /* adapter NULL: a new one */
    } model;
    struct {
        int64_t dim, depth, heads, queries; /* of a new adapter */
    } adapter;
    struct {
        const char *manifest, *validation; /* validation NULL: none */
        int64_t     resolution;            /* pixels, a multiple of 8 */
        int         crop;                  /* crop_kind */
        bool        buckets;
        int64_t     max_subjects;
        const char *cache;                 /* folder, NULL: off */
        int         cache_dtype;           /* config_dtype */
        int         bad_samples;           /* bad_samples */
        drop_rates  drop;                  /* text + image + both <= 1 */
        augment_rates augment;             /* of references; not with a cache */
    } data;
    struct {
        int64_t     steps, batch_size, accumulation, seed;
        double      max_grad_norm;         /* 0: no clipping */
        int         activation_checkpointing; /* recompute_kind */
        int64_t     memory;                /* bytes that a run may take on its device; 0: no limit but what there is */
        double      ema;                   /* decay of the averaged weights, 0: off */
        int         part;                  /* train_part */
        int64_t     timesteps[2];          /* drawn from [0]..[1]-1; 0, 0: all of the noise schedule */
        double      min_snr;               /* gamma, 0: off */
        double      noise_offset;          /* 0: off */
        int64_t     max_bad_steps;         /* so many in a row stop the run */
        int         reduce_dtype;          /* reduce_dtype, between ranks */
        bool        shard_optimizer;       /* each rank keeps its part of the moments */
        int64_t     watchdog;              /* seconds of silence or standstill of a rank that end the run */
    } train;
    struct {
        int     kind;                      /* optimizer_kind */
        double  lr, lr_resampler, lr_kv;   /* of a part: 0 is lr */
        double  weight_decay, betas[2], eps;
        bool    decay_norms;               /* off: biases and the weights of norms do not decay */
        int     schedule;                  /* schedule_kind */
        int64_t warmup;                    /* steps */
    } optimizer;
    struct {
        const char *dir;
        int64_t     checkpoint_every;      /* 0: only at the end */
        int64_t     keep;                  /* 0: all */
        int64_t     sample_every;          /* 0: never */
        const char *samples;               /* file of jobs, NULL: none */
        int64_t     validate_every;        /* and at the end; 0: never */
    } output;
    struct {
        int kind;                          /* config_device */
        int dtype;                         /* config_dtype */
        bool graphs;                       /* off: the card does every step call by call */
    } device;
    config_place place[CONFIG_KEYS];       /* where each key was given */
} run_config;

/* Reads RUN.yaml and applies "a.b=c" of `sets` in order. Everything wrong goes to `p` with file and line; a wrong key
 * keeps its default in *out (NULL for paths), so that what else can be checked is. *out is NULL when there is no YAML
 * to speak of. Returns E_CONFIG (or E_USAGE) when this call added errors; print them with problems_report. */
err run_config_load(run_config **out, arena *memory, problems *p, const char *path, const char *const *sets,
                    int set_count);

/* Adds a problem at the place where `key` ("model.base") was given. A key that does not exist is our mistake. */
void run_config_problem(problems *p, const run_config *c, err code, const char *key, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* All keys as YAML, the same bytes for the same config; loads again to the same config from any folder. The arena's. */
char *run_config_text(arena *memory, const run_config *c);
/* The key-th setting of CONFIG_KEYS: its name and its value as YAML, the arena's. False: it is a path. */
bool  run_config_setting(const char **name, const char **value, arena *memory, const run_config *c, int key);

/* The rules of a resume: E_CONFIG names every key that differs between the checkpoint's config and now with both
 * values, unless it may change freely (output.*, device.*, data.cache; train.steps under a constant schedule) or is in
 * `allowed`. E_USAGE when an allowed key does not exist. */
err run_config_resumes(const run_config *before, const run_config *now, const char *const *allowed, int allowed_count);

schedule run_config_schedule(const run_config *c);

#endif
