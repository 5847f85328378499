#include "autograd/meta/device.h"

#include <stdlib.h>
#include <string.h>

#include "autograd/meta/memory.h"

const char *meta_kind_name(meta_kind kind)
{
    static const char *const names[META_KIND_COUNT] = {
        [META_LINEAR] = "linear", [META_CONVOLUTION] = "convolution", [META_ATTENTION] = "attention",
        [META_SUBJECT_ATTENTION] = "subject attention", [META_NORM] = "norm", [META_ELEMENTWISE] = "elementwise",
        [META_COPY] = "copy", [META_OPTIMIZER] = "optimizer"};
    return names[kind];
}

const meta_report *meta_report_of(const device *dev)
{
    CHECK(dev->p == &meta_primitives, "%s is not the meta device", dev->kind);
    return &((const meta_state *)dev->state)->report;
}

double meta_multiply_adds(const device *dev)
{
    const meta_report *r = meta_report_of(dev);
    double             sum = 0.0;
    for (int k = 0; k < META_KIND_COUNT; k++)
        sum += r->by_kind[k].multiply_adds;
    return sum;
}

void meta_watch(device *dev, meta_watcher f, void *user)
{
    CHECK(dev->p == &meta_primitives, "%s is not the meta device", dev->kind);
    meta_state *s = dev->state;
    s->watcher = f;
    s->user = user;
}

void meta_reset(device *dev)
{
    CHECK(dev->p == &meta_primitives, "%s is not the meta device", dev->kind);
    meta_report *r = &((meta_state *)dev->state)->report;
    memset(r->by_kind, 0, sizeof r->by_kind);
    meta_allocator_reset(dev->memory);
}

static void close_meta(device *d)
{
    meta_allocator_free(d->memory);
    free(d->state);
    free(d);
}

err device_open_meta(device **out, const device *like)
{
    meta_state *s = heap_get(sizeof *s);
    *s = (meta_state){0};
    device *d = heap_get(sizeof *d);
    *d = (device){.kind = "meta", .p = &meta_primitives, .memory = meta_allocator_new(&s->report.log), .threads = 1,
                  .dataless = true, .close = close_meta, .state = s};
    if (like) {
        s->dry = like->dry;
        s->like = *like;
        s->like.memory = d->memory;
        s->like.dataless = true;
        d->threads = like->threads;
    }
    *out = d;
    return OK;
}
