/* Steps whose calls a device keeps (autograd/capture.h). What a step asks for is noted; met for the first time it is
 * done call by call, when libraries choose their algorithms; the second time the device keeps it, and from then on it
 * is done by one launch. Calls are the same when every address, shape and number of every one of them is: a step that
 * differs in anything else than the contents of tensors is another one, so that nothing old is ever done again. */
#ifndef MSD_AUTOGRAD_REPLAY_H
#define MSD_AUTOGRAD_REPLAY_H

#include "autograd/calls.h"
#include "base/log.h"

typedef struct replay_counts {
    int64_t kept;     /* lists of calls that the device has kept */
    int64_t replayed; /* steps done by a launch, those that were kept in them too */
    int64_t plain;    /* steps done call by call */
    int64_t refused;  /* lists that the device would not keep */
} replay_counts;

typedef struct replays replays;

/* to: where the calls are done; it has capture, outlives *out, and its memory is a planned allocator (planner.h) from
 * replays_begin to replays_do. */
replays *replays_new(device *to);
void     replays_free(replays *r); /* NULL is fine */
/* All that is kept, whose memory is another's now, or is needed. False: there was nothing. NULL is fine. */
bool     replays_forget(replays *r);
void     replays_log(replays *r, logger *log); /* where the first refusal is said, in one line */

/* dev's calls are noted until replays_do, or replays_abandon where the step failed. From the first allocation on that
 * the plan did not foresee, calls are done at once, and so from the first one on whose answer the host waits for. */
void replays_begin(replays *r, device *dev);
err  replays_do(replays *r, device *dev);
void replays_abandon(replays *r, device *dev);

replay_counts replays_count(const replays *r); /* NULL: zeros */

#endif
