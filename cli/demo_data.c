#include "cli/args.h"

typedef struct options {
    const char *folder, *photos;
    int64_t     count, seed;
    bool        quiet;
} options;

static void defaults(void *opaque)
{
    ((options *)opaque)->count = 24;
}

static int run(const void *opaque)
{
    const options *o = opaque;
    if (o->seed < 0)
        return msd_usage_error("msd demo-data: --seed: %lld is negative; give 0 or more", (long long)o->seed);
    return msd_demo_data(o->folder, o->photos, o->count, (uint64_t)o->seed, o->quiet);
}

static const argument arguments[] = {
    {"DIR", 0, ARG_TEXT, offsetof(options, folder), NULL, true, "the folder to fill"},
    {"--photos", 0, ARG_TEXT, offsetof(options, photos), "DIR", false,
     "photographs named after what they show (default: coloured shapes, drawn here)"},
    {"--count", 0, ARG_WHOLE, offsetof(options, count), "N", false, "how many targets (default 24)"},
    {"--seed", 0, ARG_WHOLE, offsetof(options, seed), "N", false, "other pairs and places for another seed (default 0)"},
    {"--quiet", 'q', ARG_FLAG, offsetof(options, quiet), NULL, false, "no progress"},
    {0},
};

const command command_demo_data = {
    .name = "demo-data",
    .summary = "makes a small dataset with two subjects a picture, to try training on",
    .about = "Writes DIR/data.jsonl (a manifest for data.manifest), DIR/images, DIR/references and DIR/subjects.txt.\n"
             "With --photos every target shows two of the photographs in boxes; without, coloured shapes.",
    .arguments = arguments,
    .examples = "  msd demo-data shapes\n"
                "  msd demo-data pets --photos ~/Pictures/pets --count 200\n",
    .options_size = sizeof(options),
    .defaults = defaults,
    .run = run,
};
