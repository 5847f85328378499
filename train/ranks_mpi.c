#include "train/ranks_mpi.h"

#include <mpi.h>
#include <stdio.h>
#include <string.h>

static err open_threads(void)
{
    int given = 0;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &given) != MPI_SUCCESS)
        return err_set(E_DISTRIBUTED, "MPI does not start; is this program started by the mpirun or srun of the MPI it was built with?");
    if (given < MPI_THREAD_MULTIPLE)
        return err_set(E_DISTRIBUTED, "this MPI takes calls from one thread at a time alone (found level %d, expected "
                                      "MPI_THREAD_MULTIPLE); use one that was built with threads", given);
    return OK;
}

err ranks_mpi_open(mpi_place *p)
{
    MPI_Comm here;
    TRY(open_threads());
    MPI_Comm_rank(MPI_COMM_WORLD, &p->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &p->count);
    if (MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here) != MPI_SUCCESS)
        return err_set(E_DISTRIBUTED, "MPI cannot say which ranks share a machine");
    MPI_Comm_rank(here, &p->local);
    MPI_Comm_size(here, &p->here);
    MPI_Comm_free(&here);
    return OK;
}

err ranks_mpi_broadcast(void *data, size_t bytes)
{
    if (MPI_Bcast(data, (int)bytes, MPI_BYTE, 0, MPI_COMM_WORLD) != MPI_SUCCESS)
        return err_set(E_DISTRIBUTED, "MPI cannot broadcast");
    return OK;
}

void ranks_mpi_close(void)
{
    MPI_Finalize();
}

void ranks_mpi_describe(char *text, size_t bytes)
{
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    MPI_Get_library_version(version, &length); /* needs no MPI_Init */
    snprintf(text, bytes, "%.*s", (int)strcspn(version, ",\n"), version);
}
