#include "train/sampling.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/fingerprint.h"
#include "infer/generate.h"
#include "train/interrupt.h"
#include "train/job_list.h"
#include "train/run_reduce.h"

struct sampling {
    run     *r;
    arena    memory;
    logger   log;    /* quiet: the run's own lines are enough */
    char    *folder; /* RUN/samples */
    job_list jobs;
};

/* ---- the networks ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const parameter *const *)a)->name, (*(const parameter *const *)b)->name);
}

static err hash_one(hash_state *h, const parameter *p)
{
    int64_t count = tensor_count(p->t);
    size_t bytes = (size_t)count * sizeof(float);
    float *values = heap_get(bytes);
    err e = tensor_download(values, DT_F32, p->t);
    if (e == OK)
        fingerprint_add(h, &(stored_tensor){.name = p->name, .type = STORED_F32, .ndim = p->t->ndim, .dim = p->t->dim,
                                            .count = count, .bytes = bytes, .data = (const uint8_t *)values});
    free(values);
    return e;
}

/* What fingerprint() would say of the adapter's file. */
static err hash_adapter(char hex[65], const run *r)
{
    const parameters *p = &r->parameters;
    const parameter **sorted = heap_get((size_t)p->count * sizeof *sorted);
    for (int i = 0; i < p->count; i++)
        sorted[i] = &p->all[i];
    qsort(sorted, (size_t)p->count, sizeof *sorted, by_name);
    hash_state *h = hash_start();
    err e = OK;
    for (int i = 0; i < p->count && e == OK; i++)
        e = hash_one(h, sorted[i]);
    hash_end(hex, h);
    free(sorted);
    return e;
}

static err open_pipeline(pipeline **out, sampling *s, const char *hash)
{
    run *r = s->r;
    pipeline_files files = {.model = r->config->model.base, .image_encoder = r->config->model.image_encoder,
                            .type = parameters_type(r->config)};
    pipeline_networks networks = {
        .unet = &r->unet, .adapter = run_adapter(r), .encoders = r->encoders, .adapter_hash = hash};
    return pipeline_open_with(out, r->dev, &files, &networks, &s->log);
}

/* ---- the jobs ---- */

static err read_jobs(sampling *s)
{
    problems found = {.memory = &s->memory};
    job_list_load(&s->jobs, &s->memory, &found, s->r->config->output.samples);
    return problems_report(&found, stderr, 50);
}

/* Sizes and steps against the model; what will be drawn otherwise than one might think. */
static err check_jobs(sampling *s)
{
    char none[65] = "";
    pipeline *p = NULL;
    TRY(open_pipeline(&p, s, none));
    err e = OK;
    for (int i = 0; i < s->jobs.count && e == OK; i++) {
        if (ranks_rank(s->r->ranks) == 0)
            job_warn(&s->jobs.item[i], s->r->log);
        e = pipeline_complete(p, &s->jobs.item[i]);
        if (e != OK)
            e = err_prefix(e, "%s: job %d", s->r->config->output.samples, i + 1);
    }
    pipeline_close(p);
    return e;
}

err sampling_open(sampling **out, run *r)
{
    *out = NULL;
    if (!r->config->output.samples || !r->config->output.sample_every)
        return OK;
    sampling *s = heap_get(sizeof *s);
    *s = (sampling){.r = r, .log = *r->log, .folder = path_join(r->config->output.dir, "samples")};
    s->log.quiet = true;
    err e = read_jobs(s);
    if (e == OK)
        e = check_jobs(s);
    if (e == OK)
        e = folder_make(s->folder);
    if (e != OK) {
        sampling_close(s);
        return e;
    }
    *out = s;
    return OK;
}

void sampling_close(sampling *s)
{
    if (!s)
        return;
    free(s->folder);
    arena_free(&s->memory);
    free(s);
}

/* ---- drawing ---- */

static const char *stem_of(arena *words, const sampling *s, int i)
{
    return arena_print(words, "%s/step-%06" PRId64 "_%02d", s->folder, s->r->step, i);
}

static void tell(arena *words, const sampling *s, int i, sampling_told told, void *user)
{
    const char *path = arena_print(words, s->jobs.item[i].batch_count > 1 ? "%s_0.png" : "%s.png", stem_of(words, s, i));
    if (told && file_exists(path))
        told(user, i, path);
}

static err draw_job(sampling *s, pipeline *p, int i, sampling_told told, void *user)
{
    arena words = {0};
    job j = s->jobs.item[i];
    ranks_phase(s->r->ranks, PHASE_SAMPLES, s->r->step);
    j.output = arena_print(&words, "%s.png", stem_of(&words, s, i));
    err e = generate_pictures(p, &j, &s->log);
    if (e == OK && !s->r->ranks)
        tell(&words, s, i, told, user);
    arena_free(&words);
    return e;
}

/* This rank's jobs. */
static err draw_own(sampling *s, sampling_told told, void *user)
{
    char hash[65];
    pipeline *p = NULL;
    int first = ranks_rank(s->r->ranks), step = ranks_count(s->r->ranks);
    if (first >= s->jobs.count)
        return OK;
    TRY(hash_adapter(hash, s->r));
    TRY(open_pipeline(&p, s, hash));
    err e = OK;
    for (int i = first; i < s->jobs.count && e == OK && interrupt_seen() == OK; i += step)
        e = draw_job(s, p, i, told, user);
    pipeline_close(p);
    return e;
}

static err draw_all(sampling *s, sampling_told told, void *user)
{
    arena words = {0};
    err e = draw_own(s, told, user);
    const char *message = arena_copy_string(&words, e == OK ? "" : err_message());
    err together = ranks_barrier(s->r->ranks); /* also after a failure: the others wait there */
    for (int i = 0; i < s->jobs.count && s->r->ranks && ranks_rank(s->r->ranks) == 0; i++)
        tell(&words, s, i, told, user);
    e = e == OK ? together : err_set(e, "%s", message);
    arena_free(&words);
    return e;
}

static err swap(run *r)
{
    TRY(average_swap(r->average));
    return parameters_refresh_copies(&r->parameters);
}

err sampling_draw(bool *restored, sampling *s, sampling_told told, void *user)
{
    run *r = s->r;
    *restored = true;
    TRY(run_reduce_settle(r));
    if (!r->average)
        return draw_all(s, told, user);
    TRY(swap(r));
    err e = draw_all(s, told, user);
    arena words = {0};
    const char *message = arena_copy_string(&words, e == OK ? "" : err_message());
    err back = swap(r);
    *restored = back == OK;
    if (back == OK && e != OK)
        e = err_set(e, "%s", message);
    arena_free(&words);
    return back == OK ? e : back;
}
