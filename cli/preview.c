#include "cli/args.h"

typedef struct options {
    msd_preview_options preview;
} options;

static void defaults(void *opaque)
{
    ((options *)opaque)->preview.count = 16;
}

static int run(const void *opaque)
{
    const options *o = opaque;
    if (o->preview.count < 1)
        return msd_usage_error("msd preview: --count: found %lld, expected 1 or more", (long long)o->preview.count);
    return msd_preview(&o->preview);
}

static const argument arguments[] = {
    {"RUN.yaml", 0, ARG_TEXT, offsetof(options, preview.config), NULL, true, "the run's config"},
    {"--output", 'o', ARG_TEXT, offsetof(options, preview.output), "DIR", true, "the folder for the pictures"},
    {"--count", 0, ARG_WHOLE, offsetof(options, preview.count), "N", false, "how many samples, from the first step on (default 16)"},
    {"--set", 0, ARG_LIST, offsetof(options, preview.set), "KEY=VALUE", false, "overrides a key, e.g. --set data.crop=random"},
    {"--quiet", 'q', ARG_FLAG, offsetof(options, preview.run.quiet), NULL, false, "no information lines"},
    {0},
};

const command command_preview = {
    .name = "preview",
    .summary = "draws samples with boxes, phrases and references as the trainer sees them",
    .about = "Takes the run's first samples in the order of training, with the run's own crops and draws, and writes\n"
             "DIR/step-NNNNNN-P.png for place P of the step: the target's crop with its boxes and phrases, each reference\n"
             "as the image encoder gets it, the text, the sizes, and what this step drops. DIR/sheet.png shows all targets.\n"
             "Needs the dataset; of the model only the image encoder's config.json, for the references' size.",
    .arguments = arguments,
    .examples = "  msd preview run.yaml -o look\n"
                "  msd preview run.yaml -o look --count 64 --set data.buckets=on\n",
    .options_size = sizeof(options),
    .defaults = defaults,
    .run = run,
};
