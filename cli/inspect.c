#include "cli/args.h"

typedef struct options {
    const char *file;
    bool        json;
} options;

static int run(const void *opaque)
{
    const options *o = opaque;
    return msd_inspect(o->file, o->json, stdout);
}

static const argument arguments[] = {
    {"FILE", 0, ARG_TEXT, offsetof(options, file), NULL, true, "a .safetensors or torch .bin file, or a model folder"},
    {"--json", 0, ARG_FLAG, offsetof(options, json), NULL, false, "machine-readable"},
    {0},
};

const command command_inspect = {
    .name = "inspect",
    .summary = "lists what is in a model file and says what kind of model it seems to be",
    .about = "Reads only the headers: tensors, shapes, dtypes, metadata, parameter count, and the kind of model.\n"
             "Pickles are read by a parser that executes nothing.",
    .arguments = arguments,
    .examples = "  msd inspect adapter.safetensors\n"
                "  msd inspect ms_adapter.bin --json\n",
    .options_size = sizeof(options),
    .run = run,
};
