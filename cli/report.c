#include "cli/args.h"

static int run(const void *options)
{
    return msd_report(options);
}

#define AT(member) offsetof(msd_report_options, member)
static const argument arguments[] = {
    {"RUN", 0, ARG_TEXT, AT(run_folder), NULL, true, "a run's folder (its output.dir); a running one too"},
    {"--output", 'o', ARG_TEXT, AT(output), "FILE", false, "the page (default RUN/report.html)"},
    {"--quiet", 'q', ARG_FLAG, AT(run.quiet), NULL, false, "no information lines"},
    {0},
};

const command command_report = {
    .name = "report",
    .summary = "makes one HTML page of a run: curves, samples over time, dataset, config",
    .about = "Reads log.jsonl, config.yaml, samples/ and the step folders of a run, and the dataset where it can be reached,\n"
             "and writes one self-contained page: no script, nothing is fetched, light and dark. What is missing is left out\n"
             "and said at its end.",
    .arguments = arguments,
    .examples = "  msd report runs/one\n"
                "  msd report runs/one -o one.html\n",
    .options_size = sizeof(msd_report_options),
    .run = run,
};
