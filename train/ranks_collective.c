/* The collective calls of the control channel: over the star, by the main thread. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "train/ranks_state.h"

static err send_data(ranks *r, int to, const void *data, size_t bytes)
{
    rank_peer *p = &r->peer[to];
    CHECK(bytes <= FRAME_MOST_BYTES, "%zu bytes of control data", bytes);
    frame head = frame_of(FRAME_DATA, r->rank, (uint32_t)bytes);
    pthread_mutex_lock(&p->sending);
    bool sent = channel_send(&p->link, &head, data, 2 * r->limit); /* the thread ends the process long before */
    pthread_mutex_unlock(&p->sending);
    return sent ? OK : err_set(E_DISTRIBUTED, "rank %d (%s) takes no control data", to, p->host);
}

/* Waits as long as it takes: the thread ends the process where `from` is dead or stuck. */
static parcel *receive_data(ranks *r, int from)
{
    rank_peer *p = &r->peer[from];
    pthread_mutex_lock(&r->lock);
    while (!p->first)
        pthread_cond_wait(&r->news, &r->lock);
    parcel *x = p->first;
    p->first = x->next;
    if (!p->first)
        p->last = &p->first;
    pthread_mutex_unlock(&r->lock);
    return x;
}

static err receive_exactly(ranks *r, void *data, size_t bytes, int from)
{
    parcel *x = receive_data(r, from);
    err e = OK;
    if (x->bytes == bytes)
        memcpy(data, x->data, bytes);
    else
        e = err_set(E_DISTRIBUTED, "rank %d (%s) sent %zu bytes of control data, %zu expected: it runs another program, or has lost step",
                    from, r->peer[from].host, x->bytes, bytes);
    free(x);
    return e;
}

err ranks_broadcast(ranks *r, void *data, size_t bytes)
{
    if (!r)
        return OK;
    if (r->rank > 0)
        return receive_exactly(r, data, bytes, 0);
    for (int i = 1; i < r->count; i++)
        TRY(send_data(r, i, data, bytes));
    return OK;
}

err ranks_collect(ranks *r, parcel **parcels, const void *mine, size_t bytes)
{
    if (r->rank > 0)
        return send_data(r, 0, mine, bytes);
    parcels[0] = NULL;
    for (int i = 1; i < r->count; i++)
        parcels[i] = receive_data(r, i);
    return OK;
}

static err gather_to_first(ranks *r, char *out, const void *mine, size_t bytes)
{
    err e = OK;
    if (r->rank > 0)
        return send_data(r, 0, mine, bytes);
    memcpy(out, mine, bytes);
    for (int i = 1; i < r->count && e == OK; i++)
        e = receive_exactly(r, out + (size_t)i * bytes, bytes, i);
    return e;
}

err ranks_gather(ranks *r, void *out, const void *mine, size_t bytes)
{
    if (!r) {
        memcpy(out, mine, bytes);
        return OK;
    }
    TRY(gather_to_first(r, out, mine, bytes));
    return ranks_broadcast(r, out, (size_t)r->count * bytes);
}

err ranks_barrier(ranks *r)
{
    if (!r)
        return OK;
    char *all = heap_get((size_t)r->count), mine = 0;
    err e = ranks_gather(r, all, &mine, 1);
    free(all);
    return e;
}
