#include <signal.h>
#include <string.h>

#include "cli/args.h"

static const command *const commands[] = {
    &command_check,   &command_prepare, &command_preview, &command_train,    &command_report, &command_generate,   &command_export, &command_inspect,
    &command_synth,   &command_probe,    &command_tokenize,   &command_preprocess, &command_doctor,
    &command_demo_data, &command_benchmark, &command_plan,   &command_import,
};
enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

static void print_help(void)
{
    printf("msd %s: train the MS-Diffusion adapter (several subjects in one picture) against a frozen SDXL,\n"
           "and generate with it.\n\nUsage: msd COMMAND [ARGUMENTS]\n\nCommands:\n", msd_version());
    for (int i = 0; i < COMMAND_COUNT; i++)
        printf("  %-12s %s\n", commands[i]->name, commands[i]->summary);
    printf("\n  msd COMMAND --help   every argument with its default, and examples\n"
           "  msd --version        the version\n\n"
           "A first run, without any model at hand:\n"
           "  msd synth tiny -o tiny                       # a small random pipeline folder\n"
           "  msd generate --model tiny -p \"a dog\" -o dog.png\n"
           "  scripts/demo.sh                              # train, export, generate: the whole way\n\n"
           "Exit codes: 0 done, 2 usage or config, 3 dataset, 4 model files, 5 checkpoint or cache, 6 device,\n"
           "7 I/O or disk full, 8 numeric, 9 distributed, 130/143 interrupted after a clean save.\n");
}

static int unknown_command(const char *word)
{
    const char *names[COMMAND_COUNT + 1];
    for (int i = 0; i < COMMAND_COUNT; i++)
        names[i] = commands[i]->name;
    names[COMMAND_COUNT] = NULL;
    const char *nearest = msd_nearest(word, names);
    return msd_usage_error("unknown command '%s'%s%s; msd --help lists the commands", word,
                           nearest ? ", did you mean " : "", nearest ? nearest : "");
}

static int run(int argc, char **argv)
{
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        print_help();
        return argc < 2 ? 2 : 0;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("msd %s\n", msd_version());
        return 0;
    }
    for (int i = 0; i < COMMAND_COUNT; i++)
        if (!strcmp(argv[1], commands[i]->name))
            return command_run(commands[i], argc - 2, argv + 2);
    return unknown_command(argv[1]);
}

/* A closed pipe or a file size limit is an error of one write, which reports it; it must not kill a training run. */
static void ignore_write_signals(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

int main(int argc, char **argv)
{
    ignore_write_signals();
    int status = run(argc, argv);
    if (status && argc >= 2 && msd_message()[0])
        fprintf(stderr, "%s\n", msd_message());
    if (fflush(stdout) || ferror(stdout)) {
        fprintf(stderr, "error[E_IO] standard output: cannot write; is the disk full or the pipe closed?\n");
        return status ? status : 7;
    }
    return status;
}
