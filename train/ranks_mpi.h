/* What the ranks need of MPI: ranks_mpi.c, or ranks_mpi_absent.c in a program built without it. */
#ifndef MSD_TRAIN_RANKS_MPI_H
#define MSD_TRAIN_RANKS_MPI_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

typedef struct mpi_place {
    int rank, count, local; /* local: among those of this machine */
    int here;               /* how many ranks this machine has */
} mpi_place;

/* MPI_Init_thread with MPI_THREAD_MULTIPLE. E_DISTRIBUTED: built without MPI, or an MPI without threads. */
err  ranks_mpi_open(mpi_place *p);
err  ranks_mpi_broadcast(void *data, size_t bytes); /* rank 0's */
void ranks_mpi_close(void);                         /* collective */
/* One line for people: the library's version, or what is missing. */
void ranks_mpi_describe(char *text, size_t bytes);

#endif
