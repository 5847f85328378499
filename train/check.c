#include "train/check.h"

#include <stdlib.h>

#include "base/file.h"
#include "data/hf_folder.h"
#include "data/weights.h"
#include "model/clip_text.h"
#include "model/clip_vision.h"
#include "model/unet_config.h"
#include "model/vae.h"
#include "train/job_list.h"
#include "train/sample_view.h"

typedef err parse_config(const json_t *config, const char *where);

static err parse_unet(const json_t *config, const char *where)
{
    unet_config out;
    return unet_config_parse(&out, config, where);
}

static err parse_vae(const json_t *config, const char *where)
{
    vae_config out;
    return vae_config_parse(&out, config, where);
}

static err parse_text(const json_t *config, const char *where)
{
    clip_text_config out;
    return clip_text_config_parse(&out, config, where, false);
}

static err parse_text_2(const json_t *config, const char *where)
{
    clip_text_config out;
    return clip_text_config_parse(&out, config, where, true);
}

static err parse_vision(const json_t *config, const char *where)
{
    clip_vision_config out;
    return clip_vision_config_parse(&out, config, where);
}

static void note(problems *p, const run_config *c, const char *key, err failed)
{
    if (failed)
        run_config_problem(p, c, err_as(failed, E_MODEL), key, "%s", err_message());
}

/* One network: its config.json, and the headers of its weights. component NULL: the folder is the network's own. */
static void check_network(problems *p, const run_config *c, const char *key, const char *folder, const char *component,
                          parse_config *parse)
{
    json_t *config;
    err failed = hf_config(&config, folder, component);
    if (failed == OK) {
        char *where = hf_path(folder, component, "config.json");
        failed = parse(config, where);
        free(where);
        json_decref(config);
    }
    note(p, c, key, failed);
    weights *w;
    failed = weights_open_component(&w, folder, component);
    note(p, c, key, failed);
    if (failed == OK)
        weights_close(w);
}

static void check_tokenizer(problems *p, const run_config *c, const char *component)
{
    static const char *const names[] = {"vocab.json", "merges.txt"};
    for (int i = 0; i < 2; i++) {
        char *path = hf_path(c->model.base, component, names[i]);
        if (!file_exists(path))
            run_config_problem(p, c, E_MODEL, "model.base",
                               "%s: no such file; the tokenizer needs vocab.json and merges.txt", path);
        free(path);
    }
}

static void check_base(problems *p, const run_config *c)
{
    static const struct {
        const char   *component;
        parse_config *parse;
    } network[] = {
        {"unet", parse_unet}, {"vae", parse_vae}, {"text_encoder", parse_text}, {"text_encoder_2", parse_text_2}};
    static const char *const tokenizer[] = {"tokenizer", "tokenizer_2"};
    static const char *const all[] = {"unet",        "vae", "text_encoder", "text_encoder_2", "tokenizer",
                                      "tokenizer_2", NULL};
    note(p, c, "model.base", hf_check_components(c->model.base, all));
    for (int i = 0; i < 4; i++) {
        char *folder = path_join(c->model.base, network[i].component);
        if (folder_exists(folder)) /* missing ones were named together */
            check_network(p, c, "model.base", c->model.base, network[i].component, network[i].parse);
        free(folder);
    }
    for (int i = 0; i < 2; i++) {
        char *folder = path_join(c->model.base, tokenizer[i]);
        if (folder_exists(folder))
            check_tokenizer(p, c, tokenizer[i]);
        free(folder);
    }
}

void check_model(problems *p, const run_config *c)
{
    if (c->model.base && folder_exists(c->model.base))
        check_base(p, c);
    else if (c->model.base)
        run_config_problem(p, c, E_MODEL, "model.base", "%s: no such folder; give the pipeline folder of SDXL",
                           c->model.base);
    if (c->model.image_encoder && folder_exists(c->model.image_encoder))
        check_network(p, c, "model.image_encoder", c->model.image_encoder, NULL, parse_vision);
    else if (c->model.image_encoder)
        run_config_problem(p, c, E_MODEL, "model.image_encoder",
                           "%s: no such folder; give the folder of a CLIP vision model", c->model.image_encoder);
    if (!c->model.adapter)
        return;
    tensor_file adapter;
    err failed = tensor_file_open(&adapter, c->model.adapter);
    note(p, c, "model.adapter", failed);
    if (failed == OK)
        tensor_file_close(&adapter);
}

/* Pictures that cannot be read were reported already. */
static void count_buckets(check_counts *counts, const manifest *m, const run_config *c)
{
    counts->per_step = c->train.batch_size * c->train.accumulation;
    counts->resolution = c->data.buckets ? c->data.resolution : 0;
    for (int64_t i = 0; c->data.buckets && i < m->count; i++) {
        int bucket;
        if (m->sample[i].image && sample_view_bucket(&bucket, &m->sample[i], c) == OK)
            counts->bucket[bucket]++;
    }
}

/* The samples of a list and their pictures; counts NULL for the one that is only held out. */
static void check_list(check_counts *counts, problems *p, const run_config *c, const char *key, const char *path,
                       const check_look *how)
{
    manifest m;
    if (!file_exists(path)) { /* the line of RUN.yaml helps more than the path alone */
        run_config_problem(p, c, E_DATASET, key, "%s: %s", path,
                           folder_exists(path) ? "is a folder; give the file of samples in it" : "no such file");
        return;
    }
    manifest_load(&m, p, path, c->data.max_subjects);
    int64_t pictures = check_pictures(counts ? &counts->of : NULL, p, &m, how);
    if (counts) {
        counts->samples = m.count;
        counts->pictures = pictures;
        for (int64_t i = 0; i < m.count; i++)
            counts->subjects += m.sample[i].subjects;
        count_buckets(counts, &m, c);
    }
    manifest_free(&m);
}

static void check_jobs(problems *p, const run_config *c)
{
    job_list *jobs = heap_get(sizeof *jobs);
    job_list_load(jobs, p->memory, p, c->output.samples);
    free(jobs);
}

void check_run(check_counts *counts, problems *p, const char *path, const char *const *sets, int set_count,
               const check_look *how)
{
    *counts = (check_counts){0};
    arena memory = {0};
    run_config *c;
    run_config_load(&c, &memory, p, path, sets, set_count); /* its result is in the problems */
    if (c) {
        check_model(p, c);
        if (c->data.manifest)
            check_list(counts, p, c, "data.manifest", c->data.manifest, how);
        if (c->data.validation)
            check_list(NULL, p, c, "data.validation", c->data.validation, how);
        if (c->output.samples)
            check_jobs(p, c);
    }
    arena_free(&memory);
}
