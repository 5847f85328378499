#include "cli/args.h"

typedef struct options {
    const char *model;
    int64_t     which;
} options;

static void defaults(void *opaque)
{
    ((options *)opaque)->which = 1;
}

static int run(const void *opaque)
{
    const options *o = opaque;
    return msd_tokenize(o->model, o->which, stdin, stdout);
}

static const argument arguments[] = {
    {"--model", 'm', ARG_TEXT, offsetof(options, model), "DIR", true, "the pipeline folder"},
    {"--which", 0, ARG_WHOLE, offsetof(options, which), "1|2", false, "SDXL's first or second tokenizer (default 1)"},
    {0},
};

const command command_tokenize = {
    .name = "tokenize",
    .summary = "token ids of each line of standard input",
    .about = "Prints, for every line of standard input, one JSON array of 77 padded and truncated ids.",
    .arguments = arguments,
    .examples = "  echo \"a dog and a cat\" | msd tokenize --model sdxl\n",
    .options_size = sizeof(options),
    .defaults = defaults,
    .run = run,
};
