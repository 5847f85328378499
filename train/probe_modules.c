#include "train/probe_modules.h"

#include "train/probe_train_step.h"

err probe_modules_run(const probe_options *o)
{
    static const probe_module *const modules[] = {
        &probe_module_text_encoder, &probe_module_text_encoder_2, &probe_module_image_encoder, &probe_module_vae_encode,
        &probe_module_vae_decode,   &probe_module_unet,           &probe_module_resampler,     &probe_module_train_step,
        &probe_module_sampler,      &probe_module_noise,
    };
    return probe_run(o, modules, sizeof modules / sizeof *modules);
}
