/* Work done ahead of its use by threads: positions 0, 1, 2, ... are worked on side by side into a ring of slots and
 * taken in order. What a slot holds depends on its position alone, so the number of threads changes nothing.
 *
 *     ahead *a = ahead_start(threads, slots, first, work, user);
 *     for (int64_t p = first; p < end; p++) {
 *         int slot = ahead_take(&waited, a);      // what work(user, slot, p) made
 *         ...
 *         ahead_give(a);                          // the slot may be used again
 *     }
 *     ahead_stop(a); */
#ifndef MSD_BASE_AHEAD_H
#define MSD_BASE_AHEAD_H

#include <stdint.h>

typedef struct ahead ahead;
typedef void ahead_work(void *user, int slot, int64_t position); /* in any thread; has a slot for itself */

/* slots >= 1. Signals are blocked in the threads. Without any thread (threads 0, or none can be started) ahead_take
 * does the work itself. */
ahead *ahead_start(int threads, int slots, int64_t first, ahead_work *work, void *user);
/* The next position's slot. *waited: seconds until it was ready are added. */
int    ahead_take(double *waited, ahead *a);
void   ahead_give(ahead *a); /* the slot taken longest ago that is still held */
int64_t ahead_position(const ahead *a); /* of the next ahead_take */
void   ahead_stop(ahead *a); /* waits for the work in progress; NULL is fine */

#endif
