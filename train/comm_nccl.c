/* The communicator over NCCL, for tensors on a GPU. What is begun goes to a stream of its own, behind the work that the
 * compute stream has until then; waiting makes the compute stream wait, not the host. The communicator is non-blocking: its
 * calls return at once, and errors come later, also between calls: the ranks' thread asks for them, so that a host that waits
 * for the GPU, which waits for a rank that is gone, is ended too. */
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "autograd/cuda_stream.h"
#include "base/arena.h"
#include "train/comm.h"

typedef struct nccl_comm {
    comm         base;
    ranks       *ranks;
    ncclComm_t   world;
    cudaStream_t compute, stream;
    cudaEvent_t  ready, done; /* the compute stream's work is there; the sums are */
    bool         aborted;
} nccl_comm;

/* ---- errors ---- */

static err nccl_failed(const nccl_comm *n, ncclResult_t status, const char *call)
{
    const char *more = n->world ? ncclGetLastError(n->world) : ncclGetLastError(NULL);
    return err_set(E_DISTRIBUTED, "NCCL: rank %d: %s: %s%s%s; NCCL_DEBUG=INFO says more", n->base.rank, call, ncclGetErrorString(status),
                   more && more[0] ? ": " : "", more ? more : "");
}

static err cuda_result(cudaError_t status, const char *call)
{
    return status == cudaSuccess ? OK : err_set(E_DEVICE, "cuda: %s: %s", call, cudaGetErrorString(status));
}

/* Frees what the GPU would wait for, here and at the others; the communicator is void then. */
static void give_up(nccl_comm *n)
{
    if (n->world && !n->aborted)
        ncclCommAbort(n->world);
    n->aborted = true;
    n->world = NULL;
}

/* In the ranks' thread. */
static err probe(void *user)
{
    nccl_comm *n = user;
    ncclResult_t state = ncclSuccess, asked = n->world ? ncclCommGetAsyncError(n->world, &state) : ncclSuccess;
    if (asked == ncclSuccess && (state == ncclSuccess || state == ncclInProgress))
        return OK;
    return nccl_failed(n, asked == ncclSuccess ? state : asked, "while sums were under way");
}

/* A call on a non-blocking communicator is done when its state says so. The ranks' watchdog bounds this. */
static err settle(nccl_comm *n, ncclResult_t status, const char *call)
{
    static const struct timespec rest = {0, 200000};
    while (status == ncclInProgress) {
        if (ranks_leave_asked(n->ranks))
            return err_set(E_DISTRIBUTED, "NCCL: %s: given up, as the ranks leave", call);
        ncclResult_t asked = ncclCommGetAsyncError(n->world, &status);
        if (asked != ncclSuccess)
            status = asked;
        else if (status == ncclInProgress)
            nanosleep(&rest, NULL);
    }
    return status == ncclSuccess ? OK : nccl_failed(n, status, call);
}

/* ---- calls ---- */

static nccl_comm *nccl_of(comm *c)
{
    return (nccl_comm *)c;
}

/* What is begun comes behind what the compute stream has by now. */
static err follow(nccl_comm *n)
{
    TRY(cuda_result(cudaEventRecord(n->ready, n->compute), "cudaEventRecord"));
    return cuda_result(cudaStreamWaitEvent(n->stream, n->ready, 0), "cudaStreamWaitEvent");
}

static ncclDataType_t type_of(const tensor *t)
{
    return t->type == DT_BF16 ? ncclBfloat16 : ncclFloat32;
}

static err nccl_sum(comm *c, tensor *flat)
{
    nccl_comm *n = nccl_of(c);
    TRY(follow(n));
    return settle(n, ncclAllReduce(flat->data, flat->data, (size_t)tensor_count(flat), type_of(flat), ncclSum, n->world, n->stream),
                  "ncclAllReduce");
}

/* NCCL's parts are equal. */
static size_t part_of(char **part, const nccl_comm *n, const tensor *flat)
{
    int64_t count = tensor_count(flat), each = count / n->base.count;
    CHECK(count % n->base.count == 0, "%s: %lld elements in %d equal parts", flat->name, (long long)count, n->base.count);
    *part = (char *)flat->data + (size_t)(n->base.rank * each) * dtype_bytes(flat->type);
    return (size_t)each;
}

static err nccl_sum_part(comm *c, tensor *flat)
{
    nccl_comm *n = nccl_of(c);
    char *part;
    size_t each = part_of(&part, n, flat);
    TRY(follow(n));
    return settle(n, ncclReduceScatter(flat->data, part, each, type_of(flat), ncclSum, n->world, n->stream), "ncclReduceScatter");
}

static err nccl_gather(comm *c, tensor *flat)
{
    nccl_comm *n = nccl_of(c);
    char *part;
    size_t each = part_of(&part, n, flat);
    TRY(follow(n));
    return settle(n, ncclAllGather(part, flat->data, each, type_of(flat), n->world, n->stream), "ncclAllGather");
}

static err nccl_wait(comm *c)
{
    nccl_comm *n = nccl_of(c);
    TRY(probe(n));
    TRY(cuda_result(cudaEventRecord(n->done, n->stream), "cudaEventRecord"));
    return cuda_result(cudaStreamWaitEvent(n->compute, n->done, 0), "cudaStreamWaitEvent");
}

/* ---- opening and closing ---- */

/* Everything that was begun is done, or the communicator is given up. */
static err finish(nccl_comm *n)
{
    if (!n->world || n->aborted)
        return OK;
    TRY(probe(n));
    TRY(cuda_result(cudaStreamSynchronize(n->stream), "cudaStreamSynchronize"));
    TRY(settle(n, ncclCommFinalize(n->world), "ncclCommFinalize"));
    ncclResult_t status = ncclCommDestroy(n->world);
    if (status != ncclSuccess)
        return nccl_failed(n, status, "ncclCommDestroy");
    n->world = NULL;
    return OK;
}

static void nccl_close(comm *c)
{
    nccl_comm *n = nccl_of(c);
    ranks_probe(n->ranks, NULL, NULL);
    if (finish(n) != OK)
        give_up(n);
    if (n->ready)
        cudaEventDestroy(n->ready);
    if (n->done)
        cudaEventDestroy(n->done);
    if (n->stream)
        cudaStreamDestroy(n->stream);
    free(n);
}

static const comm_calls nccl_calls = {
    .name = "NCCL", .sum = nccl_sum, .sum_part = nccl_sum_part, .gather = nccl_gather, .wait = nccl_wait, .close = nccl_close,
};

static err open_streams(nccl_comm *n)
{
    TRY(cuda_result(cudaStreamCreateWithFlags(&n->stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"));
    TRY(cuda_result(cudaEventCreateWithFlags(&n->ready, cudaEventDisableTiming), "cudaEventCreateWithFlags"));
    return cuda_result(cudaEventCreateWithFlags(&n->done, cudaEventDisableTiming), "cudaEventCreateWithFlags");
}

static err join(nccl_comm *n)
{
    ncclUniqueId id = {{0}};
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    if (n->base.rank == 0) {
        ncclResult_t status = ncclGetUniqueId(&id);
        if (status != ncclSuccess)
            return nccl_failed(n, status, "ncclGetUniqueId");
    }
    TRY(ranks_broadcast(n->ranks, &id, sizeof id));
    config.blocking = 0;
    ncclResult_t status = ncclCommInitRankConfig(&n->world, n->base.count, id, n->base.rank, &config);
    if (status != ncclSuccess && status != ncclInProgress)
        n->world = NULL;
    return settle(n, status, "ncclCommInitRankConfig");
}

err comm_open_nccl(comm **out, ranks *r, const device *dev)
{
    nccl_comm *n = heap_get(sizeof *n);
    *n = (nccl_comm){.base = {.calls = &nccl_calls, .rank = ranks_rank(r), .count = ranks_count(r)}, .ranks = r,
                     .compute = device_cuda_stream(dev)};
    *out = NULL;
    err e = cuda_result(cudaSetDevice(device_cuda_index(dev)), "cudaSetDevice");
    if (e == OK)
        e = open_streams(n);
    if (e == OK)
        e = join(n);
    if (e != OK) {
        give_up(n);
        nccl_close(&n->base);
        return e;
    }
    ranks_probe(r, probe, n);
    *out = &n->base;
    return OK;
}

void comm_describe_nccl(char *text, size_t bytes)
{
    int version = 0;
    if (ncclGetVersion(&version) == ncclSuccess)
        snprintf(text, bytes, "%d.%d.%d", version / 10000, version / 100 % 100, version % 100);
    else
        snprintf(text, bytes, "says nothing about itself");
}
