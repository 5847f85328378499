#include "train/prepare.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/device.h"
#include "base/file.h"
#include "base/progress.h"
#include "base/text.h"
#include "base/threads.h"
#include "train/interrupt.h"
#include "train/parameters.h"
#include "train/prepare_encode.h"
#include "train/sample_source.h"

enum { MOST_AHEAD = 4, PROBLEM_LINES = 50 };
static const int64_t SPARE_BYTES = (int64_t)8 << 20; /* manifest, headers, the file system's own */
static const int64_t JOURNAL_BYTES = (int64_t)160 << 20; /* entries lie in journal and shard for a moment */

typedef struct preparing {
    const prepare_options *options;
    ranks        *all;
    logger       *log;
    arena         memory;
    problems      found;
    run_config   *config;
    manifest      set[2]; /* training, validation */
    file_stamps  *stamps;
    cache        *store;
    cache_origin  now;
    prepare_plan  plan;
    bool          stale; /* the origin in the manifest is another */
} preparing;

static bool is_first(const preparing *p)
{
    return ranks_rank(p->all) == 0;
}

/* ---- reading ---- */

static err read_inputs(preparing *p)
{
    const prepare_options *o = p->options;
    p->found = (problems){.memory = &p->memory};
    run_config_load(&p->config, &p->memory, &p->found, o->config, o->set, o->sets);
    const run_config *c = p->config;
    if (c && !p->found.errors && !c->data.cache)
        run_config_problem(&p->found, c, E_CONFIG, "data.cache",
                           "off; name the folder to encode into, e.g. --set data.cache=cache");
    if (!p->found.errors && !o->verify && !o->stat)
        manifest_load(&p->set[0], &p->found, c->data.manifest, c->data.max_subjects);
    if (!p->found.errors && !o->verify && !o->stat && c->data.validation)
        manifest_load(&p->set[1], &p->found, c->data.validation, c->data.max_subjects);
    TRY(problems_report(&p->found, stderr, PROBLEM_LINES));
    char *table = path_join(c->data.cache, "files");
    p->stamps = file_stamps_open(table);
    free(table);
    return OK;
}

static err check_components(const cache_origin *o, const run_config *c)
{
    for (int i = 0; i < CACHE_ENCODER_COUNT; i++)
        if (!o->encoder[i][0])
            return err_set(E_MODEL, "%s: %s: no such folder; it is needed to encode the dataset",
                           i == CACHE_IMAGE_ENCODER ? c->model.image_encoder : c->model.base, cache_encoder_name((cache_encoder)i));
    return OK;
}

/* What the cache was made with, against what is here now. */
static err compare_origins(preparing *p)
{
    const cache_origin *then = cache_get_origin(p->store), *now = &p->now;
    p->stale = !then->encoder[0][0] || then->type != now->type;
    if (!then->encoder[0][0])
        return OK;
    if (then->computed != now->computed)
        return err_set(E_CACHE, "%s: was computed in %s, this run computes in %s; set device.dtype, or name another data.cache",
                       p->config->data.cache, stored_type_name(then->computed), stored_type_name(now->computed));
    for (int i = 0; i < CACHE_ENCODER_COUNT; i++) {
        if (!strcmp(then->encoder[i], now->encoder[i]))
            continue;
        p->stale = true;
        log_info(p->log, "%s: %s is another one than before: what it made is encoded again; --gc drops the old",
                 p->config->data.cache, cache_encoder_name((cache_encoder)i));
    }
    return OK;
}

static err make_plan(preparing *p)
{
    TRY(sample_keys_origin(&p->now, p->config, p->stamps));
    TRY(check_components(&p->now, p->config));
    TRY(compare_origins(p));
    for (int i = 0; i < 2; i++)
        prepare_plan_add(&p->plan, &p->found, &p->memory, &p->set[i], p->config, &p->now, p->store, p->stamps);
    prepare_plan_add_replacements(&p->plan, &p->now, p->store);
    return is_first(p) ? file_stamps_save(p->stamps) : OK;
}

static err open_store(preparing *p)
{
    int64_t dropped;
    TRY(cache_open_to_add(&p->store, &dropped, p->config->data.cache));
    if (dropped)
        log_warning(p->log, "%s: %" PRId64 " damaged or missing shards are dropped; what they held is encoded again",
                    p->config->data.cache, dropped);
    return dropped && p->all ? cache_flush(p->store) : OK; /* so that the others do not meet them */
}

/* ---- encoding ---- */

static err check_space(const preparing *p, int64_t need)
{
    uint64_t have;
    char a[32], b[32];
    int64_t twice = need < JOURNAL_BYTES || p->all ? need : JOURNAL_BYTES; /* ranks' journals last until the end */
    int64_t total = need + twice + need / 64 + SPARE_BYTES;
    TRY(file_free_space(&have, p->config->data.cache));
    if ((uint64_t)total > have)
        return err_set(E_DISK_FULL, "%s: needs %s, %s are free there; free some space, name another data.cache or a smaller "
                                    "data.cache_dtype", p->config->data.cache, text_bytes(a, (uint64_t)total), text_bytes(b, have));
    log_info(p->log, "%s: %" PRId64 " of %" PRId64 " samples to encode, %s", p->config->data.cache, p->plan.items, p->plan.samples,
             text_bytes(a, (uint64_t)need));
    return OK;
}

static err encode_with(preparing *p, encoders *e)
{
    const run_config *c = p->config;
    const encoder_sizes *z = encoders_sizes(e);
    TRY(sample_source_check_sizes(c, z->latent_factor));
    sample_keys_put_sizes(&p->now, z);
    if (is_first(p))
        TRY(check_space(p, prepare_plan_bytes(&p->plan, &p->now)));
    cache_set_origin(p->store, &p->now);
    int readers = threads_usable() < MOST_AHEAD ? threads_usable() : MOST_AHEAD;
    interrupt_begin();
    interrupt_watch();
    err result = prepare_encode(&p->plan, &p->found, p->store, e, c, readers, p->all, p->log);
    interrupt_end();
    if (result != OK && result != E_INTERRUPTED && result != E_TERMINATED)
        return result; /* what is in the journal stays there */
    char *message = arena_copy_string(&p->memory, err_message());
    if (is_first(p) && (!p->all || result != OK))
        TRY(cache_flush(p->store));
    return result == OK ? OK : err_set(result, "%s", message);
}

static err encode_missing(preparing *p)
{
    const run_config *c = p->config;
    device *dev = NULL;
    encoders *e = NULL;
    if (!p->plan.items && !p->plan.empty && !p->plan.mean_colour && !p->stale)
        return is_first(p) ? cache_flush(p->store) : OK;
    TRY(parameters_open_device(&dev, c, p->all, p->options->threads));
    log_info(p->log, "loading the encoders of %s", c->model.base);
    err result = encoders_open(&e, dev, p->now.computed == STORED_BF16 ? DT_BF16 : DT_F32, c->model.base, c->model.image_encoder,
                               ENCODE_TEXT | ENCODE_PHRASE | ENCODE_PICTURE | ENCODE_LATENT);
    if (result == OK)
        result = encode_with(p, e);
    encoders_close(e);
    device_close(dev);
    return result;
}

static void tell(const preparing *p)
{
    cache_counts n;
    char bytes[32];
    int64_t entries = 0;
    cache_count(&n, p->store);
    for (int k = 0; k < CACHE_KIND_COUNT; k++)
        entries += n.entries[k];
    log_info(p->log, "%s: %" PRId64 " samples ready, %" PRId64 " encoded now; %" PRId64 " entries, %s in %" PRId64 " shard%s",
             p->config->data.cache, p->plan.samples, p->plan.items, entries, text_bytes(bytes, (uint64_t)n.file_bytes), n.shards,
             n.shards == 1 ? "" : "s");
}

/* Pictures that other ranks could not read, for the manifest. */
static err share_unreadables(preparing *p)
{
    int        all = ranks_count(p->all);
    int64_t    own, most = 0, *count = ARENA_ARRAY(&p->memory, int64_t, all);
    const cache_key *bad = cache_unreadables(p->store, &own);
    TRY(ranks_gather(p->all, count, &own, sizeof own));
    for (int i = 0; i < all; i++)
        most = count[i] > most ? count[i] : most;
    if (!most)
        return OK;
    cache_key *mine = ARENA_ARRAY(&p->memory, cache_key, most), *theirs = ARENA_ARRAY(&p->memory, cache_key, most * all);
    if (own)
        memcpy(mine, bad, (size_t)own * sizeof *mine);
    TRY(ranks_gather(p->all, theirs, mine, (size_t)most * sizeof *mine));
    for (int r = 1; r < all && is_first(p); r++)
        for (int64_t i = 0; i < count[r]; i++)
            if (!cache_unreadable(p->store, &theirs[r * most + i]))
                cache_add_unreadable(p->store, &theirs[r * most + i]);
    return OK;
}

/* What the other ranks made becomes part of the cache. */
static err join(preparing *p)
{
    if (!p->all)
        return OK;
    TRY(share_unreadables(p));
    if (!is_first(p)) {
        cache_close(p->store);
        p->store = NULL;
    }
    TRY(ranks_barrier(p->all));
    if (!is_first(p))
        return OK;
    ranks_phase(p->all, PHASE_SAVE, p->plan.items);
    TRY(cache_take_beside(p->store));
    return cache_flush(p->store);
}

/* The first rank looks after what is there; the others open it then. */
static err open_together(preparing *p)
{
    if (is_first(p))
        TRY(open_store(p));
    TRY(ranks_barrier(p->all));
    return is_first(p) ? OK : cache_open_beside(&p->store, p->config->data.cache, ranks_rank(p->all));
}

static err fill(preparing *p)
{
    TRY(open_together(p));
    TRY(make_plan(p));
    TRY(encode_missing(p));
    TRY(join(p));
    TRY(problems_report(&p->found, stderr, PROBLEM_LINES));
    if (is_first(p))
        tell(p);
    return OK;
}

/* ---- looking after ---- */

static void seen(void *user, int64_t done, int64_t total)
{
    progress *bar = user;
    bar->total = total;
    progress_update(bar, done, NULL);
}

static err verify(preparing *p, FILE *out)
{
    if (!p->store)
        TRY(cache_open(&p->store, p->config->data.cache));
    progress bar = progress_start(p->log, "verify", "entries", 0, 0);
    TRY(cache_verify(p->store, seen, &bar));
    progress_end(&bar);
    fprintf(out, "%s: every entry is whole\n", p->config->data.cache);
    return OK;
}

static err print_counts(preparing *p, FILE *out)
{
    cache_counts n;
    char bytes[32];
    if (!p->store)
        TRY(cache_open(&p->store, p->config->data.cache));
    cache_count(&n, p->store);
    if (p->options->json)
        fprintf(out, "{");
    for (int k = 0; k < CACHE_KIND_COUNT; k++) {
        const char *name = cache_kind_name((cache_kind)k);
        if (p->options->json)
            fprintf(out, "\"%s\": {\"entries\": %" PRId64 ", \"bytes\": %" PRId64 "}, ", name, n.entries[k], n.bytes[k]);
        else
            fprintf(out, "%-8s %10" PRId64 " entries  %s\n", name, n.entries[k], text_bytes(bytes, (uint64_t)n.bytes[k]));
    }
    if (p->options->json)
        fprintf(out, "\"shards\": %" PRId64 ", \"file_bytes\": %" PRId64 "}\n", n.shards, n.file_bytes);
    else
        fprintf(out, "%-8s %10" PRId64 " files    %s\n", "shards", n.shards, text_bytes(bytes, (uint64_t)n.file_bytes));
    return OK;
}

static bool is_referenced(void *user, const cache_key *key)
{
    const cache_index *referenced = user;
    return cache_index_find(referenced, key->hex) != NULL;
}

static err collect(preparing *p, FILE *out)
{
    int64_t freed, dropped;
    char bytes[32];
    TRY(open_store(p));
    TRY(make_plan(p));
    TRY(problems_report(&p->found, stderr, PROBLEM_LINES)); /* a picture that is missing today may be back tomorrow */
    TRY(cache_collect(&freed, &dropped, p->store, is_referenced, &p->plan.referenced));
    fprintf(out, "%s: %" PRId64 " entries dropped, %s freed\n", p->config->data.cache, dropped,
            text_bytes(bytes, freed > 0 ? (uint64_t)freed : 0));
    return OK;
}

static err work(preparing *p, FILE *out)
{
    const prepare_options *o = p->options;
    TRY(read_inputs(p));
    if ((o->verify || o->stat || o->collect) && !is_first(p))
        return OK;
    if (!o->verify && !o->stat && !o->collect)
        return fill(p);
    if (o->collect)
        TRY(collect(p, out));
    if (o->verify)
        TRY(verify(p, out));
    return o->stat ? print_counts(p, out) : OK;
}

static err prepare_among(ranks *all, const prepare_options *o, logger *log, FILE *out)
{
    preparing p = {.options = o, .all = all, .log = log};
    err e = work(&p, out);
    cache_close(p.store);
    file_stamps_close(p.stamps);
    prepare_plan_free(&p.plan);
    manifest_free(&p.set[0]);
    manifest_free(&p.set[1]);
    arena_free(&p.memory);
    return e;
}

err prepare_run(const prepare_options *o, logger *log, FILE *out)
{
    ranks *all = NULL;
    logger silent = *log;
    silent.quiet = true;
    TRY(ranks_open(&all, log));
    return ranks_close(all, prepare_among(all, o, ranks_rank(all) == 0 ? log : &silent, out));
}
