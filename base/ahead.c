#include "base/ahead.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/progress.h"
#include "base/threads.h"

struct ahead {
    ahead_work     *work;
    void           *user;
    int             slots, threads;
    bool           *ready;  /* (slots) */
    int64_t         begun;  /* the next position that a thread starts */
    int64_t         taken;  /* the next position that ahead_take hands out */
    int64_t         given;  /* positions before this one are done with */
    bool            stop;
    pthread_mutex_t lock;
    pthread_cond_t  free_slot, done;
    pthread_t      *thread;
};

static int slot_of(const ahead *a, int64_t position)
{
    return (int)(position % a->slots);
}

static void *run(void *opaque)
{
    ahead *a = opaque;
    pthread_mutex_lock(&a->lock);
    for (;;) {
        while (!a->stop && a->begun >= a->given + a->slots)
            pthread_cond_wait(&a->free_slot, &a->lock);
        if (a->stop)
            break;
        int64_t position = a->begun++;
        int slot = slot_of(a, position);
        pthread_mutex_unlock(&a->lock);
        a->work(a->user, slot, position);
        pthread_mutex_lock(&a->lock);
        a->ready[slot] = true;
        pthread_cond_broadcast(&a->done);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

ahead *ahead_start(int threads, int slots, int64_t first, ahead_work *work, void *user)
{
    CHECK(slots >= 1 && first >= 0, "%d slots from %lld", slots, (long long)first);
    ahead *a = heap_get(sizeof *a);
    *a = (ahead){.work = work, .user = user, .slots = slots, .begun = first, .taken = first, .given = first};
    a->ready = heap_get((size_t)slots * sizeof *a->ready);
    for (int i = 0; i < slots; i++)
        a->ready[i] = false;
    a->thread = heap_get((size_t)(threads > 0 ? threads : 1) * sizeof *a->thread);
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->free_slot, NULL);
    pthread_cond_init(&a->done, NULL);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the threads inherit it: signals are the main thread's */
    while (a->threads < threads && threads_start(&a->thread[a->threads], run, a) == 0)
        a->threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return a;
}

int ahead_take(double *waited, ahead *a)
{
    double started = clock_seconds();
    int slot = slot_of(a, a->taken);
    CHECK(a->taken < a->given + a->slots, "all %d slots are held", a->slots);
    if (a->threads == 0)
        a->work(a->user, slot, a->taken);
    pthread_mutex_lock(&a->lock);
    while (a->threads && !a->ready[slot])
        pthread_cond_wait(&a->done, &a->lock);
    a->ready[slot] = false;
    a->taken++;
    pthread_mutex_unlock(&a->lock);
    *waited += clock_seconds() - started;
    return slot;
}

void ahead_give(ahead *a)
{
    pthread_mutex_lock(&a->lock);
    CHECK(a->given < a->taken, "position %lld was not taken", (long long)a->given);
    a->given++;
    pthread_cond_signal(&a->free_slot);
    pthread_mutex_unlock(&a->lock);
}

int64_t ahead_position(const ahead *a)
{
    return a->taken;
}

void ahead_stop(ahead *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->stop = true;
    pthread_cond_broadcast(&a->free_slot);
    pthread_mutex_unlock(&a->lock);
    for (int i = 0; i < a->threads; i++)
        pthread_join(a->thread[i], NULL);
    pthread_cond_destroy(&a->free_slot);
    pthread_cond_destroy(&a->done);
    pthread_mutex_destroy(&a->lock);
    free(a->thread);
    free(a->ready);
    free(a);
}
