#include "train/train.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/progress.h"
#include "train/checkpoint_list.h"
#include "train/interrupt.h"
#include "train/run.h"
#include "train/run_log.h"

static step_models models_of(const run *r)
{
    return (step_models){.unet = &r->unet, .adapter = &r->adapter,
                         .schedule = {.signal = r->schedule.signal, .noise = r->schedule.noise, .count = r->schedule.count}};
}

/* ---- one step ---- */

static err not_finite(const run *r, int64_t step, double loss, double grad_norm)
{
    arena text = {0};
    const char *samples = "";
    for (int64_t i = 0; i < r->batches.batch.B; i++)
        samples = arena_print(&text, "%s%s%s:%" PRId64, samples, i ? ", " : "", r->dataset.path, r->batches.chosen[i]->line);
    err e = err_set(E_NUMERIC, "step %" PRId64 ": loss %g, gradient norm %g; the weights are left as they were and the last "
                               "checkpoint stays; the last samples were %s; lower optimizer.lr or look at them", step, loss, grad_norm,
                    samples);
    arena_free(&text);
    return e;
}

static err accumulate(run *r, int64_t step, double *loss)
{
    step_models models = models_of(r);
    int64_t parts = r->config->train.accumulation;
    *loss = 0;
    for (int64_t micro = 0; micro < parts; micro++) {
        double part = 0;
        TRY(batch_source_make(&r->batches, step, micro));
        if (r->options->dump_batches)
            TRY(batch_source_dump(&r->batches, r->options->dump_batches, step, micro));
        TRY(train_step(&part, NULL, r->graph, &models, &r->batches.batch, parts));
        *loss += part / (double)parts;
        if (!isfinite(*loss))
            return not_finite(r, step, *loss, (double)NAN);
    }
    return OK;
}

static err do_step(run *r, step_record *record)
{
    double started = clock_seconds();
    record->step = r->step + 1;
    record->lr = schedule_rate(run_config_schedule(r->config), record->step);
    optimizer_begin(r->optimizer);
    TRY(accumulate(r, record->step, &record->loss));
    TRY(optimizer_norm(&record->grad_norm, r->optimizer));
    if (!isfinite(record->grad_norm))
        return not_finite(r, record->step, record->loss, record->grad_norm);
    TRY(optimizer_update(r->optimizer, record->grad_norm, r->config->train.max_grad_norm, record->lr));
    r->step = record->step;
    record->seconds = clock_seconds() - started;
    return OK;
}

/* ---- saving ---- */

static err save(run *r)
{
    arena memory = {0};
    checkpoint c = run_checkpoint(r, &memory);
    const char *dir = r->config->output.dir;
    err e = checkpoint_save(dir, &c);
    if (e == OK) {
        log_info(r->log, "saved %s/step-%06" PRId64, dir, r->step);
        checkpoint_rotate(dir, r->config->output.keep, r->step);
    }
    arena_free(&memory);
    return e;
}

static err write_adapter(run *r, const char *folder, const char *name)
{
    arena memory = {0};
    checkpoint c = run_checkpoint(r, &memory);
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

static void show(progress *bar, const step_record *s, double average, int64_t pictures)
{
    char text[160];
    snprintf(text, sizeof text, "loss %.5f, average %.5f, norm %.4f, lr %.2e, %.2f pictures/s", s->loss, average, s->grad_norm,
             s->lr, (double)pictures / s->seconds);
    progress_update(bar, s->step, text);
}

static err loop(run *r, file_log *log)
{
    const run_config *c = r->config;
    int64_t pictures = c->train.batch_size * c->train.accumulation, saved = r->step;
    progress bar = progress_start(r->log, "train", "steps", r->step, c->train.steps);
    double average = 0;
    bool first = true;
    err e = OK;
    while (r->step < c->train.steps && e == OK) {
        step_record s = {0};
        TRY(do_step(r, &s));
        TRY(run_log_write(log, &s));
        average = first ? s.loss : 0.95 * average + 0.05 * s.loss;
        first = false;
        show(&bar, &s, average, pictures);
        e = interrupt_seen();
        bool due = c->output.checkpoint_every > 0 && r->step % c->output.checkpoint_every == 0;
        if ((due || e != OK || r->step == c->train.steps) && r->step > saved) {
            logger_clear(r->log);
            TRY(save(r));
            saved = r->step;
        }
    }
    progress_end(&bar);
    if (e != OK && r->step < c->train.steps)
        return err_set(e, "interrupted after step %" PRId64 " of %" PRId64 ", which is saved; go on with --resume auto", r->step,
                       c->train.steps);
    return write_adapter(r, c->output.dir, "adapter.safetensors");
}

static err train_open_run(run *r)
{
    file_log *log = NULL;
    TRY(dump_start(r));
    char *path = path_join(r->config->output.dir, "log.jsonl");
    err e = run_log_open(&log, path, r->step);
    free(path);
    TRY(e);
    interrupt_watch();
    e = loop(r, log);
    interrupt_unwatch();
    file_log_close(log);
    return e;
}

err train_run(const train_options *o, logger *log)
{
    run r;
    bool finished = false;
    err e = run_open(&r, &finished, o, log);
    if (e == OK && !finished)
        e = train_open_run(&r);
    run_close(&r);
    return e;
}
