#include "base/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"

#define TERMINAL_INTERVAL 0.1
#define PLAIN_INTERVAL    10.0

double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

progress progress_start(logger *log, const char *what, const char *unit, int64_t first, int64_t total)
{
    return (progress){.log = log, .what = what, .unit = unit, .first = first, .done = first, .total = total,
                      .started = clock_seconds(), .shown = -1, .shown_done = -1, .clock = clock_seconds};
}

static void compose(char *line, size_t room, const progress *p, double now)
{
    double elapsed = now - p->started, items = (double)(p->done - p->first);
    int used = snprintf(line, room, "%s %lld/%lld %.0f%%", p->what, (long long)p->done, (long long)p->total,
                        p->total > 0 ? 100.0 * (double)p->done / (double)p->total : 100.0);
    size_t at = used < 0 ? 0 : (size_t)used;
    if (p->text[0] && at < room)
        at += (size_t)snprintf(line + at, room - at, " %s", p->text);
    if (items <= 0 || elapsed <= 0 || at >= room)
        return;
    char duration[32];
    if (p->unit) {
        double rate = items / elapsed;
        at += (size_t)snprintf(line + at, room - at, rate < 0.1 ? ", %.2g %s/s" : ", %.2f %s/s", rate, p->unit);
    }
    if (at >= room)
        return;
    if (p->done < p->total)
        snprintf(line + at, room - at, ", %s left",
                 text_duration(duration, elapsed / items * (double)(p->total - p->done)));
    else
        snprintf(line + at, room - at, ", %s in all", text_duration(duration, elapsed));
}

/* Cuts the line to the terminal's width, between characters: a wrapped line could not be redrawn in place. */
static void cut_to_width(char *line, FILE *stream)
{
    struct winsize w;
    size_t columns = 80;
    if (ioctl(fileno(stream), TIOCGWINSZ, &w) == 0 && w.ws_col > 1)
        columns = w.ws_col;
    size_t characters = 0;
    for (char *c = line; *c; c++)
        if (((unsigned char)*c & 0xC0) != 0x80 && ++characters == columns) {
            *c = 0;
            return;
        }
}

static void show(progress *p, double now)
{
    char line[1024];
    compose(line, sizeof line, p, now);
    FILE *stream = p->log->stream ? p->log->stream : stderr;
    if (p->log->terminal) {
        cut_to_width(line, stream);
        fprintf(stream, "\r%s\033[K", line);
        p->log->drawn = true;
    } else {
        fprintf(stream, "%s\n", line);
    }
    fflush(stream);
    p->shown = now;
    p->shown_done = p->done;
}

void progress_update(progress *p, int64_t done, const char *text)
{
    p->done = done;
    snprintf(p->text, sizeof p->text, "%s", text ? text : "");
    if (!p->log || p->log->quiet)
        return;
    double now = p->clock();
    if (p->shown < 0 || now - p->shown >= (p->log->terminal ? TERMINAL_INTERVAL : PLAIN_INTERVAL))
        show(p, now);
}

void progress_end(progress *p)
{
    if (!p->log || p->log->quiet)
        return;
    if (p->shown_done != p->done || (p->log->terminal && !p->log->drawn))
        show(p, p->clock());
    if (p->log->drawn) {
        fputc('\n', p->log->stream ? p->log->stream : stderr);
        p->log->drawn = false;
    }
}
