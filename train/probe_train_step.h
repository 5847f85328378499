/* The probe module `train_step`: one training step on tensors from a file, or N AdamW updates on that one batch
 * (docs/FORMATS.md). train/ has it because infer/ cannot call train/: who runs probes adds it to the table. */
#ifndef MSD_TRAIN_PROBE_TRAIN_STEP_H
#define MSD_TRAIN_PROBE_TRAIN_STEP_H

#include "infer/probe.h"

extern const probe_module probe_module_train_step;

#endif
