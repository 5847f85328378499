/* The communicator over MPI, for tensors in host memory. A thread of its own does what was begun, in order, while the main
 * thread computes. Every rank owns a part of a tensor: it receives the others' copies of it, adds them up in the order of
 * the ranks, and sends the sum to all; so the bytes are those of a ring, and each number is rounded once. */
#include <mpi.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/half.h"
#include "base/progress.h"
#include "base/threads.h"
#include "train/comm.h"

enum { SEGMENT = 1 << 18 }; /* elements of a part on their way at a time: what waits to be added is bounded by it */
enum { EAGER_POLLS = 200, MOST_TEXT = 512 };

typedef enum task_kind { TASK_SUM, TASK_SUM_PART, TASK_GATHER } task_kind;

typedef struct task {
    task_kind    kind;
    char        *data;
    int64_t      count;
    dtype        type;
    struct task *next;
} task;

typedef struct mpi_comm {
    comm            base;
    MPI_Comm        world;
    char           *received; /* (ranks - 1, SEGMENT) f32 */
    MPI_Request    *request;  /* (2 * ranks) */
    task           *first, **last;
    bool            busy, stop;
    err             failed;
    double          spent;
    char            message[MOST_TEXT];
    pthread_mutex_t lock;
    pthread_cond_t  work, idle;
    pthread_t       thread;
} mpi_comm;

/* ---- in the thread ---- */

static err failure(int code, const char *what)
{
    char text[MPI_MAX_ERROR_STRING];
    int  length;
    MPI_Error_string(code, text, &length);
    return err_set(E_DISTRIBUTED, "MPI: %s: %s", what, text);
}

static bool told_to_stop(mpi_comm *m)
{
    pthread_mutex_lock(&m->lock);
    bool stop = m->stop;
    pthread_mutex_unlock(&m->lock);
    return stop;
}

/* Waits without taking the core from those who compute: MPI moves bytes inside of its calls alone. */
static err wait_for(mpi_comm *m, int requests)
{
    int done = 0;
    for (int polls = 0;; polls++) {
        int code = MPI_Testall(requests, m->request, &done, MPI_STATUSES_IGNORE);
        if (code != MPI_SUCCESS)
            return failure(code, "an exchange between ranks");
        if (done)
            return OK;
        if (polls < EAGER_POLLS) {
            sched_yield();
            continue;
        }
        if (told_to_stop(m))
            return err_set(E_DISTRIBUTED, "an exchange between ranks was given up");
        nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    }
}

static MPI_Datatype type_of(dtype type)
{
    return type == DT_F32 ? MPI_FLOAT : MPI_UINT16_T;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Elements of a rank's part in the segment that begins at `from` of the part; *begin: in the tensor. */
static int segment_of(int64_t *begin, const mpi_comm *m, const task *t, int rank, int64_t from)
{
    int64_t start = comm_part_begin(t->count, rank, m->base.count), end = comm_part_begin(t->count, rank + 1, m->base.count);
    *begin = start + from;
    int64_t left = end - *begin;
    return left > 0 ? (int)smaller(left, SEGMENT) : 0;
}

/* own = the ranks' copies, added in the order of the ranks; those of the others lie in m->received. */
static void add_f32(float *own, const mpi_comm *m, int count)
{
    for (int i = 0; i < count; i++) {
        double sum = 0;
        const float *other = (const float *)m->received + i;
        for (int r = 0; r < m->base.count; r++) {
            bool mine = r == m->base.rank;
            sum += mine ? (double)own[i] : (double)*other;
            other += mine ? 0 : SEGMENT;
        }
        own[i] = (float)sum;
    }
}

static void add_bf16(uint16_t *own, const mpi_comm *m, int count)
{
    for (int i = 0; i < count; i++) {
        float sum = 0;
        const uint16_t *other = (const uint16_t *)m->received + i;
        for (int r = 0; r < m->base.count; r++) {
            bool mine = r == m->base.rank;
            sum += bf16_to_f32(mine ? own[i] : *other);
            other += mine ? 0 : SEGMENT;
        }
        own[i] = f32_to_bf16(sum);
    }
}

static err scatter_segment(mpi_comm *m, const task *t, int64_t from)
{
    size_t  size = dtype_bytes(t->type);
    int64_t begin, own_begin;
    int     own = segment_of(&own_begin, m, t, m->base.rank, from), requests = 0, slot = 0;
    for (int r = 0; r < m->base.count; r++) {
        if (r == m->base.rank)
            continue;
        int theirs = segment_of(&begin, m, t, r, from), code = MPI_SUCCESS;
        if (own)
            code = MPI_Irecv(m->received + (size_t)slot * SEGMENT * size, own, type_of(t->type), r, 0, m->world,
                             &m->request[requests++]);
        if (code == MPI_SUCCESS && theirs)
            code = MPI_Isend(t->data + (size_t)begin * size, theirs, type_of(t->type), r, 0, m->world, &m->request[requests++]);
        if (code != MPI_SUCCESS)
            return failure(code, "sending a part");
        slot++;
    }
    TRY(wait_for(m, requests));
    if (t->type == DT_F32)
        add_f32((float *)(void *)t->data + own_begin, m, own);
    else
        add_bf16((uint16_t *)(void *)t->data + own_begin, m, own);
    return OK;
}

static err gather_segment(mpi_comm *m, const task *t, int64_t from)
{
    size_t  size = dtype_bytes(t->type);
    int64_t begin, own_begin;
    int     own = segment_of(&own_begin, m, t, m->base.rank, from), requests = 0;
    for (int r = 0; r < m->base.count; r++) {
        if (r == m->base.rank)
            continue;
        int theirs = segment_of(&begin, m, t, r, from), code = MPI_SUCCESS;
        if (theirs)
            code = MPI_Irecv(t->data + (size_t)begin * size, theirs, type_of(t->type), r, 0, m->world, &m->request[requests++]);
        if (code == MPI_SUCCESS && own)
            code = MPI_Isend(t->data + (size_t)own_begin * size, own, type_of(t->type), r, 0, m->world, &m->request[requests++]);
        if (code != MPI_SUCCESS)
            return failure(code, "gathering parts");
    }
    return wait_for(m, requests);
}

static err do_task(mpi_comm *m, const task *t)
{
    int64_t most = comm_part_begin(t->count, 1, m->base.count); /* the first part is the longest */
    for (int64_t from = 0; from < most && t->kind != TASK_GATHER; from += SEGMENT)
        TRY(scatter_segment(m, t, from));
    for (int64_t from = 0; from < most && t->kind != TASK_SUM_PART; from += SEGMENT)
        TRY(gather_segment(m, t, from));
    return OK;
}

static void *run(void *opaque)
{
    mpi_comm *m = opaque;
    pthread_mutex_lock(&m->lock);
    for (;;) {
        while (!m->stop && !m->first)
            pthread_cond_wait(&m->work, &m->lock);
        if (m->stop)
            break;
        task *t = m->first;
        m->first = t->next;
        if (!m->first)
            m->last = &m->first;
        bool skip = m->failed != OK;
        m->busy = true;
        pthread_mutex_unlock(&m->lock);
        double started = clock_seconds();
        err e = skip ? OK : do_task(m, t);
        free(t);
        pthread_mutex_lock(&m->lock);
        m->spent += clock_seconds() - started;
        m->busy = false;
        if (e != OK) {
            m->failed = e;
            snprintf(m->message, sizeof m->message, "%s", err_message());
        }
        pthread_cond_broadcast(&m->idle);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* ---- the calls ---- */

static err begin(comm *c, tensor *flat, task_kind kind)
{
    mpi_comm *m = (mpi_comm *)c;
    task     *t = heap_get(sizeof *t);
    *t = (task){.kind = kind, .data = flat->data, .count = tensor_count(flat), .type = flat->type};
    pthread_mutex_lock(&m->lock);
    *m->last = t;
    m->last = &t->next;
    pthread_cond_signal(&m->work);
    pthread_mutex_unlock(&m->lock);
    return OK;
}

static err mpi_sum(comm *c, tensor *flat)
{
    return begin(c, flat, TASK_SUM);
}

static err mpi_sum_part(comm *c, tensor *flat)
{
    return begin(c, flat, TASK_SUM_PART);
}

static err mpi_gather(comm *c, tensor *flat)
{
    return begin(c, flat, TASK_GATHER);
}

static err mpi_wait(comm *c)
{
    mpi_comm *m = (mpi_comm *)c;
    pthread_mutex_lock(&m->lock);
    while (m->first || m->busy)
        pthread_cond_wait(&m->idle, &m->lock);
    err e = m->failed;
    c->busy = m->spent;
    pthread_mutex_unlock(&m->lock);
    return e == OK ? OK : err_set(e, "%s", m->message);
}

/* What is still under way is given up: after an error the others may be gone. */
static void mpi_close(comm *c)
{
    mpi_comm *m = (mpi_comm *)c;
    pthread_mutex_lock(&m->lock);
    bool whole = !m->first && !m->busy && m->failed == OK;
    m->stop = true;
    pthread_cond_broadcast(&m->work);
    pthread_mutex_unlock(&m->lock);
    pthread_join(m->thread, NULL);
    for (task *t = m->first, *next; t; t = next) {
        next = t->next;
        free(t);
    }
    if (whole)
        MPI_Comm_free(&m->world);
    pthread_cond_destroy(&m->work);
    pthread_cond_destroy(&m->idle);
    pthread_mutex_destroy(&m->lock);
    free(m->received);
    free(m->request);
    free(m);
}

static const comm_calls mpi_calls = {
    .name = "MPI", .sum = mpi_sum, .sum_part = mpi_sum_part, .gather = mpi_gather, .wait = mpi_wait, .close = mpi_close};

/* Signals are the main thread's. */
static err start_thread(mpi_comm *m)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = threads_start(&m->thread, run, m);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code ? err_set(E_DISTRIBUTED, "cannot start the thread that talks to the other ranks: %s", strerror(code)) : OK;
}

err comm_open_mpi(comm **out)
{
    int up = 0, level = MPI_THREAD_SINGLE, rank, size;
    *out = NULL;
    MPI_Initialized(&up);
    CHECK(up, "MPI is not up");
    MPI_Query_thread(&level);
    if (level < MPI_THREAD_SERIALIZED)
        return err_set(E_DISTRIBUTED, "this MPI serves its first thread alone (MPI_THREAD_SERIALIZED is needed); use one that was "
                                      "built with threads, such as Debian's Open MPI");
    mpi_comm *m = heap_get(sizeof *m);
    *m = (mpi_comm){.base.calls = &mpi_calls};
    m->last = &m->first;
    MPI_Comm_dup(MPI_COMM_WORLD, &m->world);
    MPI_Comm_set_errhandler(m->world, MPI_ERRORS_RETURN);
    MPI_Comm_rank(m->world, &rank);
    MPI_Comm_size(m->world, &size);
    m->base.rank = rank;
    m->base.count = size;
    m->received = heap_get((size_t)size * SEGMENT * sizeof(float));
    m->request = heap_get(2 * (size_t)size * sizeof *m->request);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->work, NULL);
    pthread_cond_init(&m->idle, NULL);
    err e = start_thread(m);
    if (e != OK) {
        MPI_Comm_free(&m->world);
        free(m->received);
        free(m->request);
        free(m);
        return e;
    }
    *out = &m->base;
    return OK;
}
