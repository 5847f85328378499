/* How many threads are worth starting: the CPUs this process may use, as its affinity mask, OpenMP's places and its
 * control groups (v2 and v1) say. Where OpenMP pins its threads (OMP_PROC_BIND, OMP_PLACES) the main thread is one of
 * them, so that its own mask is one place: the process's CPUs are then those of all places. */
#ifndef MSD_BASE_THREADS_H
#define MSD_BASE_THREADS_H

#include <pthread.h>

int threads_usable(void); /* at least 1 */

/* pthread_create for threads beside OpenMP's: they may run on every CPU of the process, not only where the thread that
 * starts them is pinned. Its return values. */
int threads_start(pthread_t *out, void *(*run)(void *), void *user);

/* The CPUs that the quota of the control groups allows (1.5 = one and a half), or 0 without a limit. membership: the
 * text of /proc/self/cgroup; root: where the groups are mounted, "/sys/fs/cgroup". The strictest of a group and its
 * parents counts. */
double threads_quota(const char *membership, const char *root);

#endif
