#include "train/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/threads.h"
#include "data/adapter_file.h"
#include "data/fingerprint.h"
#include "infer/load_unet.h"
#include "train/checkpoint_list.h"
#include "train/micro_step.h"
#include "train/resume.h"
#include "train/run_reduce.h"
#include "train/start_facts.h"

enum { MOST_AHEAD = 4 }; /* threads that read samples ahead */

/* ---- config and dataset ---- */

static err read_inputs(run *r)
{
    problems found = {.memory = &r->memory};
    run_config_load(&r->config, &r->memory, &found, r->options->config, r->options->set, r->options->sets);
    if (found.errors == 0)
        manifest_load(&r->dataset, &found, r->config->data.manifest, r->config->data.max_subjects);
    TRY(problems_report(&found, stderr, 50));
    r->config_text = run_config_text(&r->memory, r->config);
    return OK;
}

/* Rank 0 first, so that what is wrong is said once. */
static err read_together(run *r)
{
    char go = 1;
    bool first = ranks_rank(r->ranks) == 0;
    if (first)
        TRY(read_inputs(r));
    if (first && ranks_how(r->ranks) == RANKS_ENVIRONMENT && !strcmp(parameters_device(r->config), "cpu"))
        return err_set(E_DISTRIBUTED, "RANK and WORLD_SIZE say %d processes, but on the CPU they work together by MPI alone: start "
                                      "them with mpirun -np %d msd train %s, or unset RANK and WORLD_SIZE for one process",
                       ranks_count(r->ranks), ranks_count(r->ranks), r->options->config);
    TRY(ranks_broadcast(r->ranks, &go, sizeof go));
    if (!first)
        TRY(read_inputs(r));
    ranks_watch(r->ranks, r->config->train.watchdog);
    return start_compare(r->ranks, r->config);
}

/* Rank 0's, which alone writes there. */
static err take_folder(run *r)
{
    const char *dir = r->config->output.dir;
    if (ranks_rank(r->ranks) > 0)
        return OK;
    TRY(folder_make(dir));
    char *path = path_join(dir, ".lock");
    err e = file_lock(&r->lock, path);
    free(path);
    if (e == OK)
        checkpoint_sweep(dir);
    return e;
}

/* The step folder to go on from (NULL: none): rank 0's choice. */
static err choose_start(char **from, run *r)
{
    struct {
        int64_t step;
        char    folder[4096];
    } chosen = {0};
    if (ranks_rank(r->ranks) == 0) {
        TRY(resume_find(from, &chosen.step, r));
        if (*from && strlen(*from) >= sizeof chosen.folder && r->ranks)
            return err_set(E_CHECKPOINT, "%s: the path is longer than %zu bytes", *from, sizeof chosen.folder - 1);
        snprintf(chosen.folder, sizeof chosen.folder, "%s", *from ? *from : "");
    }
    TRY(ranks_broadcast(r->ranks, &chosen, sizeof chosen));
    r->step = chosen.step;
    if (ranks_rank(r->ranks) == 0 || !chosen.folder[0])
        return OK;
    chosen.folder[sizeof chosen.folder - 1] = 0;
    *from = heap_get(strlen(chosen.folder) + 1);
    strcpy(*from, chosen.folder);
    return OK;
}

/* ---- models ---- */

static err fingerprint_base(run *r)
{
    weights *w = NULL;
    TRY(weights_open_component(&w, r->config->model.base, "unet"));
    fingerprint(r->base, &w->all);
    weights_close(w);
    return OK;
}

static err new_adapter(run *r)
{
    const run_config *c = r->config;
    const encoder_sizes *z = &r->source->sizes;
    resampler_sizes sizes = {
        .dim = c->adapter.dim, .depth = c->adapter.depth, .heads = c->adapter.heads, .queries = c->adapter.queries,
        .image_width = z->picture_width, .phrase_width = z->phrase_width, .hidden_width = 4 * c->adapter.dim,
        .out_width = r->unet.config.text_width,
    };
    return adapter_new(&r->adapter, &r->memory, r->dev, &sizes, &r->unet, (uint64_t)c->train.seed);
}

/* Samples out of the cache, or by the encoders. */
static err open_source(run *r, dtype type)
{
    const run_config *c = r->config;
    if (c->data.cache)
        return cache_source_open(&r->source, c, &r->dataset, r->log);
    TRY(encoders_open(&r->encoders, r->dev, type, c->model.base, c->model.image_encoder,
                      ENCODE_TEXT | ENCODE_PHRASE | ENCODE_PICTURE | ENCODE_LATENT));
    return encoder_source_open(&r->source, c, &r->dataset, r->encoders);
}

static err load_models(run *r)
{
    const run_config *c = r->config;
    load_target to = {.owner = &r->memory, .dev = r->dev, .type = parameters_type(c)};
    scheduler_config scheduler;
    log_info(r->log, "loading %s", c->model.base);
    TRY(scheduler_config_load(&scheduler, c->model.base));
    if (c->train.timesteps[1] > scheduler.train_timesteps)
        return err_set(E_CONFIG, "train.timesteps: [%" PRId64 ", %" PRId64 "] goes beyond the %" PRId64 " of the model's scheduler",
                       c->train.timesteps[0], c->train.timesteps[1], scheduler.train_timesteps);
    noise_schedule_make(&r->schedule, &r->memory, &scheduler);
    TRY(open_source(r, to.type));
    TRY(load_unet(&r->unet, &to, c->model.base));
    TRY(fingerprint_base(r));
    if (c->model.adapter) {
        TRY(load_adapter(&r->adapter, &to, c->model.adapter, &r->unet.config, true));
        const resampler_sizes *z = &r->adapter.image_proj.sizes;
        return r->encoders ? encoders_check_adapter(r->encoders, z->image_width, z->phrase_width)
                           : encoder_sizes_check_adapter(&r->source->sizes, z->image_width, z->phrase_width);
    }
    return new_adapter(r);
}

/* ---- parameters ---- */

static err list_parameters(run *r)
{
    const run_config *c = r->config;
    parameters_list(&r->parameters, &r->memory, &r->adapter, c);
    if (parameters_type(c) == DT_F32)
        return OK;
    TRY(adapter_copy(&r->running, &r->memory, r->dev, &r->adapter, parameters_type(c)));
    parameters_set_copies(&r->parameters, &r->running);
    return OK;
}

static err make_optimizer(run *r)
{
    const run_config *c = r->config;
    const parameters *p = &r->parameters;
    adamw how = parameters_adamw(c);
    TRY(run_reduce_open(r));
    how.elsewhere = r->reduction && r->reduction->sharded;
    how.passing = !r->reduction && c->train.accumulation == 1;
    TRY(optimizer_new(&r->optimizer, &r->memory, r->dev, p->trained, p->trained_count, how));
    TRY(run_reduce_share(r));
    if (!(c->train.ema > 0))
        return OK;
    return average_new(&r->average, &r->memory, r->dev, p->trained, p->trained_count, c->train.ema);
}

const ms_adapter *run_adapter(const run *r)
{
    return r->running.pair ? &r->running : &r->adapter;
}

checkpoint run_checkpoint(run *r, arena *memory, optimizer *moments)
{
    const resampler_sizes *z = &r->adapter.image_proj.sizes;
    adapter_file_sizes sizes = {
        .dim = z->dim, .depth = z->depth, .heads = z->heads, .queries = z->queries, .image_width = z->image_width,
        .phrase_width = z->phrase_width, .ff_width = z->hidden_width, .cross_width = z->out_width, .pairs = r->adapter.pairs,
        .dummy_tokens = ADAPTER_DUMMY_TOKENS,
    };
    checkpoint c = {.tensor = r->parameters.all, .tensors = r->parameters.count, .optimizer = moments,
                    .average = r->average, .config = r->config_text, .step = r->step, .skips = r->skips,
                    .ranks = ranks_count(r->ranks)};
    c.metadata_count = adapter_file_metadata(&c.metadata, memory, &sizes, r->base, arena_print(memory, "%" PRId64, r->step));
    return c;
}

/* ---- opening and closing ---- */

static err open_batches(run *r)
{
    int readers = threads_usable() < MOST_AHEAD ? threads_usable() : MOST_AHEAD;
    return batch_source_open(&r->batches, r->config, &r->dataset, r->source, r->schedule.count, readers, ranks_rank(r->ranks),
                             ranks_count(r->ranks), r->log);
}

static err write_config(run *r)
{
    if (ranks_rank(r->ranks) > 0)
        return OK;
    char *path = path_join(r->config->output.dir, "config.yaml");
    file_writer *w = NULL;
    err e = file_create(&w, path);
    free(path);
    TRY(e);
    file_write(w, r->config_text, strlen(r->config_text));
    return file_publish(w);
}

err run_open(run *r, bool *finished, const train_options *o, ranks *all, logger *log)
{
    *r = (run){.options = o, .log = log, .ranks = all, .lock = -1};
    *finished = false;
    char *from = NULL;
    TRY(read_together(r));
    TRY(take_folder(r));
    err e = choose_start(&from, r);
    if (e != OK)
        goto done;
    if (from && r->step >= r->config->train.steps) {
        log_info(log, "%s has all %" PRId64 " steps; raise train.steps to go on", from, r->config->train.steps);
        *finished = true;
        free(from);
        return OK;
    }
    ranks_phase(all, PHASE_START, 0);
    TRY_GOTO(e, parameters_open_device(&r->dev, r->config, r->ranks, o->threads), done);
    TRY_GOTO(e, load_models(r), done);
    ranks_phase(all, PHASE_START, 0);
    TRY_GOTO(e, list_parameters(r), done);
    TRY_GOTO(e, open_batches(r), done);
    TRY_GOTO(e, make_optimizer(r), done);
    if (from)
        TRY_GOTO(e, resume_load(r, from), done);
    TRY_GOTO(e, parameters_refresh_copies(&r->parameters), done);
    TRY_GOTO(e, micro_step_plan(r), done);
    ranks_phase(all, PHASE_START, 0);
    e = write_config(r);
done:
    free(from);
    return e;
}

void run_close(run *r)
{
    if (r->batches.config)
        batch_source_close(&r->batches);
    sample_source_close(r->source);
    planned_close(r->steps);
    average_free(r->average);
    run_reduce_close(r);
    optimizer_free(r->optimizer);
    adapter_release(&r->running);
    adapter_release(&r->adapter);
    unet_release(&r->unet);
    encoders_close(r->encoders);
    device_close(r->dev);
    manifest_free(&r->dataset);
    if (r->lock >= 0)
        file_unlock(r->lock);
    arena_free(&r->memory);
}
