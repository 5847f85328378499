#include "cli/args.h"

typedef struct options {
    bool json;
} options;

static int run(const void *opaque)
{
    return msd_doctor(((const options *)opaque)->json, stdout);
}

static const argument arguments[] = {
    {"--json", 0, ARG_FLAG, offsetof(options, json), NULL, false, "machine-readable"},
    {0},
};

const command command_doctor = {
    .name = "doctor",
    .summary = "what this machine has, what is missing, and how to get it",
    .about = "Devices, CPU features, threads, memory, library versions; and what is not there with the way to get it.",
    .arguments = arguments,
    .examples = "  msd doctor\n",
    .options_size = sizeof(options),
    .run = run,
};
