#include "support_capture.h"

#include <stdlib.h>

#include "autograd/calls_noted.h"

struct captured {
    call_list list;
};

static struct {
    capture_log log;
    device     *cpu;
    noting      notes;
    void       *taken;
} one;

enum { TAKEN = 12345 };

static err answer(err how)
{
    return how == OK ? OK : err_set(how, "as asked");
}

static err pin(device *d, void **out, size_t bytes)
{
    (void)d;
    TRY(answer(one.log.refuse_pin));
    *out = aligned_alloc(64, (bytes + 63) / 64 * 64);
    one.log.pins++;
    one.log.pinned++;
    return OK;
}

static void unpin(device *d, void *memory)
{
    (void)d;
    free(memory);
    one.log.pinned--;
}

static err begin(device *d)
{
    one.log.begins++;
    TRY(answer(one.log.refuse_begin));
    one.notes = (noting){.to = one.cpu};
    noting_begin(&one.notes, d);
    return OK;
}

static err end(device *d, captured **out)
{
    noting_end(&one.notes, d);
    *out = NULL;
    if (one.log.refuse_end != OK) {
        noting_free(&one.notes);
        return answer(one.log.refuse_end);
    }
    *out = heap_get(sizeof **out);
    (*out)->list = one.notes.list;
    one.notes.list = (call_list){0};
    noting_free(&one.notes);
    one.log.alive++;
    return OK;
}

static err launch(device *d, captured *c)
{
    (void)d;
    one.log.launches++;
    TRY(answer(one.log.refuse_launch));
    return calls_run(&c->list, one.cpu);
}

static void drop(device *d, captured *c)
{
    (void)d;
    if (!c)
        return;
    calls_free(&c->list);
    free(c);
    one.log.alive--;
}

/* ---- what is pinned is read when it is the call's turn ---- */

static void note(device *d, err (*run)(device *d, tensor *const *t, const call_value *v), const tensor *t, void *pinned,
                 dtype type)
{
    noting *n = d->state;
    note_call(n, (call){run, 1, 2});
    note_tensor(n, t);
    note_value(n, (call_value){.pinned = pinned});
    note_value(n, (call_value){.number = (double)type});
}

static err again_upload(device *d, tensor *const *t, const call_value *v)
{
    return d->p->upload(d, t[0], v[0].pinned, (dtype)v[1].number);
}

static err again_download(device *d, tensor *const *t, const call_value *v)
{
    return d->p->download(d, v[0].pinned, (dtype)v[1].number, t[0]);
}

static err upload(device *d, tensor *y, const void *pinned, dtype type)
{
    if (d->p != &noting_primitives)
        return d->p->upload(d, y, pinned, type);
    if (one.log.takes_memory) {
        TRY(d->memory->get(d->memory, &one.taken, TAKEN, LIFE_SCRATCH));
        d->memory->put(d->memory, one.taken, TAKEN, LIFE_SCRATCH);
    }
    note(d, again_upload, y, (void *)(uintptr_t)pinned, type);
    return OK;
}

static err download(device *d, void *pinned, dtype type, const tensor *x)
{
    if (d->p != &noting_primitives)
        return d->p->download(d, pinned, type, x);
    note(d, again_download, x, pinned, type);
    return OK;
}

static err wait(device *d)
{
    (void)d;
    return OK;
}

static const struct capture calls_kept = {
    .pin = pin, .unpin = unpin, .upload = upload, .download = download, .begin = begin, .end = end, .launch = launch,
    .drop = drop, .wait = wait,
};

capture_log *capture_attach(device *cpu)
{
    one.log = (capture_log){0};
    one.cpu = cpu;
    cpu->capture = &calls_kept;
    return &one.log;
}

void capture_detach(device *cpu)
{
    cpu->capture = NULL;
    one.cpu = NULL;
}
