/* Which of how many processes this one is, and the control channel between them: TCP, a star around rank 0, alive
 * whatever becomes of MPI or NCCL. It carries small control data, heartbeats, death and the order to leave. Tensors go
 * by train/comm.h.
 *
 * A run of one process has r == NULL: every function here takes it, as rank 0 of 1, and does nothing.
 *
 * A thread of its own beats for this rank and watches the others. A rank that dies, that is not heard of for the
 * watchdog's seconds, or that makes no progress for them is named with its phase and step on every rank, and every rank
 * leaves at once by _exit(9), whatever its main thread waits for. A rank that fails by an error of its own (ranks_close)
 * takes the others with it under its own exit code. */
#ifndef MSD_TRAIN_RANKS_H
#define MSD_TRAIN_RANKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"

typedef struct ranks ranks;

enum { RANKS_WATCHDOG = 120 }; /* seconds, before ranks_watch */

typedef enum ranks_found {
    RANKS_NONE, /* one process */
    RANKS_MPI,  /* mpirun, srun: MPI is initialised, with MPI_THREAD_MULTIPLE */
    RANKS_ENVIRONMENT /* RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT */
} ranks_found;

/* What a rank is at, in the order of a step. The rank furthest behind in (step, phase) is the one that others wait for. */
typedef enum rank_phase {
    PHASE_START,      /* loading; step: 0 */
    PHASE_FORWARD,    /* batch, forward and backward; the sums of gradients run beside it */
    PHASE_REDUCE,     /* waits for the sums */
    PHASE_UPDATE,
    PHASE_VALIDATION,
    PHASE_SAMPLES,
    PHASE_SAVE,
    PHASE_END,
    RANK_PHASES
} rank_phase;

/* Finds the ranks and brings them together: *out is NULL for one process. From here on the ranks watch each other.
 * E_DISTRIBUTED: a malformed variable, named; ranks that did not come in RANKS_WATCHDOG seconds, named; MPI's variables
 * in a program built without MPI; srun's tasks without MPI. */
err ranks_open(ranks **out, logger *log);

/* failed: what this rank's work ended with. OK: waits for the others to end too, finalises MPI (no communicator may be
 * open), and may itself find that another failed. Otherwise the others are told (err_message) and leave with its exit
 * code. Returns `failed`, or E_DISTRIBUTED. */
err ranks_close(ranks *r, err failed);

int         ranks_rank(const ranks *r);
int         ranks_count(const ranks *r);
int         ranks_local(const ranks *r); /* among those of this machine: the number of its GPU */
ranks_found ranks_how(const ranks *r);

/* Seconds of silence or standstill from now on (train.watchdog). Loading, saving and pictures may stand still ten times
 * as long: there only silence and death count. */
void ranks_watch(ranks *r, int64_t seconds);

/* This rank is now at `phase` of `step`. Cheap; call it again in long phases where there is progress. */
void ranks_phase(ranks *r, rank_phase phase, int64_t step);

/* Asked by the watching thread, at least every second and mostly far more often, until `probe` is NULL: whether what carries
 * the tensors is still sound. An error ends all ranks as a death does. It must not wait. */
void ranks_probe(ranks *r, err (*probe)(void *user), void *user);

/* ---- Collective: every rank calls these in the same order, by its main thread. Control data only. ---- */

/* data (bytes, the same number everywhere) of rank 0 on all. */
err ranks_broadcast(ranks *r, void *data, size_t bytes);
/* What every rank gave, on all: out is (count of ranks) * bytes, in order of rank. */
err ranks_gather(ranks *r, void *out, const void *mine, size_t bytes);
err ranks_barrier(ranks *r);

/* Something that must be the same on all ranks. value: text of any length; where lines differ, the first such line is shown. */
typedef struct ranks_fact {
    const char *name, *value;
} ranks_fact;

/* E_DISTRIBUTED on every rank where they differ: one line that names each odd rank (those with another value than most,
 * or than rank 0 where it stands even), the fact, and both values. */
err ranks_compare(ranks *r, const ranks_fact *facts, int count);

/* The others have been told to leave, or this rank has: loops that poll may give up. */
bool ranks_leave_asked(const ranks *r);

#endif
