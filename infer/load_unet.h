/* The UNet and the adapter from files: config.json, then weights, then binding. Each function leaves *out usable or
 * empty; weights are released by unet_release and adapter_release, arrays live in to->owner. Errors are E_MODEL and
 * name file and key or tensor, or E_MEMORY. */
#ifndef MSD_INFER_LOAD_UNET_H
#define MSD_INFER_LOAD_UNET_H

#include "infer/load_encoders.h"
#include "model/unet.h"

/* `model` is a pipeline folder; only its unet/ is needed. */
err load_unet(unet *out, const load_target *to, const char *model);
err load_unet_config(unet_config *out, const char *model);

/* An adapter file of either form, for this UNet. trainable: f32 with gradients. */
err load_adapter(ms_adapter *out, const load_target *to, const char *path, const unet_config *config, bool trainable);
/* The adapter's resampler alone; needs no UNet. Released by resampler_release. */
err load_resampler(resampler *out, const load_target *to, const char *path);

#endif
