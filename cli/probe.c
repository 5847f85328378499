#include "cli/args.h"

static int run(const void *options)
{
    return msd_probe(options);
}

#define AT(member) offsetof(msd_probe_options, member)
static const argument arguments[] = {
    {"MODULE", 0, ARG_TEXT, AT(module), NULL, true,
     "text_encoder, text_encoder_2, image_encoder, vae_encode, vae_decode, unet, resampler, train_step, sampler, noise"},
    {"--out", 'o', ARG_TEXT, AT(out), "FILE", true, "safetensors with the module's outputs, f32, NCHW"},
    {"--in", 'i', ARG_TEXT, AT(in), "FILE", false, "safetensors with the module's inputs; unknown tensors are ignored"},
    {"--model", 'm', ARG_TEXT, AT(model), "DIR", false, "pipeline folder; only the subfolder in question is needed"},
    {"--image-encoder", 0, ARG_TEXT, AT(image_encoder), "DIR", false, "the image encoder's own folder"},
    {"--adapter", 0, ARG_TEXT, AT(adapter), "FILE", false, "adapter file"},
    {"--set", 0, ARG_LIST, AT(set), "KEY=VALUE", false, "e.g. scale=0.6 (unet), updates=5 (train_step), shape=1,4,16,16 (noise)"},
    RUN_ARGUMENTS(msd_probe_options),
    {0},
};

const command command_probe = {
    .name = "probe",
    .summary = "runs one module on given tensors, for porting and debugging",
    .about = "Runs one network, or one training step, on tensors from a safetensors file and writes what it gives.\n"
             "Names and layouts are those of diffusers and transformers. docs/FORMATS.md has the table.",
    .arguments = arguments,
    .examples = "  msd probe unet --model sdxl --in in.safetensors --out out.safetensors\n"
                "  msd probe noise --set seed=7 --set shape=1,4,16,16 --out noise.safetensors\n",
    .options_size = sizeof(msd_probe_options),
    .run = run,
};
