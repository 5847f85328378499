#include "train/comm.h"

err comm_open_mpi(comm **out)
{
    *out = NULL;
    return err_set(E_CONFIG, "this msd was built without MPI, so it cannot train with many processes on the CPU; install "
                             "libopenmpi-dev and build with -DMSD_MPI=ON");
}
