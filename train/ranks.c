#include "train/ranks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/progress.h"
#include "train/ranks_environment.h"
#include "train/ranks_mpi.h"
#include "train/ranks_state.h"

#define FAREWELL_SECONDS 2.0 /* for the others to hear that this rank failed */
#define PATIENT          10  /* times as long as the watchdog: loading, saving, pictures, the first step */

/* ---- what it is ---- */

int ranks_rank(const ranks *r)
{
    return r ? r->rank : 0;
}

int ranks_count(const ranks *r)
{
    return r ? r->count : 1;
}

int ranks_local(const ranks *r)
{
    return r ? r->local : 0;
}

ranks_found ranks_how(const ranks *r)
{
    return r ? r->found : RANKS_NONE;
}

bool ranks_leave_asked(const ranks *r)
{
    if (!r)
        return false;
    ranks *state = (ranks *)(uintptr_t)r; /* the lock alone is written to */
    pthread_mutex_lock(&state->lock);
    bool asked = state->leaving;
    pthread_mutex_unlock(&state->lock);
    return asked;
}

/* ---- stamps ---- */

/* Slow machines take long for a step: three times the longest standstill seen is no hang either. */
static double patience_in(const ranks *r, rank_phase phase, int64_t step)
{
    bool patient = phase == PHASE_START || phase >= PHASE_VALIDATION || step <= r->first_step;
    double seen = 3 * r->longest[phase];
    if (phase == PHASE_END || !patient)
        return seen > r->limit ? seen : r->limit;
    return PATIENT * r->limit;
}

void ranks_phase(ranks *r, rank_phase phase, int64_t step)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    double now = clock_seconds(), still = now - r->moved;
    if (r->own.step > r->first_step && r->first_step >= 0 && still > r->longest[r->own.phase])
        r->longest[r->own.phase] = still;
    if (r->first_step < 0 && phase != PHASE_START)
        r->first_step = step;
    r->own = (stamp){phase, step, r->own.serial + 1, patience_in(r, phase, step)};
    r->moved = now;
    pthread_mutex_unlock(&r->lock);
}

void ranks_watch(ranks *r, int64_t seconds)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->limit = (double)seconds;
    r->own.patience = patience_in(r, r->own.phase, r->own.step);
    r->own.serial++;
    pthread_mutex_unlock(&r->lock);
}

void ranks_probe(ranks *r, err (*probe)(void *user), void *user)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->probe = probe;
    r->probed = user;
    pthread_mutex_unlock(&r->lock);
}

/* ---- coming together ---- */

/* What the others need to find rank 0, from rank 0 by MPI. */
typedef struct invitation {
    int32_t port;
    uint8_t token[TOKEN_BYTES];
    char    host[HOST_BYTES], addresses[1024];
} invitation;

static void invite(invitation *x, const ranks *r, int port)
{
    x->port = port;
    snprintf(x->host, sizeof x->host, "%s", r->host);
    channel_addresses(x->addresses, sizeof x->addresses);
    if (getrandom(x->token, sizeof x->token, 0) != (ssize_t)sizeof x->token)
        memset(x->token, 1, sizeof x->token); /* a kernel without randomness: a name as good as another */
}

static greeting greeting_of(const ranks *r, const uint8_t token[TOKEN_BYTES])
{
    greeting g = {.rank = r->rank, .count = r->count};
    memcpy(g.token, token, TOKEN_BYTES);
    snprintf(g.host, sizeof g.host, "%s", r->host);
    return g;
}

/* On one machine the loopback serves; else the host's name, and all of its addresses. */
static err meet_by_mpi(ranks *r, bool one_machine, channel *link, greeting *who)
{
    int listener = -1, port = 0;
    invitation x = {0};
    if (r->rank == 0) {
        TRY(channel_listen(&listener, &port, one_machine));
        invite(&x, r, port);
    }
    err e = ranks_mpi_broadcast(&x, sizeof x);
    x.host[HOST_BYTES - 1] = x.addresses[sizeof x.addresses - 1] = 0;
    greeting self = greeting_of(r, x.token);
    char addresses[HOST_BYTES + sizeof x.addresses + 2];
    snprintf(addresses, sizeof addresses, one_machine ? "127.0.0.1" : "%s %s", x.host, x.addresses);
    if (e == OK)
        e = r->rank == 0 ? channel_accept(link, who, listener, &self, RANKS_WATCHDOG)
                         : channel_connect(link, who, addresses, x.port, &self, RANKS_WATCHDOG);
    if (listener >= 0)
        close(listener);
    return e;
}

static err meet_by_variables(ranks *r, const ranks_place *p, channel *link, greeting *who)
{
    static const uint8_t token[TOKEN_BYTES] = "msd";
    bool loopback = !strcmp(p->address, "127.0.0.1") || !strcmp(p->address, "localhost");
    greeting self = greeting_of(r, token);
    int listener = -1, port = p->port;
    if (r->rank > 0)
        return channel_connect(link, who, p->address, p->port, &self, RANKS_WATCHDOG);
    TRY(channel_listen(&listener, &port, loopback));
    err e = channel_accept(link, who, listener, &self, RANKS_WATCHDOG);
    close(listener);
    return e;
}

static void take_seats(ranks *r, channel *link, const greeting *who)
{
    pthread_mutex_lock(&r->lock);
    r->from = r->rank == 0;
    r->to = r->rank == 0 ? r->count : 1;
    r->moved = clock_seconds();
    for (int i = r->from; i < r->to; i++) {
        rank_peer *p = &r->peer[i];
        p->link = link[i];
        p->heard = p->moved = r->moved;
        p->at = (stamp){.phase = PHASE_START, .patience = PATIENT * r->limit};
        memcpy(p->host, who[i].host, HOST_BYTES);
    }
    r->own.patience = PATIENT * r->limit;
    pthread_mutex_unlock(&r->lock);
}

/* Who this is of how many. The thread sees the places for the others with the first of them in it. */
static void take_place(ranks *r, int rank, int count, int local)
{
    pthread_mutex_lock(&r->lock);
    r->rank = rank;
    r->count = count;
    r->local = local;
    r->peer = heap_get((size_t)count * sizeof *r->peer);
    for (int i = 0; i < count; i++) {
        r->peer[i] = (rank_peer){.link = {.socket = -1}};
        r->peer[i].last = &r->peer[i].first;
        pthread_mutex_init(&r->peer[i].sending, NULL);
    }
    pthread_mutex_unlock(&r->lock);
}

static ranks *make(ranks_found found, logger *log)
{
    ranks *r = heap_get(sizeof *r);
    *r = (ranks){.found = found, .log = log, .limit = RANKS_WATCHDOG, .first_step = -1, .moved = clock_seconds(),
                 .own = {.phase = PHASE_START, .patience = RANKS_WATCHDOG + 10}};
    gethostname(r->host, sizeof r->host);
    r->host[HOST_BYTES - 1] = 0;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->news, NULL);
    return r;
}

static void release(ranks *r)
{
    for (int i = 0; i < r->count; i++) {
        rank_peer *p = &r->peer[i];
        for (parcel *x = p->first, *next; x; x = next) {
            next = x->next;
            free(x);
        }
        channel_close(&p->link);
        pthread_mutex_destroy(&p->sending);
    }
    pthread_cond_destroy(&r->news);
    pthread_mutex_destroy(&r->lock);
    free(r->peer);
    free(r);
}

static err meet(ranks *r, bool one_machine, const ranks_place *p)
{
    channel  *link = heap_get((size_t)r->count * sizeof *link);
    greeting *who = heap_get((size_t)r->count * sizeof *who);
    for (int i = 0; i < r->count; i++)
        link[i] = (channel){.socket = -1};
    err e = r->found == RANKS_MPI ? meet_by_mpi(r, one_machine, link, who) : meet_by_variables(r, p, link, who);
    if (e == OK)
        take_seats(r, link, who);
    for (int i = 0; i < r->count && e != OK; i++)
        channel_close(&link[i]);
    free(link);
    free(who);
    return e;
}

static err come_together(ranks *r, const ranks_place *p)
{
    mpi_place mpi = {.rank = p->rank, .count = p->count, .local = p->local};
    if (r->found == RANKS_MPI)
        TRY(ranks_mpi_open(&mpi));
    take_place(r, mpi.rank, mpi.count, mpi.local);
    return mpi.count > 1 ? meet(r, mpi.here == mpi.count, p) : OK;
}

err ranks_open(ranks **out, logger *log)
{
    ranks_place p;
    *out = NULL;
    TRY(ranks_place_read(&p));
    if (p.found == RANKS_NONE)
        return OK;
    ranks *r = make(p.found, log);
    err e = ranks_watch_start(r);
    if (e == OK) {
        e = come_together(r, &p);
        if (e == OK && r->count > 1) {
            *out = r;
            return OK;
        }
        ranks_watch_stop(r);
    }
    if (e == OK)
        ranks_mpi_close(); /* the launcher's variables said more than MPI: one process */
    release(r);
    return e;
}

/* ---- parting ---- */

static void tell(ranks *r, frame_kind kind, err code, const char *text)
{
    frame head = frame_of(kind, r->rank, (uint32_t)strlen(text) + 1);
    head.code = (int32_t)code;
    for (int i = r->from; i < r->to; i++) {
        rank_peer *p = &r->peer[i];
        pthread_mutex_lock(&p->sending);
        channel_send(&p->link, &head, text, FAREWELL_SECONDS / 4);
        pthread_mutex_unlock(&p->sending);
    }
}

static bool all_know(const ranks *r)
{
    for (int i = r->from; i < r->to; i++)
        if (!r->peer[i].gone && !r->peer[i].ended)
            return false;
    return true;
}

static void wait_until_known(ranks *r, double seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)seconds;
    pthread_mutex_lock(&r->lock);
    while (!all_know(r) && pthread_cond_timedwait(&r->news, &r->lock, &until) == 0)
        continue;
    pthread_mutex_unlock(&r->lock);
}

/* An error between the ranks may be the echo of a death that the thread is about to name. */
static void tell_failure(ranks *r, err failed)
{
    char text[2048];
    snprintf(text, sizeof text, "%s%.2000s", r->rank == 0 ? "rank 0 failed: " : "", err_message());
    if (failed == E_DISTRIBUTED)
        usleep(500000);
    pthread_mutex_lock(&r->lock);
    r->failing = true;
    pthread_mutex_unlock(&r->lock);
    tell(r, r->rank == 0 ? FRAME_LEAVE : FRAME_FAILED, failed, text);
    wait_until_known(r, FAREWELL_SECONDS);
}

static void part(ranks *r)
{
    ranks_phase(r, PHASE_END, r->own.step);
    if (ranks_barrier(r) != OK)
        return;
    pthread_mutex_lock(&r->lock);
    r->ending = true;
    pthread_mutex_unlock(&r->lock);
    if (r->found == RANKS_MPI)
        ranks_mpi_close();
    tell(r, FRAME_BYE, OK, "");
}

err ranks_close(ranks *r, err failed)
{
    if (!r)
        return failed;
    if (failed == OK || failed == E_INTERRUPTED || failed == E_TERMINATED)
        part(r);
    else
        tell_failure(r, failed);
    ranks_watch_stop(r);
    release(r);
    return failed;
}
