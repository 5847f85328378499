/* Lines for people, on stderr: information (silenced by --quiet) and warnings ("warning: ..."). A logger is handed
 * down by the command; it also knows of the progress line on the terminal, so that lines do not mix with it. */
#ifndef MSD_BASE_LOG_H
#define MSD_BASE_LOG_H

#include <stdbool.h>
#include <stdio.h>

typedef struct logger {
    FILE *stream;   /* NULL: stderr */
    bool  quiet;    /* no information lines, no progress */
    bool  terminal; /* stream is one: a progress line is redrawn in place */
    bool  drawn;    /* a progress line stands on the terminal */
} logger;

logger logger_start(bool quiet); /* stderr */
void   log_info(logger *l, const char *format, ...) __attribute__((format(printf, 2, 3)));    /* NULL l: nothing */
void   log_warning(logger *l, const char *format, ...) __attribute__((format(printf, 2, 3))); /* NULL l: stderr */

/* Removes the progress line from the terminal, if there is one, before something else is printed there. */
void logger_clear(logger *l);

#endif
