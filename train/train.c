#include "train/train.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/progress.h"
#include "train/checkpoint_list.h"
#include "train/interrupt.h"
#include "train/run_reduce.h"
#include "train/run_step.h"
#include "train/watch.h"

/* ---- saving: rank 0's ---- */

static bool writes(const run *r)
{
    return ranks_rank(r->ranks) == 0;
}

static err write_checkpoint(run *r, optimizer *moments)
{
    arena memory = {0};
    checkpoint c = run_checkpoint(r, &memory, moments);
    const char *dir = r->config->output.dir;
    err e = checkpoint_save(dir, &c);
    if (e == OK) {
        log_info(r->log, "saved %s/step-%06" PRId64, dir, r->step);
        if (r->skips.in_a_row == 0) /* else older ones may be the better ones */
            checkpoint_rotate(dir, r->config->output.keep, r->step);
    }
    arena_free(&memory);
    return e;
}

static err save(run *r)
{
    whole_optimizer moments;
    ranks_phase(r->ranks, PHASE_SAVE, r->step);
    err e = run_reduce_collect(&moments, r);
    if (e == OK && writes(r))
        e = write_checkpoint(r, moments.o);
    run_reduce_drop(&moments);
    return e;
}

static err write_adapter(run *r, const char *folder, const char *name)
{
    TRY(run_reduce_settle(r));
    if (!writes(r))
        return OK;
    arena memory = {0};
    checkpoint c = run_checkpoint(r, &memory, r->optimizer);
    char *path = path_join(folder, name);
    err e = checkpoint_write_adapter(path, &c);
    free(path);
    arena_free(&memory);
    return e;
}

static err dump_start(run *r)
{
    const char *folder = r->options->dump_batches;
    if (!folder)
        return OK;
    arena text = {0};
    err e = folder_make(folder);
    if (e == OK)
        e = write_adapter(r, folder, arena_print(&text, "adapter-%06" PRId64 ".safetensors", r->step));
    arena_free(&text);
    return e;
}

/* ---- the loop ---- */

static void show(progress *bar, const run *r, const step_record *s, double mean)
{
    char text[256], skipped[48] = "";
    if (s->skipped)
        snprintf(skipped, sizeof skipped, ", %" PRId64 " skipped", s->skipped);
    snprintf(text, sizeof text, "loss %.5f, average %.5f, norm %.4f, lr %.2e, %.2f pictures/s, wait %.0f %%, %.2f GiB%s", s->loss,
             mean, s->grad_norm, s->lr, s->images_per_second, 100 * s->wait / s->seconds,
             (double)r->dev->memory->total_peak / (double)(1 << 30), skipped);
    progress_update(bar, s->step, text);
}

/* After a whole interval without a save, but not while steps fail: then what is on disk may be the better state. */
static bool save_due(const run *r, int64_t saved)
{
    int64_t every = r->config->output.checkpoint_every;
    return every > 0 && r->step / every > saved / every && r->skips.in_a_row == 0;
}

/* Among ranks what a signal to any of them asked for, which all know from the last step. */
static err ending_asked(const run *r)
{
    return r->ranks ? r->ending : interrupt_seen();
}

static bool save_asked(const run *r)
{
    return r->ranks ? r->save_asked : interrupt_save_asked();
}

static void tell_bad_samples(const run *r)
{
    int64_t bad = r->ranks ? r->bad_samples : r->batches.bad_samples;
    if (bad && writes(r))
        log_warning(r->log, "%" PRId64 " bad sample%s passed over, others stood in; msd check names them all", bad,
                    bad == 1 ? "" : "s");
}

static err loop(run *r, file_log *log, watch *w)
{
    const run_config *c = r->config;
    int64_t saved = r->step, started = r->step;
    progress bar = progress_start(r->log, "train", "steps", r->step, c->train.steps);
    double mean = NAN;
    err ending = OK;
    while (r->step < c->train.steps && ending == OK) {
        step_record s;
        TRY(run_step(&s, r));
        watch_validate(w, &s);
        if (log)
            TRY(run_log_write(log, &s));
        if (isfinite(s.loss))
            mean = isfinite(mean) ? 0.95 * mean + 0.05 * s.loss : s.loss;
        watch_record(w, &s, mean);
        show(&bar, r, &s, mean);
        ending = ending_asked(r);
        bool asked = save_asked(r) || ending != OK || r->step == c->train.steps;
        if ((asked || save_due(r, saved)) && r->step > saved) {
            logger_clear(r->log);
            TRY(save(r));
            saved = r->step;
        }
        if (ending == OK)
            TRY(watch_draw(w));
    }
    progress_end(&bar);
    tell_bad_samples(r);
    run_reduce_tell(r, r->step - started);
    planned_tell(r->steps, r->log);
    TRY(ranks_barrier(r->ranks)); /* nobody leaves while rank 0 saves */
    if (ending != OK && r->step < c->train.steps)
        return err_set(ending, "interrupted after step %" PRId64 " of %" PRId64 ", which is saved; go on with --resume auto", r->step,
                       c->train.steps);
    return write_adapter(r, c->output.dir, "adapter.safetensors");
}

static err open_log(file_log **log, const run *r)
{
    char *path = path_join(r->config->output.dir, "log.jsonl");
    err e = run_log_open(log, path, r->step);
    free(path);
    return e;
}

static err train_watched(run *r, watch *w)
{
    file_log *log = NULL;
    TRY(watch_open(w, r));
    TRY(dump_start(r));
    if (writes(r))
        TRY(open_log(&log, r));
    interrupt_watch();
    err e = loop(r, log, w);
    file_log_close(log);
    return e;
}

static err train_open_run(run *r)
{
    watch w;
    err e = train_watched(r, &w);
    watch_close(&w);
    return e;
}

static err train_among(ranks *all, const train_options *o, logger *log)
{
    run r;
    bool finished = false;
    interrupt_begin();
    err e = run_open(&r, &finished, o, all, log);
    if (e == OK && !finished)
        e = train_open_run(&r);
    run_close(&r);
    interrupt_end();
    return e;
}

err train_run(const train_options *o, logger *log)
{
    ranks *all = NULL;
    logger silent = *log;
    silent.quiet = true;
    TRY(ranks_open(&all, log));
    return ranks_close(all, train_among(all, o, ranks_rank(all) == 0 ? log : &silent));
}
