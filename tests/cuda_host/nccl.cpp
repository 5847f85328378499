/* NCCL between processes of one machine: memory that they share, in which each collective call meets when its stream comes to
 * it: when somebody waits for that stream, or a while after the call, by a thread, as a card goes on whoever waits. Sums go
 * around a ring as NCCL's do: another first rank for each piece, bf16 rounded at every rank. Communicators are non-blocking: a
 * call that is asked about too early says ncclInProgress, and the next call before that is refused.
 *
 * MSD_CUDA_HOST_NCCL=KIND:RANK:N[:MS] at the N-th collective call of that rank:
 *   error  the call fails               remote  a remote error is reported later, and the work never ends
 *   delay  the work takes MS longer     hang    the work never ends
 *   size   one element less             init    (any N) the communicator never comes to be */
#include "host.h"

#include <nccl.h>

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>

using namespace cuda_host;

namespace {

enum { MOST_RANKS = 64, PIECE = 1 << 18 };
enum operation { ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER };
const char *const names[] = {"ncclAllReduce", "ncclReduceScatter", "ncclAllGather"};

struct call {
    operation      what;
    ncclDataType_t type;
    size_t         count;
};

struct seat {
    std::atomic<uint64_t> arrived;
    call                  now;
};

/* What the processes share; all zero at first. */
struct table {
    std::atomic<int> attached, ended;
    seat             of[MOST_RANKS];
    char             piece[MOST_RANKS][PIECE];
};

struct injection {
    std::string kind;
    uint64_t    n = 0;
    long        milliseconds = 0;
};

} // namespace

struct ncclComm {
    table                    *shared;
    int                       rank, ranks;
    std::atomic<ncclResult_t> error{ncclSuccess};
    std::atomic<bool>         aborted{false};
    std::atomic<int>          busy{0}; /* so many questions are answered with ncclInProgress */
    bool                      finalized = false;
    uint64_t                  arrived = 0, calls = 0, seed;
    injection                 fault;
    std::atomic<cudaStream_t> stream{nullptr}; /* of the last call */
    std::atomic<uint64_t>     asked{0};        /* calls that a stream has */
    std::atomic<bool>         closing{false}, undriven{true};
};

namespace {

thread_local char last_error[400];

ncclResult_t wrong(ncclResult_t result, const char *format, ...) __attribute__((format(printf, 2, 3)));
ncclResult_t wrong(ncclResult_t result, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(last_error, sizeof last_error, format, list);
    va_end(list);
    fprintf(stderr, "cuda_host: %s (%s)\n", last_error, ncclGetErrorString(result));
    return result;
}

size_t bytes_of(ncclDataType_t type)
{
    return type == ncclBfloat16 ? 2 : 4;
}

injection read_injection(int rank)
{
    injection f;
    char      kind[16];
    int       of = -1;
    unsigned long long n = 0;
    long               milliseconds = 0;
    if (sscanf(setting("MSD_CUDA_HOST_NCCL", ""), "%15[a-z]:%d:%llu:%ld", kind, &of, &n, &milliseconds) >= 3 && of == rank) {
        f.kind = kind;
        f.n = n;
        f.milliseconds = milliseconds;
    }
    return f;
}

/* ---- when the stream comes to it ---- */

void rest(unsigned turn)
{
    if (turn < 100)
        sched_yield();
    else
        usleep(100);
}

/* As a kernel that waits for the others: until somebody aborts. */
cudaError_t never_end(ncclComm *c)
{
    for (unsigned turn = 0; !c->aborted; turn++)
        rest(turn);
    return cudaSuccess;
}

/* False: aborted. */
bool meet(ncclComm *c)
{
    uint64_t k = ++c->arrived;
    c->shared->of[c->rank].arrived.store(k, std::memory_order_release);
    for (int i = 0; i < c->ranks; i++)
        for (unsigned turn = 0; c->shared->of[i].arrived.load(std::memory_order_acquire) < k; turn++) {
            if (c->aborted)
                return false;
            rest(turn);
        }
    return true;
}

/* The others' calls are this one's: of the same kind, type and size. */
bool agree(ncclComm *c, const call &mine)
{
    for (int i = 0; i < c->ranks; i++) {
        const call &other = c->shared->of[i].now;
        if (other.what == mine.what && other.type == mine.type && other.count == mine.count)
            continue;
        c->error = wrong(ncclInternalError, "rank %d: %s of %zu elements, rank %d: %s of %zu", c->rank, names[mine.what], mine.count, i,
                         names[other.what], other.count);
        return false;
    }
    return true;
}

float value(const char *x, ncclDataType_t type)
{
    float    f;
    uint32_t bits;
    uint16_t half;
    if (type == ncclFloat32) {
        memcpy(&f, x, 4);
        return f;
    }
    memcpy(&half, x, 2);
    bits = (uint32_t)half << 16;
    memcpy(&f, &bits, 4);
    return f;
}

void put(char *x, float f, ncclDataType_t type)
{
    uint32_t bits;
    if (type == ncclFloat32) {
        memcpy(x, &f, 4);
        return;
    }
    memcpy(&bits, &f, 4);
    uint16_t half = (uint16_t)(f != f ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    memcpy(x, &half, 2);
}

/* The sum of all ranks' pieces, beginning with rank `first`. */
void add_up(ncclComm *c, char *to, size_t count, ncclDataType_t type, int first)
{
    size_t each = bytes_of(type);
    for (size_t i = 0; i < count; i++) {
        char sum[4];
        memcpy(sum, c->shared->piece[first] + i * each, each);
        for (int k = 1; k < c->ranks; k++)
            put(sum, value(sum, type) + value(c->shared->piece[(first + k) % c->ranks] + i * each, type), type);
        memcpy(to + i * each, sum, each);
    }
}

/* Every rank's `count` elements at `from`, in pieces; done(piece's elements before, its count) when all are there. */
bool exchange(ncclComm *c, const char *from, size_t count, size_t each, const std::function<void(size_t, size_t)> &done)
{
    for (size_t at = 0; at < count; at += PIECE / each) {
        size_t n = count - at < PIECE / each ? count - at : PIECE / each;
        memcpy(c->shared->piece[c->rank], from + at * each, n * each);
        if (!meet(c))
            return false;
        done(at, n);
        if (!meet(c))
            return false;
    }
    return true;
}

bool all_reduce(ncclComm *c, const char *from, char *to, const call &x)
{
    size_t each = bytes_of(x.type);
    return exchange(c, from, x.count, each, [&](size_t at, size_t n) {
        add_up(c, to + at * each, n, x.type, (int)(at / (PIECE / each)) % c->ranks);
    });
}

bool reduce_scatter(ncclComm *c, const char *from, char *to, const call &x)
{
    size_t each = bytes_of(x.type);
    for (int part = 0; part < c->ranks; part++) {
        bool sound = exchange(c, from + (size_t)part * x.count * each, x.count, each, [&](size_t at, size_t n) {
            if (part == c->rank)
                add_up(c, to + at * each, n, x.type, (part + 1) % c->ranks);
        });
        if (!sound)
            return false;
    }
    return true;
}

bool all_gather(ncclComm *c, const char *from, char *to, const call &x)
{
    size_t each = bytes_of(x.type);
    return exchange(c, from, x.count, each, [&](size_t at, size_t n) {
        for (int i = 0; i < c->ranks; i++)
            memcpy(to + ((size_t)i * x.count + at) * each, c->shared->piece[i], n * each);
    });
}

cudaError_t check_sides(const ncclComm *c, const void *from, const void *to, const call &x)
{
    size_t part = x.count * bytes_of(x.type), all = part * (size_t)c->ranks;
    size_t in = x.what == REDUCE_SCATTER ? all : part, out = x.what == ALL_GATHER ? all : part;
    if (on_device(from, in) && on_device(to, out))
        return cudaSuccess;
    return fault(cudaErrorIllegalAddress, "%s: %s and %s are not %zu and %zu bytes of device memory", names[x.what],
                 describe(from).c_str(), describe(to).c_str(), in, out);
}

cudaError_t carry_out(ncclComm *c, const void *from, void *to, const call &x, const injection &now)
{
    if (c->aborted)
        return cudaSuccess;
    if (cudaError_t e = check_sides(c, from, to, x))
        return e;
    if (now.kind == "remote")
        c->error = wrong(ncclRemoteError, "rank %d: %s: seeded remote error", c->rank, names[x.what]);
    if (now.kind == "hang" || now.kind == "remote")
        return never_end(c);
    if (now.kind == "delay")
        usleep((useconds_t)now.milliseconds * 1000);
    c->shared->of[c->rank].now = x;
    if (!meet(c))
        return cudaSuccess;
    if (!agree(c, x))
        return never_end(c);
    device_access access;
    const char   *a = (const char *)from;
    char         *b = (char *)to;
    if (x.what == ALL_REDUCE)
        all_reduce(c, a, b, x);
    else if (x.what == REDUCE_SCATTER)
        reduce_scatter(c, a, b, x);
    else
        all_gather(c, a, b, x);
    return cudaSuccess;
}

/* The thread that goes on with the stream of the last call when nothing more was asked for. */
void drive(ncclComm *c)
{
    enum { TURN = 10000, PATIENCE = 10 }; /* microseconds, turns */
    uint64_t seen = 0, driven = 0;
    for (int turns = 0; !c->closing && !c->aborted; usleep(TURN)) {
        uint64_t now = c->asked;
        turns = now == seen ? turns + 1 : 0;
        seen = now;
        if (turns < PATIENCE || now == driven)
            continue;
        run_stream(c->stream); /* an error stays, and is the next call's */
        driven = now;
    }
    c->undriven = true;
}

/* ---- calls ---- */

ncclResult_t begin(ncclComm *c, const char *name)
{
    if (begin_call(name) != cudaSuccess)
        return wrong(ncclUnhandledCudaError, "%s: an error of the device stays", name);
    if (!c || c->aborted || c->finalized)
        return wrong(ncclInvalidArgument, "%s: no communicator, or one that has ended", name);
    if (c->shared->attached < c->ranks || c->busy > 0)
        return wrong(ncclInvalidUsage, "%s: the call before it is still ncclInProgress", name);
    return c->error;
}

/* Sometimes not at once. */
ncclResult_t leave_running(ncclComm *c)
{
    c->busy = (int)(random_bits(&c->seed) % 3);
    return c->busy > 0 ? ncclInProgress : ncclSuccess;
}

ncclResult_t collective(operation what, const void *from, void *to, size_t count, ncclDataType_t type, ncclComm *c, cudaStream_t stream)
{
    if (ncclResult_t e = begin(c, names[what]))
        return e;
    const char *a = (const char *)from, *b = (const char *)to;
    size_t      part = count * bytes_of(type), own = part * (size_t)c->rank;
    if (what == ALL_GATHER ? a >= b && a < b + part * (size_t)c->ranks && a != b + own
                           : what == REDUCE_SCATTER && b >= a && b < a + part * (size_t)c->ranks && b != a + own)
        return wrong(ncclInvalidArgument, "%s: in place, but not at this rank's part", names[what]);
    injection now = ++c->calls == c->fault.n ? c->fault : injection();
    call      x = {what, type, now.kind == "size" ? count - 1 : count};
    if (now.kind == "error")
        return wrong(ncclSystemError, "rank %d: %s: seeded failure of call %llu", c->rank, names[what], (unsigned long long)c->calls);
    cuda_host::count(names[what]);
    cuda_host::count("bytes of NCCL calls", count * bytes_of(type));
    if (enqueue(stream, names[what], [=] { return carry_out(c, from, to, x, now); }) != cudaSuccess)
        return wrong(ncclUnhandledCudaError, "%s: the stream does not take it", names[what]);
    c->stream = stream;
    c->asked++;
    return leave_running(c);
}

table *map_table(int file)
{
    void *at = mmap(nullptr, sizeof(table), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    return at == MAP_FAILED ? nullptr : (table *)at;
}

} // namespace

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const text[] = {"no error", "unhandled cuda error", "unhandled system error", "internal error",
                                       "invalid argument", "invalid usage", "remote process exited or there was a network error",
                                       "NCCL operation in progress"};
    return result >= 0 && result <= ncclInProgress ? text[result] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t)
{
    return last_error;
}

ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

/* The memory is a file of this process without a name, open as long as the process lives: nothing is left behind. */
ncclResult_t ncclGetUniqueId(ncclUniqueId *out)
{
    int file = memfd_create("nccl", MFD_CLOEXEC);
    memset(out, 0, sizeof *out);
    if (file < 0 || ftruncate(file, sizeof(table)) != 0)
        return wrong(ncclSystemError, "ncclGetUniqueId: no shared memory");
    snprintf(out->internal, sizeof out->internal, "/proc/%d/fd/%d", (int)getpid(), file);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    *out = nullptr;
    if (begin_call("ncclCommInitRankConfig") != cudaSuccess)
        return wrong(ncclUnhandledCudaError, "ncclCommInitRankConfig: an error of the device stays");
    if (ranks < 1 || ranks > MOST_RANKS || rank < 0 || rank >= ranks || !config || config->blocking != 0)
        return wrong(ncclInvalidArgument, "ncclCommInitRankConfig: rank %d of %d, or a blocking communicator", rank, ranks);
    int    file = open(id.internal, O_RDWR | O_CLOEXEC);
    table *shared = file < 0 ? nullptr : map_table(file);
    if (file >= 0)
        close(file);
    if (!shared)
        return wrong(ncclSystemError, "ncclCommInitRankConfig: %s: no shared memory", id.internal);
    ncclComm *c = new ncclComm;
    c->shared = shared;
    c->rank = rank;
    c->ranks = ranks;
    c->seed = strtoull(setting("MSD_CUDA_HOST_SEED", "1"), nullptr, 10) + (uint64_t)rank;
    c->fault = read_injection(rank);
    c->busy = 1;
    if (c->fault.kind != "init")
        shared->attached++;
    c->undriven = false;
    std::thread(drive, c).detach(); /* one that is aborted may be in the middle of something */
    *out = c;
    return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *error)
{
    if (!c)
        return wrong(ncclInvalidArgument, "ncclCommGetAsyncError: no communicator");
    int busy = c->busy;
    if (c->error != ncclSuccess)
        *error = c->error;
    else if (c->shared->attached < c->ranks)
        *error = ncclInProgress;
    else
        *error = busy > 0 && c->busy.compare_exchange_strong(busy, busy - 1) ? ncclInProgress : ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t c)
{
    if (ncclResult_t e = begin(c, "ncclCommFinalize"))
        return e;
    c->finalized = true;
    return leave_running(c);
}

static void release(ncclComm_t c)
{
    c->closing = true;
    while (!c->undriven)
        usleep(100);
    munmap(c->shared, sizeof(table));
    delete c;
}

ncclResult_t ncclCommDestroy(ncclComm_t c)
{
    if (!c || !c->finalized || c->busy > 0)
        return wrong(ncclInvalidUsage, "ncclCommDestroy: not finalized yet");
    release(c);
    return ncclSuccess;
}

/* Work of streams may still hold it: it is kept, and all that waits ends. */
ncclResult_t ncclCommAbort(ncclComm_t c)
{
    if (!c)
        return wrong(ncclInvalidArgument, "ncclCommAbort: no communicator");
    c->aborted = true;
    return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t, ncclComm_t c, cudaStream_t stream)
{
    return collective(ALL_REDUCE, from, to, count, type, c, stream);
}

ncclResult_t ncclReduceScatter(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t, ncclComm_t c,
                               cudaStream_t stream)
{
    return collective(REDUCE_SCATTER, from, to, count, type, c, stream);
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type, ncclComm_t c, cudaStream_t stream)
{
    return collective(ALL_GATHER, from, to, count, type, c, stream);
}
