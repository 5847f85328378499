/* What the variables of a launcher say about this process. */
#ifndef MSD_TRAIN_RANKS_ENVIRONMENT_H
#define MSD_TRAIN_RANKS_ENVIRONMENT_H

#include "train/ranks.h"

typedef struct ranks_place {
    ranks_found found;       /* RANKS_MPI: the rest is MPI's to say */
    int         rank, count, local;
    char        address[256]; /* of rank 0: MASTER_ADDR */
    int         port;         /* MASTER_PORT; one more where torchrun's agent holds that one */
} ranks_place;

/* Open MPI's, PMI's or PMIx's variables of more than one process mean MPI; else RANK, WORLD_SIZE, LOCAL_RANK (0 where it is
 * not set), MASTER_ADDR and MASTER_PORT. Slurm's own variables mean nothing by themselves (a batch script has them too), but
 * srun's tasks without MPI and without these variables are E_DISTRIBUTED. All malformed or missing ones are named. */
err ranks_place_read(ranks_place *p);

#endif
