#include "cli/args.h"

static int run(const void *options)
{
    return msd_plan(options, stdout);
}

#define AT(member) offsetof(msd_plan_options, member)
static const argument arguments[] = {
    {"RUN.yaml", 0, ARG_TEXT, AT(config), NULL, false,
     "a run: its training step with its encoders; or the word generate: what one picture takes"},
    {"--steps", 0, ARG_WHOLE, AT(steps), "N", false, "of plan generate (default 30)"},
    {"--set", 0, ARG_LIST, AT(set), "KEY=VALUE", false, "changes a key of RUN.yaml; may be given again"},
    {"--model", 'm', ARG_TEXT, AT(model), "DIR", false, "pipeline folder; of its weights only the headers are read"},
    {"--image-encoder", 0, ARG_TEXT, AT(image_encoder), "DIR", false, "the image encoder's folder (default: MODEL/image_encoder)"},
    {"--random", 0, ARG_TEXT, AT(random), "SIZE", false, "instead of --model: a network of size sdxl, half or tiny"},
    {"--size", 0, ARG_WHOLE, AT(size), "N", false, "side of the picture in pixels (default: what the UNet was made for)"},
    {"--card", 0, ARG_TEXT, AT(card), "NAME", false,
     "h100, a100 or 4090: an estimate for that GPU, primitive by primitive, instead of this machine"},
    {"--ranks", 0, ARG_WHOLE, AT(ranks), "N", false, "of RUN.yaml: the step on N GPUs too, nodes of 8 (--card h100 unless given)"},
    {"--link", 0, ARG_TEXT, AT(link), "NAME", false,
     "between them: nvlink (one node; the default), ib400 or eth100 (a port a node), ib400x8 (a port a GPU)"},
    {"--json", 0, ARG_FLAG, AT(run.json), NULL, false, "machine-readable"},
    RUN_ARGUMENTS(msd_plan_options),
    {0},
};

const command command_plan = {
    .name = "plan",
    .summary = "parameters, memory and operations before anything runs",
    .about = "Runs the training step of RUN.yaml, or one training step and the networks of one picture of a model, on\n"
             "shapes alone and prints for each: parameters, memory by category with the block that a step needs\n"
             "(scratch of its primitives included), multiply-adds by kind, and the seconds that they take at this\n"
             "machine's matrix rate (a large product, measured first): a bound from below. With data.cache set the\n"
             "encoders are left out. With --card every call of a primitive is taken to last as long as its operations\n"
             "or its bytes would at that GPU's rates, whichever is longer, in bf16 unless told otherwise: an estimate,\n"
             "from below. With --ranks it computes when each bucket of gradients is sent, what of that backward does not\n"
             "hide, and the efficiency: docs/SCALING.md.",
    .arguments = arguments,
    .examples = "  msd plan run.yaml --set train.batch_size=4\n"
                "  msd plan generate --model sdxl --size 1024 --steps 30 --dtype bf16\n"
                "  msd plan --random sdxl\n"
                "  msd plan run.yaml --card h100\n"
                "  msd plan run.yaml --ranks 64 --link ib400x8 --set train.shard_optimizer=on\n"
                "  msd plan --model sdxl --size 512 --json\n",
    .options_size = sizeof(msd_plan_options),
    .run = run,
};
