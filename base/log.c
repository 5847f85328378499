#include "base/log.h"

#include <stdarg.h>
#include <unistd.h>

enum { LINE_BYTES = 8192 };

logger logger_start(bool quiet)
{
    return (logger){.stream = stderr, .quiet = quiet, .terminal = isatty(STDERR_FILENO) == 1};
}

void logger_clear(logger *l)
{
    if (l && l->drawn) {
        fputs("\r\033[K", l->stream ? l->stream : stderr);
        l->drawn = false;
    }
}

/* The whole line in one write, so that processes sharing a terminal or a file do not mix within lines. */
static void print_line(logger *l, const char *start, const char *format, va_list arguments)
{
    char line[LINE_BYTES];
    vsnprintf(line, sizeof line, format, arguments);
    FILE *stream = l && l->stream ? l->stream : stderr;
    logger_clear(l);
    fprintf(stream, "%s%s\n", start, line);
    fflush(stream);
}

void log_info(logger *l, const char *format, ...)
{
    if (!l || l->quiet)
        return;
    va_list arguments;
    va_start(arguments, format);
    print_line(l, "", format, arguments);
    va_end(arguments);
}

void log_warning(logger *l, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_line(l, "warning: ", format, arguments);
    va_end(arguments);
}
