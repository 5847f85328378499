/* What the files that implement msd.h share. */
#ifndef MSD_TRAIN_LIBMSD_STATUS_H
#define MSD_TRAIN_LIBMSD_STATUS_H

#include "autograd/tensor.h"
#include "msd.h"

/* The exit code of e; msd_message() then has the line that main prints. */
int libmsd_status(err e);
/* E_USAGE, E_DEVICE: a device, dtype or thread count that this build does not have. */
err libmsd_check_run(const msd_run *o);
/* The device's name for device_open: auto is looked up. */
const char *libmsd_device(const msd_run *o);
/* What networks compute in: --dtype, of which auto is f32 on the CPU and bf16 on CUDA. */
dtype libmsd_type(const msd_run *o);

#endif
