#include <stdio.h>

#include "train/comm.h"

static const char *const missing = "built without NCCL (scripts/setup-cuda.sh gets it; then -DMSD_NCCL=ON)";

err comm_open_nccl(comm **out, ranks *r, const device *dev)
{
    *out = NULL;
    return err_set(E_CONFIG, "%d ranks on device %s need NCCL, but this program is %s; train in one process, or on the CPU by mpirun",
                   ranks_count(r), dev->kind, missing);
}

void comm_describe_nccl(char *text, size_t bytes)
{
    snprintf(text, bytes, "%s", missing);
}
