#include "cli/args.h"

typedef struct options {
    msd_run     run;
    const char *config;
    msd_list    set;
    bool        headers;
} options;

static int run(const void *opaque)
{
    const options *o = opaque;
    return msd_check(o->config, &o->set, o->headers, &o->run, stdout);
}

static const argument arguments[] = {
    {"RUN.yaml", 0, ARG_TEXT, offsetof(options, config), NULL, true, "the run's config"},
    {"--set", 0, ARG_LIST, offsetof(options, set), "KEY=VALUE", false,
     "overrides a key, e.g. --set data.resolution=1024"},
    {"--headers", 0, ARG_FLAG, offsetof(options, headers), NULL, false,
     "looks at the headers of pictures only, without decoding them"},
    {"--threads", 0, ARG_WHOLE, offsetof(options, run.threads), "N", false,
     "that decode (default: all this process may use)"},
    {"--quiet", 'q', ARG_FLAG, offsetof(options, run.quiet), NULL, false, "only what is wrong"},
    {"--json", 0, ARG_FLAG, offsetof(options, run.json), NULL, false, "the statistics as JSON"},
    {0},
};

const command command_check = {
    .name = "check",
    .summary = "validates config, model folder and dataset; names everything wrong at once",
    .about = "Reads RUN.yaml, the model folder and the whole dataset (every picture is decoded), and lists every\n"
             "mistake with its file and line. Exit code: 0 nothing wrong, else the first that applies of\n"
             "2 (config), 3 (dataset), 4 (model).",
    .arguments = arguments,
    .examples = "  msd check run.yaml\n"
                "  msd check run.yaml --set data.manifest=other.jsonl\n",
    .options_size = sizeof(options),
    .run = run,
};
