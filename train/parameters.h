/* An adapter's tensors as lists: all of them for files, the trained ones for the optimizer. */
#ifndef MSD_TRAIN_PARAMETERS_H
#define MSD_TRAIN_PARAMETERS_H

#include "model/adapter.h"
#include "train/config.h"
#include "train/optimizer.h"
#include "train/ranks.h"

typedef struct parameters {
    parameter *all;     /* in file order */
    int        count;
    parameter *trained; /* those with gradients, in the same order */
    int        trained_count;
} parameters;

/* Lists and names live in `owner`; the tensors stay the adapter's. By the config, train.part freezes tensors (they lose
 * needs_grad), optimizer.lr_resampler and lr_kv give rates, decay_norms takes decay from biases and norms (what has one
 * dimension). c NULL: all are trained alike. */
void parameters_list(parameters *out, arena *owner, ms_adapter *a, const run_config *c);

/* The optimizer's settings in a config. */
adamw parameters_adamw(const run_config *c);

/* The device's name for device_open: device.kind, of which auto is looked up. */
const char *parameters_device(const run_config *c);
/* That device. One card a rank: its place on the machine says which, unless it sees but one. */
err parameters_open_device(device **out, const run_config *c, const ranks *all, int threads);
/* What a run's networks compute in: device.dtype, of which auto is f32 on the CPU and bf16 on CUDA. */
dtype parameters_type(const run_config *c);

/* The copies that the network reads (adapter_copy), made before the optimizer is. */
void parameters_set_copies(parameters *p, ms_adapter *running);
/* Writes the masters into their copies: after something else than the optimizer has changed them. */
err parameters_refresh_copies(const parameters *p);

#endif
