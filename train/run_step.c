#include "train/run_step.h"

#include <inttypes.h>
#include <math.h>

#include "base/progress.h"
#include "train/micro_step.h"
#include "train/run_reduce.h"

enum { NAMED_SAMPLES = 32 };

/* The samples of a step, for messages; the arena's. */
typedef struct sample_names {
    arena       memory;
    const char *text;
    int64_t     count;
} sample_names;

static void name_sample(sample_names *n, const sample *s)
{
    if (n->count < NAMED_SAMPLES)
        n->text = arena_print(&n->memory, "%s%s%" PRId64, n->text, n->count ? ", " : "", s->line);
    n->count++;
}

static void name_samples(sample_names *n, const run *r)
{
    for (int64_t i = 0; i < r->batches.batch.B; i++)
        name_sample(n, r->batches.chosen[i]);
}

static int64_t step_samples(const run *r)
{
    return r->config->train.batch_size * r->config->train.accumulation * ranks_count(r->ranks);
}

/* Those of all ranks, as they were drawn. */
static void name_all_samples(sample_names *n, const run *r, int64_t step)
{
    int64_t count = step_samples(r);
    *n = (sample_names){.memory = n->memory, .text = ""};
    for (int64_t i = 0; i < count; i++)
        name_sample(n, &r->dataset.sample[sample_turns_at(r->batches.turns, (step - 1) * count + i).index]);
}

static err accumulate(step_record *record, sample_names *names, run *r)
{
    int64_t own = r->config->train.accumulation, parts = own * ranks_count(r->ranks);
    for (int64_t micro = 0; micro < own; micro++) {
        double part = 0, waited = r->batches.waited;
        ranks_phase(r->ranks, PHASE_FORWARD, record->step);
        TRY(batch_source_make(&r->batches, record->step, micro));
        record->wait += r->batches.waited - waited;
        name_samples(names, r);
        if (r->options->dump_batches)
            TRY(batch_source_dump(&r->batches, r->options->dump_batches, record->step, micro));
        TRY(run_reduce_settle(r));
        if (micro + 1 == own)
            run_reduce_begin(r);
        TRY(micro_step_run(&part, r, parts, micro + 1 == own));
        record->loss += part / (double)parts;
    }
    return OK;
}

/* For people: a NaN has no sign. */
static double unsigned_nan(double x)
{
    return isnan(x) ? (double)NAN : x;
}

static err skip(run *r, const step_record *s, sample_names *names)
{
    arena text = {0};
    if (r->ranks)
        name_all_samples(names, r, s->step);
    const char *more = names->count > NAMED_SAMPLES ? arena_print(&text, " and %" PRId64 " more", names->count - NAMED_SAMPLES) : "";
    const char *what = arena_print(&text, "step %" PRId64 ": loss %g, gradient norm %g, of the samples in lines %s%s of %s", s->step,
                                   unsigned_nan(s->loss), unsigned_nan(s->grad_norm), names->text, more, r->dataset.path);
    r->skips.all++;
    r->skips.in_a_row++;
    err e = OK;
    if (r->skips.in_a_row < r->config->train.max_bad_steps)
        log_warning(r->log, "%s: the update is skipped (%" PRId64 " in a row, train.max_bad_steps is %" PRId64 ")", what,
                    r->skips.in_a_row, r->config->train.max_bad_steps);
    else
        e = err_set(E_NUMERIC, "%s; that is %" PRId64 " such step%s in a row (train.max_bad_steps); the last checkpoint stays; lower "
                               "optimizer.lr or look at the samples", what, r->skips.in_a_row, r->skips.in_a_row > 1 ? "s" : "");
    arena_free(&text);
    return e;
}

static err update(run *r, const step_record *s)
{
    ranks_phase(r->ranks, PHASE_UPDATE, s->step);
    double most = r->config->train.max_grad_norm;
    TRY(r->sharded ? sharded_update(r->sharded, s->grad_norm, most, s->lr)
                   : optimizer_update(r->optimizer, s->grad_norm, most, s->lr));
    r->skips.in_a_row = 0;
    if (r->average)
        TRY(run_reduce_settle(r));
    return r->average ? average_update(r->average) : OK;
}

err run_step(step_record *record, run *r)
{
    double started = clock_seconds();
    sample_names names = {.text = ""};
    *record = (step_record){.step = r->step + 1, .lr = schedule_rate(run_config_schedule(r->config), r->step + 1)};
    optimizer_begin(r->optimizer);
    err e = accumulate(record, &names, r);
    ranks_phase(r->ranks, PHASE_REDUCE, record->step);
    if (e == OK)
        e = run_reduce_step(record, r);
    if (e == OK)
        e = isfinite(record->loss) && isfinite(record->grad_norm) ? update(r, record) : skip(r, record, &names);
    arena_free(&names.memory);
    optimizer_drop(r->optimizer);
    TRY(e);
    r->step = record->step;
    record->skipped = r->skips.all;
    record->seconds = clock_seconds() - started;
    record->images_per_second = (double)step_samples(r) / record->seconds;
    return OK;
}
