#include <stdio.h>

#include "train/ranks_mpi.h"

static const char *const missing = "built without MPI (Debian: libopenmpi-dev; then -DMSD_MPI=ON)";

err ranks_mpi_open(mpi_place *p)
{
    *p = (mpi_place){.count = 1, .here = 1};
    return err_set(E_DISTRIBUTED, "started by mpirun or srun with MPI, but this program is %s; on GPUs the variables RANK, WORLD_SIZE, "
                                  "LOCAL_RANK, MASTER_ADDR and MASTER_PORT serve as well", missing);
}

err ranks_mpi_broadcast(void *data, size_t bytes)
{
    (void)data;
    (void)bytes;
    return err_set(E_DISTRIBUTED, "%s", missing);
}

void ranks_mpi_close(void)
{
}

void ranks_mpi_describe(char *text, size_t bytes)
{
    snprintf(text, bytes, "%s", missing);
}
