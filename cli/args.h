/* Command lines as tables. A command lists its arguments once: parsing, --help and the "did you mean"
 * of a misspelt flag come from that list. Values land in an options struct at `at`. */
#ifndef MSD_CLI_ARGS_H
#define MSD_CLI_ARGS_H

#include "msd.h"

typedef enum argument_kind {
    ARG_FLAG,   /* bool: true when given */
    ARG_TEXT,   /* const char * */
    ARG_WHOLE,  /* int64_t */
    ARG_NUMBER, /* double */
    ARG_LIST    /* msd_list: may be given again and again */
} argument_kind;

typedef struct argument {
    const char   *name;     /* "--width", or "RUN.yaml" for a positional */
    char          letter;   /* 'W' for -W, or 0 */
    argument_kind kind;
    size_t        at;       /* offset in the options struct */
    const char   *value;    /* what stands for the value in --help: "N"; NULL for flags and positionals */
    bool          required;
    const char   *help;     /* meaning and default, one line */
} argument;

typedef struct command {
    const char     *name;
    const char     *summary;   /* one line, in `msd --help` */
    const char     *about;     /* a paragraph, in `msd NAME --help` */
    const argument *arguments; /* ended by a zeroed one */
    const char     *examples;  /* whole lines */
    size_t          options_size;
    void            (*defaults)(void *options); /* NULL: zeroed */
    int             (*run)(const void *options);
} command;

/* Parses argv after the command's name and runs it; the exit code. */
int command_run(const command *c, int argc, char **argv);

/* The arguments that most commands share, for a struct whose member `run` is an msd_run. */
#define RUN_ARGUMENTS(type)                                                                                     \
    {"--device", 0, ARG_TEXT, offsetof(type, run.device), "KIND", false, "auto, cpu or cuda (default auto)"}, \
    {"--dtype", 0, ARG_TEXT, offsetof(type, run.dtype), "TYPE", false, "auto, f32 or bf16 (default auto: f32 on cpu)"}, \
    {"--threads", 0, ARG_WHOLE, offsetof(type, run.threads), "N", false, "CPU threads (default: all this process may use)"}, \
    {"--quiet", 'q', ARG_FLAG, offsetof(type, run.quiet), NULL, false, "no progress and no information lines"}

#define GRAPHS_ARGUMENT(type)                                                       \
    {"--no-graphs", 0, ARG_FLAG, offsetof(type, run.no_graphs), NULL, false,        \
     "a GPU does every step call by call instead of by CUDA graphs (for diagnosis)"}

extern const command command_prepare, command_preview, command_train, command_report, command_check, command_generate, command_export, command_inspect, command_synth,
    command_probe, command_tokenize, command_preprocess, command_doctor,
    command_demo_data, command_benchmark, command_plan, command_import;

#endif
