/* Failures put under base/io.c when a test is linked (ld --wrap): the system calls of the file layer are counted, and one of them,
 * or all from one on, fails. The product knows nothing of it.
 *
 * Programs read MSD_FAULT="N:WHAT[:sticky]": the N-th call (from 1) fails with WHAT = EIO, ENOSPC, EINTR, short (reads and
 * writes do half, other calls pass), or kill (SIGKILL before it; a write has done half by then). sticky: every later one too
 * (EINTR: every second, as a call that is interrupted for ever would never end). MSD_FAULT_COUNT=FILE: how many calls the
 * program made is written there when it ends. Reads of files that are only read can be left out: MSD_FAULT_ONLY=write counts
 * calls that change something and fsync. */
#ifndef MSD_TESTS_FAULTS_FAULT_IO_H
#define MSD_TESTS_FAULTS_FAULT_IO_H

#include <stdbool.h>

typedef enum fault_kind { FAULT_NONE, FAULT_EIO, FAULT_ENOSPC, FAULT_EINTR, FAULT_SHORT, FAULT_KILL, FAULT_KINDS } fault_kind;
const char *fault_name(fault_kind kind);

/* For tests in one process; resets the count. at 0: nothing fails. */
void fault_set(long at, fault_kind kind, bool sticky);
long fault_count(void); /* calls since fault_set */

#endif
