/* Everything that is wrong with somebody's files, collected with file and line, and told at once. */
#ifndef MSD_BASE_PROBLEMS_H
#define MSD_BASE_PROBLEMS_H

#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/error.h"

typedef struct problem {
    err         code; /* OK: a warning */
    const char *file; /* NULL: none */
    int64_t     line; /* 0: none */
    const char *text;
} problem;

/* Zero but for `memory`. The first thousand are kept word for word, the rest only counted. */
typedef struct problems {
    arena   *memory;
    problem *item;
    int      count, capacity; /* kept */
    int64_t  errors, warnings;
    err      worst;           /* the class to report: smallest exit code, then the first that came; OK without errors */
} problems;

void problems_add(problems *p, err code, const char *file, int64_t line, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
void problems_warn(problems *p, const char *file, int64_t line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Adds this thread's err message, as class `code`. */
void problems_add_error(problems *p, err code, const char *file, int64_t line);

/* Prints at most `limit` lines to `out` ("error[E_CONFIG] RUN.yaml:3: ...", "warning: ..."), file by file in order of
 * lines; then returns `worst` with a message: the problem itself when it is a single one (not printed before), else
 * their number. */
err problems_report(const problems *p, FILE *out, int limit);

#endif
