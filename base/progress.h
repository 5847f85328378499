/* How far a long job is: on a terminal one line redrawn in place (at most ten times a second), elsewhere plain lines
 * (the first, then at most every ten seconds, and the last). Rate and time left are those of the work done since
 * progress_start.
 *
 *     progress p = progress_start(log, "prepare", "pictures", 0, n);
 *     for (...) progress_update(&p, i + 1, NULL);
 *     progress_end(&p); */
#ifndef MSD_BASE_PROGRESS_H
#define MSD_BASE_PROGRESS_H

#include <stdint.h>

#include "base/log.h"

typedef struct progress {
    logger     *log;   /* NULL or quiet: nothing is printed */
    const char *what;  /* "train" */
    const char *unit;  /* plural, for the rate: "steps"; NULL: no rate */
    int64_t     first, done, total;
    double      started, shown;  /* seconds of the clock; shown < 0: nothing yet */
    int64_t     shown_done;      /* what the last printed line said */
    double    (*clock)(void);    /* monotonic seconds; tests put theirs here */
    char        text[512];       /* the last free text */
} progress;

/* first: items done before this run (a resumed one), so that they do not count in the rate. Strings stay the caller's.
 * */
progress progress_start(logger *log, const char *what, const char *unit, int64_t first, int64_t total);
/* text: free words for this line ("loss 0.1234"), or NULL. Example: "train 120/1000 12% loss 0.1234, 2.31 steps/s,
 * 6:21 left". */
void     progress_update(progress *p, int64_t done, const char *text);
/* Prints the last line, if it is not shown yet, and leaves it standing. */
void     progress_end(progress *p);

double clock_seconds(void); /* monotonic */

#endif
