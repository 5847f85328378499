/* The thread of a rank that beats for it, hears the others, and ends the process when one of them is dead, silent or stuck,
 * whatever the main thread waits for. */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/progress.h"
#include "base/threads.h"
#include "train/ranks_state.h"

enum { MOST_QUEUED = 1 << 14, MOST_TEXT = 4096 };
#define FLUSH_SECONDS 0.5  /* for the order to leave, on its way out */
#define BEAT_SECONDS  1.0  /* at least that often, and at each new stamp */

static const char *const phase_names[RANK_PHASES] = {
    [PHASE_START] = "start", [PHASE_FORWARD] = "forward", [PHASE_REDUCE] = "all-reduce", [PHASE_UPDATE] = "update",
    [PHASE_VALIDATION] = "validation", [PHASE_SAMPLES] = "samples", [PHASE_SAVE] = "save", [PHASE_END] = "end",
};

void ranks_place_text(char *out, size_t room, const stamp *at)
{
    const char *name = phase_names[at->phase];
    if (at->phase == PHASE_START)
        snprintf(out, room, "start");
    else if (at->phase < PHASE_VALIDATION)
        snprintf(out, room, "%s of step %" PRId64 " (last step done: %" PRId64 ")", name, at->step, at->step - 1);
    else
        snprintf(out, room, "%s after step %" PRId64, name, at->step);
}

/* ---- leaving ---- */

/* Rank 0 orders it; another tells rank 0 that it fails, which then orders it. */
static void order_to_leave(ranks *r, err code, const char *text)
{
    frame head = frame_of(r->rank == 0 ? FRAME_LEAVE : FRAME_FAILED, r->rank, (uint32_t)strlen(text) + 1);
    head.code = (int32_t)code;
    for (int i = r->from; i < r->to; i++) {
        rank_peer *p = &r->peer[i];
        if (p->gone || pthread_mutex_trylock(&p->sending) != 0)
            continue; /* the main thread is stuck in it: then that end does not read */
        if (channel_unsent(&p->link) < MOST_QUEUED)
            channel_send(&p->link, &head, text, 0);
        shutdown(p->link.socket, SHUT_WR);
        pthread_mutex_unlock(&p->sending);
    }
}

/* Until the others have read it: closing with unread bytes would take it back. */
static void flush_orders(ranks *r)
{
    double until = clock_seconds() + FLUSH_SECONDS;
    bool waiting = true;
    while (waiting && clock_seconds() < until) {
        char waste[4096];
        waiting = false;
        for (int i = r->from; i < r->to; i++)
            if (!r->peer[i].gone && recv(r->peer[i].link.socket, waste, sizeof waste, MSG_DONTWAIT) != 0)
                waiting = true;
        poll(NULL, 0, 5);
    }
}

/* Called with the lock held, by the thread alone. tell: the others may not know. */
static _Noreturn void leave(ranks *r, err code, const char *text, bool tell)
{
    char line[MOST_TEXT + 128];
    r->leaving = true;
    int size = snprintf(line, sizeof line, "error[%s] rank %d leaves: %s\n", err_name(code), r->rank, text);
    if (size > 0 && write(STDERR_FILENO, line, (size_t)size < sizeof line ? (size_t)size : sizeof line - 1) < 0)
        r->leaving = true; /* nobody to tell */
    if (tell) {
        order_to_leave(r, code, text);
        flush_orders(r);
    }
    _exit(err_exit_code(code));
}

__attribute__((format(printf, 2, 3))) static _Noreturn void leave_because(ranks *r, const char *format, ...)
{
    char text[MOST_TEXT];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    leave(r, E_DISTRIBUTED, text, r->rank == 0);
}

#define GO_ON "every rank leaves, the last checkpoint is good; start again with --resume auto"

/* ---- what comes in ---- */

static void keep_parcel(ranks *r, rank_peer *p, const uint8_t *bytes, size_t size)
{
    parcel *x = heap_get(sizeof *x + size);
    x->next = NULL;
    x->bytes = size;
    memcpy(x->data, bytes, size);
    *p->last = x;
    p->last = &x->next;
    pthread_cond_broadcast(&r->news);
}

static void take_beat(rank_peer *p, const frame *head, double now)
{
    if (head->phase < 0 || head->phase >= RANK_PHASES)
        return;
    if (head->serial != p->at.serial)
        p->moved = now;
    p->at = (stamp){(rank_phase)head->phase, head->step, head->serial, head->patience};
}

/* FRAME_FAILED, FRAME_LEAVE: their code and words. */
static _Noreturn void obey(ranks *r, int from, const frame *head, const uint8_t *bytes)
{
    char text[MOST_TEXT];
    bool known = head->code > OK && head->code <= E_TERMINATED;
    int size = head->bytes < 3072 ? (int)head->bytes : 3072;
    if (head->kind == FRAME_LEAVE)
        snprintf(text, sizeof text, "%.*s", size, (const char *)bytes);
    else
        snprintf(text, sizeof text, "rank %d (%s) failed: %.*s", from, r->peer[from].host, size, (const char *)bytes);
    leave(r, known ? (err)head->code : E_DISTRIBUTED, text, r->rank == 0);
}

static void take_frame(ranks *r, int from, const frame *head, const uint8_t *bytes, double now)
{
    rank_peer *p = &r->peer[from];
    if (head->kind == FRAME_BEAT)
        take_beat(p, head, now);
    else if (head->kind == FRAME_DATA)
        keep_parcel(r, p, bytes, head->bytes);
    else if (head->kind == FRAME_BYE)
        p->ended = true;
    else if ((head->kind == FRAME_LEAVE || head->kind == FRAME_FAILED) && !r->failing)
        obey(r, from, head, bytes);
    else if (head->kind == FRAME_LEAVE || head->kind == FRAME_FAILED)
        p->ended = true; /* it knows by itself */
    if (p->ended)
        pthread_cond_broadcast(&r->news);
}

static void take_end(ranks *r, int from)
{
    rank_peer *p = &r->peer[from];
    char place[160];
    p->gone = true;
    pthread_cond_broadcast(&r->news);
    if (p->ended || r->ending || r->failing)
        return;
    ranks_place_text(place, sizeof place, &p->at);
    leave_because(r, "rank %d (%s) died in %s; " GO_ON, from, p->host, place);
}

static void hear(ranks *r, int from, double now)
{
    rank_peer *p = &r->peer[from];
    bool there = true;
    while (there) {
        frame head;
        const uint8_t *bytes;
        size_t before = p->link.have;
        there = channel_receive(&p->link);
        if (p->link.have > before)
            p->heard = now;
        bool any = false;
        while (channel_first(&head, &bytes, &p->link)) {
            any = true;
            take_frame(r, from, &head, bytes, now);
            channel_drop(&p->link);
        }
        if (!there)
            take_end(r, from);
        if (!any)
            break;
    }
}

/* ---- beats ---- */

static void beat(ranks *r)
{
    frame head = frame_of(FRAME_BEAT, r->rank, 0);
    head.phase = (int32_t)r->own.phase;
    head.step = r->own.step;
    head.serial = r->own.serial;
    head.patience = r->own.patience;
    for (int i = r->from; i < r->to; i++) {
        rank_peer *p = &r->peer[i];
        if (p->gone || pthread_mutex_trylock(&p->sending) != 0)
            continue;
        if (channel_unsent(&p->link) < MOST_QUEUED)
            channel_send(&p->link, &head, NULL, 0);
        pthread_mutex_unlock(&p->sending);
    }
}

/* ---- judgement ---- */

static void judge_silence(ranks *r, double now)
{
    double limit = r->rank == 0 ? r->limit : r->limit + BEAT_SECONDS; /* so that rank 0 names the one that both wait for */
    for (int i = r->from; i < r->to; i++) {
        rank_peer *p = &r->peer[i];
        char place[160];
        if (p->gone || now - p->heard <= limit)
            continue;
        ranks_place_text(place, sizeof place, &p->at);
        leave_because(r, "rank %d (%s) hangs: nothing was heard of it for %.0f s (train.watchdog); it was in %s; " GO_ON, i, p->host,
                      now - p->heard, place);
    }
}

static const stamp *stamp_of(const ranks *r, int rank)
{
    return rank == r->rank ? &r->own : &r->peer[rank].at;
}

static bool is_behind(const stamp *a, const stamp *b)
{
    return a->step != b->step ? a->step < b->step : a->phase < b->phase;
}

static bool is_level(const stamp *a, const stamp *b)
{
    return a->step == b->step && a->phase == b->phase;
}

/* Only rank 0 sees all. In lock step a rank that stands still soon makes all stand still: then the ones furthest behind are
 * those that the others wait for. One that only waits is never to blame, however long it did. */
static void judge_standstill(ranks *r, double now)
{
    const stamp *last = &r->own;
    double moved = r->moved, patience = 0;
    char names[128] = "", place[160];
    for (int i = r->from; i < r->to; i++) {
        const rank_peer *p = &r->peer[i];
        moved = p->moved > moved ? p->moved : moved;
        if (!p->gone && is_behind(&p->at, last))
            last = &p->at;
    }
    for (int i = 0, named = 0; i < r->count; i++) {
        const stamp *s = stamp_of(r, i);
        if (!is_level(s, last) || (i != r->rank && r->peer[i].gone))
            continue;
        patience = s->patience > patience ? s->patience : patience;
        if (named++ < 8)
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s%d", named > 1 ? ", " : "", i);
        else if (named == 10)
            snprintf(names + strlen(names), sizeof names - strlen(names), ", ...");
    }
    if (now - moved <= patience)
        return;
    ranks_place_text(place, sizeof place, last);
    leave_because(r, "rank %s hangs: no progress for %.0f s (train.watchdog %.0f s) in %s; " GO_ON, names, now - moved, r->limit, place);
}

/* Before there are connections. */
static void judge_meeting(ranks *r, double now)
{
    if (now - r->moved > r->own.patience)
        leave_because(r, "the ranks did not come together within %.0f s: one of them did not start, or hangs", now - r->moved);
}

static void judge(ranks *r, double now)
{
    if (r->failing)
        return;
    if (r->from == r->to) {
        judge_meeting(r, now);
        return;
    }
    judge_silence(r, now);
    if (r->probe && r->probe(r->probed) != OK)
        leave(r, E_DISTRIBUTED, err_message(), true);
    if (r->rank == 0 && !r->ending)
        judge_standstill(r, now);
}

/* This process was stopped itself, or had no processor: nobody else is to blame for that time. */
static void forgive(ranks *r, double seconds)
{
    r->moved += seconds;
    for (int i = r->from; i < r->to; i++) {
        r->peer[i].heard += seconds;
        r->peer[i].moved += seconds;
    }
}

/* ---- the thread ---- */

/* Many ranks: rank 0 has as many beats to read as there are. */
static double tick_of(const ranks *r)
{
    double tick = 0.001 * r->count;
    return tick < 0.02 ? 0.02 : tick < BEAT_SECONDS ? tick : BEAT_SECONDS;
}

static void listen_for(ranks *r, struct pollfd **places, double *tick)
{
    nfds_t count = 0;
    pthread_mutex_lock(&r->lock);
    if (!*places && r->to > 0) {
        *places = heap_get((size_t)r->to * sizeof **places);
        *tick = tick_of(r);
    }
    struct pollfd *p = *places;
    for (int i = r->from; i < r->to; i++)
        if (!r->peer[i].gone)
            p[count++] = (struct pollfd){.fd = r->peer[i].link.socket, .events = POLLIN};
    pthread_mutex_unlock(&r->lock);
    poll(p, count, (int)(1000 * *tick));
}

static void *watch_thread(void *argument)
{
    ranks *r = argument;
    struct pollfd *p = NULL;
    double tick = tick_of(r), last = clock_seconds(), beaten = 0;
    int64_t serial = -1;
    bool stop = false;
    while (!stop) {
        listen_for(r, &p, &tick);
        pthread_mutex_lock(&r->lock);
        double now = clock_seconds();
        if (now - last > 1 + r->limit / 4)
            forgive(r, now - last);
        for (int i = r->from; i < r->to; i++)
            if (!r->peer[i].gone)
                hear(r, i, now);
        if (serial != r->own.serial || now - beaten > BEAT_SECONDS / 2) {
            beat(r);
            serial = r->own.serial;
            beaten = now;
        }
        judge(r, now);
        last = clock_seconds();
        stop = r->stop;
        pthread_mutex_unlock(&r->lock);
    }
    free(p);
    return NULL;
}

err ranks_watch_start(ranks *r)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the main thread's */
    int code = threads_start(&r->thread, watch_thread, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code ? err_set(E_DISTRIBUTED, "no thread to watch the ranks: %s", strerror(code)) : OK;
}

void ranks_watch_stop(ranks *r)
{
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
}
