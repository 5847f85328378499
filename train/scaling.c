#include "train/scaling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/reduction.h"

enum { PER_NODE = 8, MOST_RANKS = 65536 };

/* Bytes a second that each rank of an all-reduce sends where nodes of 8 are joined by this ("bus bandwidth" of nccl-tests).
 * ib400: one 400 Gb/s InfiniBand port a node, 46 GB/s of its 50 reached; eth100: one 100 Gb/s port a node, RoCE, 11 of 12.5
 * GB/s; ib400x8: a 400 Gb/s port for each of the 8 GPUs, about 350 GB/s (an estimate, from the 370 of NVLink). */
typedef struct link_kind {
    const char *name;
    double      between;
} link_kind;

static const link_kind links[] = {{"nvlink", 0.0}, {"ib400", 46e9}, {"ib400x8", 350e9}, {"eth100", 11e9}};

/* Seconds of one hop of a collective's pipeline, NVLink and network: NCCL's own tuning model, protocol Simple. */
static const double HOP_INSIDE = 3.4e-6, HOP_BETWEEN = 14e-6;

/* ---- gradients ---- */

void gradient_times_add(gradient_times *g, int64_t elements, double ready)
{
    if (g->count == g->room) {
        g->room = g->room ? 2 * g->room : 256;
        g->elements = heap_grow(g->elements, (size_t)g->room * sizeof *g->elements);
        g->ready = heap_grow(g->ready, (size_t)g->room * sizeof *g->ready);
    }
    g->elements[g->count] = elements;
    g->ready[g->count++] = ready;
}

void gradient_times_free(gradient_times *g)
{
    free(g->elements);
    free(g->ready);
    *g = (gradient_times){0};
}

/* ---- links ---- */

static const link_kind *link_find(const char *name)
{
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        if (!strcmp(links[i].name, name))
            return &links[i];
    return NULL;
}

err scaling_check(const scaling_options *o)
{
    const link_kind *link = link_find(o->link);
    if (!link)
        return err_set(E_USAGE, "--link %.40s: there are nvlink, ib400, ib400x8, eth100", o->link);
    if (o->ranks < 1 || o->ranks > MOST_RANKS)
        return err_set(E_USAGE, "--ranks %d: expected 1 to %d", o->ranks, MOST_RANKS);
    if (!(o->on->nvlink > 0))
        return err_set(E_USAGE, "--card %s: has no NVLink, which this model has inside a node; take h100 or a100", o->on->name);
    if (!(link->between > 0) && o->ranks > PER_NODE)
        return err_set(E_USAGE, "--link nvlink: joins the %d GPUs of a node, not %d; --link ib400x8 joins nodes", PER_NODE,
                       o->ranks);
    return OK;
}

static int nodes_of(const scaling_options *o)
{
    return (o->ranks + PER_NODE - 1) / PER_NODE;
}

static double rate_of(const scaling_options *o)
{
    return nodes_of(o) > 1 ? link_find(o->link)->between : o->on->nvlink;
}

/* Once round the ring but for one hop. */
double scaling_half_seconds(const scaling_options *o, double bytes)
{
    int hops = o->ranks - 1, between = nodes_of(o) - 1;
    return bytes * hops / o->ranks / rate_of(o) + (hops - between) * HOP_INSIDE + between * HOP_BETWEEN;
}

double scaling_sum_seconds(const scaling_options *o, double bytes)
{
    double ring = 2.0 * scaling_half_seconds(o, bytes);
    int    nodes = nodes_of(o);
    if (nodes == 1)
        return ring;
    double tree = 2.0 * (bytes / rate_of(o) + (PER_NODE - 1) * HOP_INSIDE + ceil(log2(nodes)) * HOP_BETWEEN);
    return tree < ring ? tree : ring;
}

/* ---- a step ---- */

static double bucket_seconds(const scaling_options *o, double bytes)
{
    if (o->ranks == 1)
        return 0.0;
    return o->sharded ? scaling_half_seconds(o, bytes) : scaling_sum_seconds(o, bytes);
}

static void fill_buckets(scaling *s, const gradient_times *g)
{
    int64_t *elements = heap_get((size_t)(g->count + 1) * sizeof *elements);
    int     *bucket = heap_get((size_t)(g->count + 1) * sizeof *bucket);
    bool     riding = s->how.sent == DT_F32 && !s->how.sharded;
    s->buckets = reduction_layout(bucket, elements, g->elements, g->count, s->how.ranks, riding);
    s->bucket = heap_get((size_t)(s->buckets + 1) * sizeof *s->bucket);
    for (int b = 0; b < s->buckets; b++)
        s->bucket[b] = (scaling_bucket){.bytes = (double)elements[b] * (double)dtype_bytes(s->how.sent)};
    for (int i = 0; i < g->count; i++)
        if (g->ready[i] > s->bucket[bucket[i]].ready)
            s->bucket[bucket[i]].ready = g->ready[i];
    if (s->how.ranks > 1)
        s->bytes = (double)reduction_bytes(elements, s->buckets, s->how.sent, s->how.sharded, 0, s->how.ranks);
    free(elements);
    free(bucket);
}

/* A bucket is begun when it is ready and the one before it is through. */
static double send_all(scaling *s)
{
    double free_at = 0.0;
    for (int b = 0; b < s->buckets; b++) {
        scaling_bucket *at = &s->bucket[b];
        at->begin = at->ready > free_at ? at->ready : free_at;
        at->end = free_at = at->begin + bucket_seconds(&s->how, at->bytes);
    }
    return free_at;
}

/* The update waits for all sums, whose norm it needs. Shared out, it is one rank's part, and the weights, f32, are gathered
 * before the next step. */
void scaling_make(scaling *out, const gradient_times *g, const scaling_options *o)
{
    *out = (scaling){.how = *o, .nodes = nodes_of(o), .rate = rate_of(o), .alone = g->end, .backward_end = g->backward_end};
    fill_buckets(out, g);
    double sent = send_all(out);
    bool   many = o->ranks > 1, shared = many && o->sharded;
    out->exposed = sent > g->backward_end ? sent - g->backward_end : 0.0;
    out->optimizer = (g->end - g->backward_end) / (shared ? o->ranks : 1);
    if (many && (o->sharded || o->sent != DT_F32))
        out->numbers = scaling_sum_seconds(o, 2.0 * REDUCTION_NUMBERS * sizeof(float));
    for (int b = 0; shared && b < out->buckets; b++)
        out->gather += scaling_half_seconds(o, out->bucket[b].bytes / (double)dtype_bytes(o->sent) * sizeof(float));
    out->step = g->backward_end + out->exposed + out->numbers + out->optimizer + out->gather;
    out->efficiency = out->alone / out->step;
}

void scaling_free(scaling *s)
{
    free(s->bucket);
    s->bucket = NULL;
}
