#include "cli/args.h"

static int run(const void *options)
{
    return msd_prepare(options, stdout);
}

#define AT(member) offsetof(msd_prepare_options, member)
static const argument arguments[] = {
    {"RUN.yaml", 0, ARG_TEXT, AT(config), NULL, true, "the run's config; data.cache names the folder to fill"},
    {"--set", 0, ARG_LIST, AT(set), "KEY=VALUE", false, "overrides a key, e.g. --set data.cache=cache"},
    {"--verify", 0, ARG_FLAG, AT(verify), NULL, false, "encodes nothing: reads every entry, checks hashes and checksums"},
    {"--stat", 0, ARG_FLAG, AT(stat), NULL, false, "encodes nothing: prints entries and bytes by kind"},
    {"--gc", 0, ARG_FLAG, AT(gc), NULL, false, "encodes nothing: drops what this run's dataset no longer uses"},
    {"--json", 0, ARG_FLAG, AT(run.json), NULL, false, "--stat as JSON"},
    {"--threads", 0, ARG_WHOLE, AT(run.threads), "N", false, "CPU threads (default: all this process may use)"},
    {"--quiet", 'q', ARG_FLAG, AT(run.quiet), NULL, false, "no progress and no information lines"},
    {0},
};

const command command_prepare = {
    .name = "prepare",
    .summary = "encodes a dataset once into a cache, so that training holds no encoder",
    .about = "Runs the VAE, the text encoders and the image encoder over the samples of RUN.yaml's data.manifest (and\n"
             "data.validation) and keeps what they make in the folder data.cache; `msd train` with the same data.cache\n"
             "then loads none of them. Entries are known by content: run it again after any change, and only what\n"
             "changed is encoded. Stopped or killed, it goes on where it was.",
    .arguments = arguments,
    .examples = "  msd prepare run.yaml --set data.cache=cache\n"
                "  msd train run.yaml --set data.cache=cache\n"
                "  msd prepare run.yaml --set data.cache=cache --verify --stat\n",
    .options_size = sizeof(msd_prepare_options),
    .run = run,
};
