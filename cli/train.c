#include "cli/args.h"

static int run(const void *options)
{
    return msd_train(options);
}

#define AT(member) offsetof(msd_train_options, member)
static const argument arguments[] = {
    {"RUN.yaml", 0, ARG_TEXT, AT(config), NULL, true, "the run's config; docs/FORMATS.md lists every key"},
    {"--set", 0, ARG_LIST, AT(set), "KEY=VALUE", false, "overrides a key, e.g. --set train.steps=100"},
    {"--resume", 0, ARG_TEXT, AT(resume), "HOW", false, "none, auto (newest valid checkpoint) or a step folder (default none)"},
    {"--allow-change", 0, ARG_LIST, AT(allow_change), "KEY", false, "a key that may differ from the checkpoint's config"},
    {"--dump-batches", 0, ARG_TEXT, AT(dump_batches), "DIR", false, "writes every micro-batch as inputs of `msd probe train_step`"},
    GRAPHS_ARGUMENT(msd_train_options),
    RUN_ARGUMENTS(msd_train_options),
    {0},
};

const command command_train = {
    .name = "train",
    .summary = "trains an adapter on your dataset",
    .about = "Trains the adapter (grounding resampler and multi-subject cross-attention) against the frozen SDXL\n"
             "that RUN.yaml names. Ctrl-C finishes the step, saves and exits 130; `--resume auto` goes on from there,\n"
             "to the same bits as a run that was never stopped. A second Ctrl-C leaves at once; SIGUSR1 saves and goes on.",
    .arguments = arguments,
    .examples = "  msd check run.yaml\n"
                "  msd train run.yaml\n"
                "  msd train run.yaml --resume auto --set train.steps=20000\n",
    .options_size = sizeof(msd_train_options),
    .run = run,
};
