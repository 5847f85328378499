/* The communicator: how tensors of many processes come together. Five calls; train/comm_mpi.c serves the CPU device. Calls
 * that begin something return at once and are done in the order of their beginning, which has to be the same on every rank,
 * with the same shapes; while one is under way nobody touches its tensor. Sums are made in the order of the ranks, in f64
 * (f32 of bf16) and rounded once, so that all ranks hold the same bits, and two runs too.
 *
 *     TRY(comm_sum(c, a));    // begun, while backward goes on
 *     TRY(comm_sum(c, b));
 *     TRY(comm_wait(c));      // both are whole
 *
 * c NULL is one process alone: nothing to do. */
#ifndef MSD_TRAIN_COMM_H
#define MSD_TRAIN_COMM_H

#include "autograd/device.h"
#include "train/ranks.h"

typedef struct comm comm;

typedef struct comm_calls {
    const char *name; /* "MPI" */
    err (*sum)(comm *c, tensor *flat);
    err (*sum_part)(comm *c, tensor *flat);
    err (*gather)(comm *c, tensor *flat);
    err (*wait)(comm *c);
    void (*close)(comm *c);
} comm_calls;

struct comm {
    const comm_calls *calls;
    int               rank, count;
    int64_t           begun; /* calls of the first three kinds, since opening */
    int64_t           bytes; /* that this rank has sent or will have sent by them */
    double            busy;  /* seconds that they took, until the last wait; 0: unknown */
};

/* Tensors are flat: contiguous, f32 or bf16, on the device that the communicator was opened for. Part r of n of a tensor
 * are the elements comm_part_begin(count, r, n) up to that of r + 1. E_DISTRIBUTED. */
err  comm_sum(comm *c, tensor *flat);      /* begins: the sum of all ranks' tensors, everywhere */
err  comm_sum_part(comm *c, tensor *flat); /* begins: the own part becomes the sum; the other parts are void */
err  comm_gather(comm *c, tensor *flat);   /* begins: everyone's own part, everywhere */
/* All that was begun is done: the host may read on the CPU; on a GPU what is launched from here on sees it. */
err  comm_wait(comm *c);
void comm_close(comm *c);

int64_t comm_part_begin(int64_t count, int part, int parts);
/* Bytes that a rank sends for one call on a tensor of `count` elements; a sum is a sum_part and a gather. */
int64_t comm_sum_part_bytes(int64_t count, dtype type, int rank, int all);
int64_t comm_gather_bytes(int64_t count, dtype type, int rank, int all);

/* The communicator of all ranks for tensors of `dev`; *out is NULL for one process. E_DISTRIBUTED, E_CONFIG as those below. */
err comm_open(comm **out, ranks *r, const device *dev);

/* One communicator of all processes that MPI has started; MPI has to be up, with at least MPI_THREAD_SERIALIZED, and is
 * this communicator's until it is closed. Tensors in host memory. E_DISTRIBUTED; E_CONFIG when built without MPI. */
err comm_open_mpi(comm **out);

/* One communicator of all ranks for tensors on CUDA devices, one a rank; the ranks carry what NCCL needs to meet, and end the
 * run when it reports an error. Parts of tensors are equal: their counts are multiples of the ranks. E_DISTRIBUTED, E_DEVICE;
 * E_CONFIG when built without NCCL. */
err  comm_open_nccl(comm **out, ranks *r, const device *dev);
/* One line for people: NCCL's version, or what is missing. */
void comm_describe_nccl(char *text, size_t bytes);

#endif
