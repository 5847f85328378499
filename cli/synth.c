#include "cli/args.h"

typedef struct options {
    const char *size, *output, *dtype;
    int64_t     seed;
    bool        quiet;
} options;

static int run(const void *opaque)
{
    const options *o = opaque;
    if (o->seed < 0)
        return msd_usage_error("msd synth: --seed: %lld is negative; give 0 or more", (long long)o->seed);
    return msd_synth(o->output, o->size, (uint64_t)o->seed, o->dtype, o->quiet);
}

static const argument arguments[] = {
    {"SIZE", 0, ARG_TEXT, offsetof(options, size), NULL, true, "tiny (seconds), half (SDXL's form, 0.7 G in the UNet) or sdxl"},
    {"--output", 'o', ARG_TEXT, offsetof(options, output), "DIR", true, "the folder to make; the image encoder goes to DIR/image_encoder"},
    {"--seed", 0, ARG_WHOLE, offsetof(options, seed), "N", false, "other weights for another seed (default 0)"},
    {"--dtype", 0, ARG_TEXT, offsetof(options, dtype), "TYPE", false, "f32, f16 or bf16 in the files (default f16)"},
    {"--quiet", 'q', ARG_FLAG, offsetof(options, quiet), NULL, false, "no progress"},
    {0},
};

const command command_synth = {
    .name = "synth",
    .summary = "makes a random pipeline folder, for trying out, tests and benchmarks",
    .about = "Writes a pipeline folder in diffusers' layout with random weights and a small vocabulary. Its pictures\n"
             "mean nothing, but every command runs on it, and diffusers and transformers load it too.",
    .arguments = arguments,
    .examples = "  msd synth tiny -o tiny\n"
                "  msd synth sdxl -o random-sdxl --dtype bf16\n",
    .options_size = sizeof(options),
    .run = run,
};
