#include "cli/args.h"

typedef struct options {
    const char *source, *output, *dtype;
    bool        ema;
} options;

static int run(const void *opaque)
{
    const options *o = opaque;
    return msd_export(o->output, o->source, o->dtype, o->ema);
}

static const argument arguments[] = {
    {"SRC", 0, ARG_TEXT, offsetof(options, source), NULL, true, "a step folder, a run folder (its newest step), or an adapter file"},
    {"--output", 'o', ARG_TEXT, offsetof(options, output), "FILE", true, "adapter.safetensors or ms_adapter.bin: the ending decides"},
    {"--dtype", 0, ARG_TEXT, offsetof(options, dtype), "TYPE", false, "f32, f16 or bf16 (default: as stored)"},
    {"--ema", 0, ARG_FLAG, offsetof(options, ema), NULL, false, "the averaged weights of a run with train.ema (default: the weights)"},
    {0},
};

const command command_export = {
    .name = "export",
    .summary = "writes an adapter file from a checkpoint, or converts one",
    .about = "Writes the adapter as .safetensors, or as the .bin that the reference implementation loads.",
    .arguments = arguments,
    .examples = "  msd export runs/one -o adapter.safetensors\n"
                "  msd export runs/one/step-001000 -o ms_adapter.bin --dtype f16\n"
                "  msd export runs/one -o averaged.safetensors --ema\n",
    .options_size = sizeof(options),
    .run = run,
};
