#include "cli/args.h"

static void defaults(void *options)
{
    *(msd_benchmark_options *)options = msd_benchmark_defaults();
}

static int run(const void *options)
{
    return msd_benchmark(options, stdout);
}

#define AT(member) offsetof(msd_benchmark_options, member)
static const argument arguments[] = {
    {"WHAT", 0, ARG_TEXT, AT(what), NULL, true,
     "train, generate, ops; or one of unet, vae, encode, text, vision, conv, attention, linear"},
    {"--model", 'm', ARG_TEXT, AT(model), "DIR", false, "pipeline folder"},
    {"--image-encoder", 0, ARG_TEXT, AT(image_encoder), "DIR", false, "the image encoder's folder (default: MODEL/image_encoder)"},
    {"--random", 0, ARG_TEXT, AT(random), "SIZE", false, "instead of --model: random weights of sdxl, half or tiny"},
    {"--size", 0, ARG_WHOLE, AT(size), "N", false, "side of the picture in pixels (default 512)"},
    {"--batch", 'b', ARG_WHOLE, AT(batch), "N", false, "pictures of the training step (default 1)"},
    {"--repeats", 'r', ARG_WHOLE, AT(repeats), "N", false, "measured runs of each part (default 5)"},
    {"--activation-checkpointing", 0, ARG_FLAG, AT(activation_checkpointing), NULL, false,
     "the training step computes blocks again in backward: less memory, more time"},
    {"--json", 0, ARG_FLAG, AT(run.json), NULL, false, "machine-readable"},
    GRAPHS_ARGUMENT(msd_benchmark_options),
    RUN_ARGUMENTS(msd_benchmark_options),
    {0},
};

const command command_benchmark = {
    .name = "benchmark",
    .summary = "how long the work takes here, and where the time goes",
    .about = "Runs one training step, the networks of one picture, or single ops, and prints the median time and its\n"
             "spread, GFLOP/s, the share of this machine's matrix rate (a large product measured beside), peak memory\n"
             "and the ten ops that cost most.",
    .arguments = arguments,
    .examples = "  msd benchmark generate --random half\n"
                "  msd benchmark train --model sdxl --repeats 3\n"
                "  msd benchmark ops --threads 1\n",
    .options_size = sizeof(msd_benchmark_options),
    .defaults = defaults,
    .run = run,
};
