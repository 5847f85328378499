/* Steps that run in planned memory. A step is a function of a graph. Before it runs for the first time with a key (the
 * numbers its shapes follow from) it runs on the meta device, its allocations are laid out, and then it runs for real
 * in one block that all steps share: the need is known before the first byte is taken, and views never move.
 *
 *     TRY(planned_open(&p, dev));
 *     int64_t key[] = {B, S, h, w};
 *     TRY(planned_run(p, key, 4, step, &user));      // step(graph, &user), twice the first time */
#ifndef MSD_AUTOGRAD_PLANNED_H
#define MSD_AUTOGRAD_PLANNED_H

#include "autograd/ag.h"
#include "autograd/replay.h"

typedef struct planned planned;

/* Called with a device without data first (ag_device(g)->dataless): what it downloads is then zeros, and it has to leave
 * the world as it was but for contents of tensors. Weights and states on the real device serve both. The graph is reset
 * after it. */
typedef err (*planned_step)(ag *g, void *user);

enum { PLANNED_MAX_KEYS = 16 };

/* dev stays the caller's and outlives p. */
err  planned_open(planned **out, device *dev);
void planned_close(planned *p); /* gives the block back; NULL is fine */

/* Plans and takes nothing; *bytes: what the step needs. Errors are the step's. keys 0: key may be NULL. */
err planned_foresee(size_t *bytes, planned *p, const int64_t *key, int keys, planned_step step, void *user);
/* The same key stands for the same allocations. What the step kept for its caller (ag_keep_gradients) stays where it is
 * until he gives it back, which has to be before the next step, planned_rest or planned_close. E_MEMORY when the block cannot
 * be had; else the step's own error. */
err planned_run(planned *p, const int64_t *key, int keys, planned_step step, void *user);

/* The same, where the device may keep the step's calls and do them all at once when they come again
 * (autograd/replay.h). The step's host side runs as ever, but what it downloads is there when this has returned: it goes
 * to where `user` or what outlives the step says. On a device without capture it is planned_run. */
err  planned_replay(planned *p, const int64_t *key, int keys, planned_step step, void *user);
void planned_log(planned *p, logger *log); /* where it is said that a step is not kept; before: nowhere */
replay_counts planned_replays(const planned *p);
void planned_tell(const planned *p, logger *log); /* the counts in one line; none where the device keeps nothing */

/* Gives the block back until the next step: for who runs seldom beside others. */
void    planned_rest(planned *p);
size_t  planned_block(const planned *p);  /* bytes of the block now */
int64_t planned_strays(const planned *p); /* allocations that plans did not foresee, since planned_open */

#endif
