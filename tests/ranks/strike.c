/* Between the program and ranks_phase (linked with --wrap): a rank strikes itself with a signal when it is at a phase, so that
 * scripts can kill or stop it there.
 *   MSD_STRIKE="RANK PHASE STEP SIGNAL MILLISECONDS"   phase by number; at the start, STEP counts its stamps from 1; so long
 *                                                      after the stamp, wherever it is by then, or -so long held back in the phase
 *   MSD_STRIKE_NOTES=FILE                              gets "rank PID" of every rank, and "struck SECONDS" (CLOCK_REALTIME) */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "train/ranks.h"

void __real_ranks_phase(ranks *r, rank_phase phase, int64_t step);
void __wrap_ranks_phase(ranks *r, rank_phase phase, int64_t step);

typedef struct strike {
    int     rank, phase, signal, milliseconds;
    int64_t step;
} strike;

static void note(const char *line, int size)
{
    const char *path = getenv("MSD_STRIKE_NOTES");
    int f = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : -1;
    if (f < 0 || write(f, line, (size_t)size) != size)
        abort();
    close(f);
}

/* Before main: also a rank that never came to a phase has to be gone in the end. */
__attribute__((constructor)) static void note_process(void)
{
    char line[64];
    if (getenv("MSD_STRIKE_NOTES"))
        note(line, snprintf(line, sizeof line, "rank %d\n", (int)getpid()));
}

static void *fall(void *argument)
{
    const strike *s = argument;
    int wait = abs(s->milliseconds);
    struct timespec now, rest = {wait / 1000, wait % 1000 * 1000000};
    char line[64];
    nanosleep(&rest, NULL);
    clock_gettime(CLOCK_REALTIME, &now);
    note(line, snprintf(line, sizeof line, "struck %.3f\n", (double)now.tv_sec + 1e-9 * (double)now.tv_nsec));
    kill(getpid(), s->signal);
    return NULL;
}

static void begin(strike *s)
{
    pthread_t thread;
    if (s->milliseconds <= 0)
        fall(s);
    else if (pthread_create(&thread, NULL, fall, s) == 0)
        pthread_detach(thread);
}

void __wrap_ranks_phase(ranks *r, rank_phase phase, int64_t step)
{
    static strike s;
    static int    starts;
    const char   *text = getenv("MSD_STRIKE");
    __real_ranks_phase(r, phase, step);
    if (!r || !text)
        return;
    starts += phase == PHASE_START;
    if (s.signal || sscanf(text, "%d %d %" SCNd64 " %d %d", &s.rank, &s.phase, &s.step, &s.signal, &s.milliseconds) != 5)
        return;
    bool here = (int)phase == s.phase && s.step == (phase == PHASE_START ? starts : step);
    if (ranks_rank(r) == s.rank && here)
        begin(&s);
    else
        s.signal = 0;
}
