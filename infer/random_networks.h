/* Networks of random weights straight on the device, of the sizes of `msd synth`, for benchmarks without files. The
 * weights are the counter formula's of "COMPONENT.NAME" in the device's order; on a device without data they are shapes
 * only. Released by ..._release. */
#ifndef MSD_INFER_RANDOM_NETWORKS_H
#define MSD_INFER_RANDOM_NETWORKS_H

#include "infer/load_encoders.h"
#include "model/unet.h"

/* size: "tiny", "half" or "sdxl", else E_USAGE. E_MEMORY: *out is empty. */
err random_unet(unet *out, const load_target *to, const char *size);
err random_vae(vae *out, const load_target *to, const char *size);
err random_text_encoder(clip_text *out, const load_target *to, const char *size, bool second);
err random_image_encoder(clip_vision *out, const load_target *to, const char *size);

#endif
