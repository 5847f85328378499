/* `msd synth`: a random pipeline folder, for tests and benchmarks: every component with its config.json, tokenizers
 * with a small vocabulary, and the image encoder in DIR/image_encoder. diffusers and transformers load it too.
 *
 * Weights are the counter formula's (data/counter.h) of "COMPONENT.NAME", e.g. "unet.conv_in.weight", and of
 * "COMPONENT#SEED.NAME" for a seed other than 0; so they can be remade anywhere. */
#ifndef MSD_INFER_SYNTH_H
#define MSD_INFER_SYNTH_H

#include "base/log.h"
#include "data/stored.h"

/* size: "tiny", "half" or "sdxl"; type: STORED_F32, STORED_F16 or STORED_BF16. The folder appears whole or not at all;
 * one that exists and is not empty is refused. E_USAGE, E_IO, E_DISK_FULL (before anything is written). */
err synth_write(const char *folder, const char *size, uint64_t seed, stored_type type, logger *log);

#endif
