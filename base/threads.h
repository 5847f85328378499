/* How many threads are worth starting: the CPUs this process may use, as its affinity mask and its control groups (v2
 * and v1) say. */
#ifndef MSD_BASE_THREADS_H
#define MSD_BASE_THREADS_H

int threads_usable(void); /* at least 1 */

/* The CPUs that the quota of the control groups allows (1.5 = one and a half), or 0 without a limit. membership: the
 * text of /proc/self/cgroup; root: where the groups are mounted, "/sys/fs/cgroup". The strictest of a group and its
 * parents counts. */
double threads_quota(const char *membership, const char *root);

#endif
