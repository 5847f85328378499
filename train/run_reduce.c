#include "train/run_reduce.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/text.h"
#include "train/interrupt.h"
#include "train/micro_step.h"

/* The numbers that go with a step's gradients. */
enum { NUMBER_LOSS, NUMBER_BAD_SAMPLES, NUMBER_INTERRUPTED, NUMBER_TERMINATED, NUMBER_SAVE, NUMBER_SQUARES };

/* ---- opening ---- */

static dtype sent_type(const run_config *c)
{
    return c->train.reduce_dtype == REDUCE_BF16 ? DT_BF16 : DT_F32;
}

static err check_sharding(const run_config *c)
{
    if (c->train.shard_optimizer && c->optimizer.kind == OPTIMIZER_ADAMW8BIT)
        return err_set(E_CONFIG, "train.shard_optimizer: on, but optimizer.kind adamw8bit codes its moments in blocks that cannot be "
                                 "cut between ranks; choose one of the two");
    return OK;
}

err run_reduce_open(run *r)
{
    const run_config *c = r->config;
    tensor **order;
    int      count;
    if (!r->ranks)
        return OK;
    TRY(check_sharding(c));
    TRY(comm_open(&r->comm, r->ranks, r->dev));
    TRY(micro_step_order(&order, &count, r));
    return reduction_open(&r->reduction, &r->memory, r->dev, r->comm, order, count, sent_type(c), c->train.shard_optimizer);
}

err run_reduce_share(run *r)
{
    return r->reduction && r->reduction->sharded ? sharded_new(&r->sharded, &r->memory, r->reduction, r->optimizer) : OK;
}

void run_reduce_close(run *r)
{
    comm_close(r->comm); /* first: what it had under way lies in the others */
    sharded_free(r->sharded);
    reduction_free(r->reduction);
    r->comm = NULL;
    r->sharded = NULL;
    r->reduction = NULL;
}

/* ---- a step ---- */

void run_reduce_begin(run *r)
{
    if (r->reduction)
        reduction_begin(r->reduction);
}

static void take_numbers(step_record *record, run *r, const double *number)
{
    record->loss = number[NUMBER_LOSS];
    r->bad_samples += (int64_t)number[NUMBER_BAD_SAMPLES];
    r->save_asked = number[NUMBER_SAVE] > 0;
    r->ending = number[NUMBER_TERMINATED] > 0 ? E_TERMINATED : number[NUMBER_INTERRUPTED] > 0 ? E_INTERRUPTED : OK;
}

/* Where the state is shared out, each rank knows the norm of its part alone: one more small sum. */
static err reduce_shared(double *length, double *number, run *r)
{
    TRY(reduction_end(number, r->reduction));
    TRY(sharded_squares(&number[NUMBER_SQUARES], r->sharded));
    TRY(reduction_add(number, r->reduction));
    *length = sqrt(number[NUMBER_SQUARES]);
    return OK;
}

err run_reduce_step(step_record *record, run *r)
{
    if (!r->reduction)
        return optimizer_norm(&record->grad_norm, r->optimizer);
    err ending = interrupt_seen();
    double number[REDUCTION_NUMBERS] = {
        [NUMBER_LOSS] = record->loss,
        [NUMBER_BAD_SAMPLES] = (double)(r->batches.bad_samples - r->bad_samples_told),
        [NUMBER_INTERRUPTED] = ending == E_INTERRUPTED,
        [NUMBER_TERMINATED] = ending == E_TERMINATED,
        [NUMBER_SAVE] = interrupt_save_asked(),
    };
    r->bad_samples_told = r->batches.bad_samples;
    if (r->sharded) {
        TRY(reduce_shared(&record->grad_norm, number, r));
    } else {
        TRY(reduction_end(number, r->reduction));
        TRY(optimizer_norm(&record->grad_norm, r->optimizer));
    }
    take_numbers(record, r, number);
    return OK;
}

void run_reduce_tell(const run *r, int64_t steps)
{
    char text[32], spent[96] = "";
    if (!r->reduction || steps <= 0)
        return;
    int64_t bytes = r->comm->bytes / steps;
    if (r->comm->busy > 0)
        snprintf(spent, sizeof spent, "; sending took %.1f ms a step, %.1f of them waited for", 1e3 * r->comm->busy / (double)steps,
                 1e3 * r->reduction->waited / (double)steps);
    log_info(r->log, "%d ranks by %s: %" PRId64 " bytes (%s) sent by each a step, %d of %d buckets of gradients while backward "
                     "went on%s", r->comm->count, r->comm->calls->name, bytes, text_bytes(text, (uint64_t)bytes),
             r->reduction->early, r->reduction->buckets, spent);
}

err run_reduce_settle(run *r)
{
    return sharded_settle(r->sharded);
}

/* ---- checkpoints ---- */

static err make_whole(whole_optimizer *w, run *r)
{
    TRY(device_open_cpu(&w->host, r->options->threads));
    return sharded_whole(&w->o, &w->memory, r->sharded, w->host);
}

err run_reduce_whole(whole_optimizer *w, run *r)
{
    *w = (whole_optimizer){.o = r->optimizer};
    if (!r->sharded)
        return OK;
    w->o = NULL;
    return make_whole(w, r);
}

err run_reduce_collect(whole_optimizer *w, run *r)
{
    bool here = !r->sharded || ranks_rank(r->ranks) == 0;
    if (here)
        TRY(run_reduce_whole(w, r));
    else
        *w = (whole_optimizer){0};
    return r->sharded ? sharded_collect(w->o, r->sharded) : OK;
}

err run_reduce_take(run *r, const whole_optimizer *w)
{
    return r->sharded ? sharded_take(r->sharded, w->o) : OK;
}

void run_reduce_drop(whole_optimizer *w)
{
    if (w->host)
        sharded_free_whole(w->o);
    device_close(w->host);
    arena_free(&w->memory);
    *w = (whole_optimizer){0};
}
