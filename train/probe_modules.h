/* All modules of `msd probe`, of every folder. */
#ifndef MSD_TRAIN_PROBE_MODULES_H
#define MSD_TRAIN_PROBE_MODULES_H

#include "infer/probe.h"

/* Runs o->module; errors as probe_run. */
err probe_modules_run(const probe_options *o);

#endif
