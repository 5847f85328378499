/* NCCL with two ranks on one GPU: every call of train/comm_nccl.c, in f32 and bf16, against sums that are known exactly. NCCL
 * refuses ranks that share a card on one host, so each names a host of its own (NCCL_HOSTID), and they meet by TCP on the
 * loopback: the right calls are proven, no speed. Newer versions have NCCL_MULTI_RANK_GPU_ENABLE for this.
 *     one_gpu     prints a line for each rank; exit 0 when every number is right */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "autograd/device.h"
#include "base/arena.h"
#include "train/comm.h"

enum { RANKS = 2, SECONDS = 120 };

static const char *const settings[][2] = {
    {"NCCL_SOCKET_IFNAME", "lo"}, {"NCCL_NET", "Socket"},     {"NCCL_NET_PLUGIN", "none"},          {"NCCL_IB_DISABLE", "1"},
    {"NCCL_MNNVL_ENABLE", "0"},   {"NCCL_NVLS_ENABLE", "0"}, {"NCCL_MULTI_RANK_GPU_ENABLE", "1"}, {"WORLD_SIZE", "2"},
    {"LOCAL_RANK", "0"},          {"MASTER_ADDR", "127.0.0.1"},
};

static int free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int       s = socket(AF_INET, SOCK_STREAM, 0);
    if (s < 0 || bind(s, (struct sockaddr *)&at, sizeof at) || getsockname(s, (struct sockaddr *)&at, &size))
        return -1;
    close(s);
    return ntohs(at.sin_port);
}

static void become(int rank, int port)
{
    char text[16];
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        setenv(settings[i][0], settings[i][1], 1);
    snprintf(text, sizeof text, "rank%d", rank);
    setenv("NCCL_HOSTID", text, 1);
    snprintf(text, sizeof text, "%d", rank);
    setenv("RANK", text, 1);
    snprintf(text, sizeof text, "%d", port);
    setenv("MASTER_PORT", text, 1);
}

/* What rank r has at i: whole numbers that bf16 holds, and their sums too. */
static float given(int64_t i, int rank)
{
    return (float)((i * (rank + 3)) % 61 - 30);
}

typedef enum call { SUM, SUM_PART, GATHER } call;
static const char *const call_name[] = {"sum", "sum_part", "gather"};

static err begin(comm *c, call what, tensor *t)
{
    return what == SUM ? comm_sum(c, t) : what == SUM_PART ? comm_sum_part(c, t) : comm_gather(c, t);
}

/* One call on `count` numbers. */
static err check(comm *c, device *dev, call what, dtype type, int64_t count)
{
    arena   owner = {0};
    tensor *t = NULL;
    float  *value = ARENA_ARRAY(&owner, float, count);
    err     e;
    TRY_GOTO(e, tensor_new(&t, &owner, dev, LIFE_STATE, "flat", type, 1, &count), done);
    for (int64_t i = 0; i < count; i++)
        value[i] = given(i, c->rank);
    TRY_GOTO(e, tensor_upload(t, value, DT_F32), done);
    TRY_GOTO(e, begin(c, what, t), done);
    TRY_GOTO(e, comm_wait(c), done);
    TRY_GOTO(e, tensor_download(value, DT_F32, t), done);
    int64_t first = what == SUM_PART ? comm_part_begin(count, c->rank, RANKS) : 0;
    int64_t end = what == SUM_PART ? comm_part_begin(count, c->rank + 1, RANKS) : count;
    for (int64_t i = first; i < end && e == OK; i++) {
        float expected = what == GATHER ? given(i, i >= comm_part_begin(count, 1, RANKS)) : given(i, 0) + given(i, 1);
        if (!(value[i] == expected))
            e = err_set(E_DISTRIBUTED, "%s of %lld %s: number %lld: found %g, expected %g", call_name[what], (long long)count,
                        dtype_name(type), (long long)i, (double)value[i], (double)expected);
    }
done:
    tensor_release(t);
    arena_free(&owner);
    return e;
}

static err check_all(int *checks, comm *c, device *dev)
{
    static const dtype   types[] = {DT_F32, DT_BF16};
    static const int64_t counts[] = {2, 4098, (int64_t)1 << 20};
    for (int what = SUM; what <= GATHER; what++)
        for (int type = 0; type < 2; type++)
            for (size_t i = 0; i < sizeof counts / sizeof *counts; i++, ++*checks)
                TRY(check(c, dev, (call)what, types[type], counts[i]));
    return OK;
}

static err rank_main(int rank)
{
    ranks  *r = NULL;
    device *dev = NULL;
    comm   *c = NULL;
    int     checks = 0;
    TRY(ranks_open(&r, NULL));
    err e = device_open_cuda(&dev, 0);
    if (e == OK)
        e = comm_open_nccl(&c, r, dev);
    if (e == OK)
        e = check_all(&checks, c, dev);
    comm_close(c);
    device_close(dev);
    e = ranks_close(r, e);
    if (e == OK)
        printf("one_gpu: rank %d: %d calls, every number right\n", rank, checks);
    return e;
}

int main(void)
{
    int   port = free_port(), failed = port < 0;
    pid_t child[RANKS];
    for (int rank = 0; rank < RANKS; rank++) { /* before any call of CUDA or NCCL, whose state does not survive a fork */
        child[rank] = fork();
        if (child[rank] == 0) {
            alarm(SECONDS);
            become(rank, port);
            if (rank_main(rank) == OK)
                exit(0);
            fprintf(stderr, "one_gpu: rank %d: %s\n", rank, err_message());
            exit(1);
        }
    }
    for (int rank = 0; rank < RANKS; rank++) {
        int status = 1;
        if (child[rank] < 0 || waitpid(child[rank], &status, 0) < 0 || status)
            failed = 1;
    }
    return failed;
}
