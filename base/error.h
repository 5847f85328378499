/* Errors. The caller's world can be wrong (a file, a config, memory, a device): functions return an
 * err, and the message is composed once, where the facts are. Our own mistakes: CHECK, which is
 * always compiled in, prints the values and aborts. */
#ifndef MSD_BASE_ERROR_H
#define MSD_BASE_ERROR_H

typedef enum err {
    OK = 0,
    E_USAGE,       /* command line                     exit 2 */
    E_CONFIG,      /* RUN.yaml, job file               exit 2 */
    E_DATASET,     /* manifest, pictures               exit 3 */
    E_MODEL,       /* model folder, adapter file       exit 4 */
    E_SHAPE,       /* tensors that do not fit          exit 4 */
    E_FORMAT,      /* malformed file, not yet classed  exit 4 */
    E_CHECKPOINT,  /* checkpoint                       exit 5 */
    E_CACHE,       /* encoder cache                    exit 5 */
    E_DEVICE,      /* device                           exit 6 */
    E_MEMORY,      /* host or device memory            exit 6 */
    E_IO,          /* read, write, missing file        exit 7 */
    E_DISK_FULL,   /* no space left                    exit 7 */
    E_NUMERIC,     /* NaN, Inf                         exit 8 */
    E_DISTRIBUTED, /* ranks                            exit 9 */
    E_INTERRUPTED, /* SIGINT after a clean save        exit 130 */
    E_TERMINATED   /* SIGTERM after a clean save       exit 143 */
} err;

/* Sets this thread's message and returns `code`. One line: what, where, found, expected, what to do. */
err err_set(err code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "text: " before this thread's message (the file or key a callee could not know); returns `code`. */
err err_prefix(err code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Gives an error of a shared layer the class of its context: E_IO, E_FORMAT, E_SHAPE become `as`
 * when `code` is one of them; E_DISK_FULL, E_MEMORY and all others stay. */
err err_as(err code, err as);

/* This thread's last message; valid until the next err_set of the thread. */
const char *err_message(void);

const char *err_name(err code);      /* "E_SHAPE" */
int         err_exit_code(err code); /* contract: 0, 2..9, 130, 143 */

#define TRY(expression)                   \
    do {                                  \
        err try_error_ = (expression);    \
        if (try_error_ != OK)             \
            return try_error_;            \
    } while (0)

/* Jumps to `label` with the variable `result` set; for functions that hold something to release. */
#define TRY_GOTO(result, expression, label) \
    do {                                    \
        (result) = (expression);            \
        if ((result) != OK)                 \
            goto label;                     \
    } while (0)

#define CHECK(condition, ...)                                        \
    do {                                                             \
        if (!(condition))                                            \
            check_failed(__FILE__, __LINE__, #condition, __VA_ARGS__); \
    } while (0)
_Noreturn void check_failed(const char *file, int line, const char *condition, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
