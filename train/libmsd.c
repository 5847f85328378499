/* The functions of msd.h: options into the types of the library below, err into exit codes. */
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "data/adapter_file.h"
#include "data/inspect.h"
#include "infer/synth.h"
#include "train/benchmark.h"
#include "train/check.h"
#include "train/checkpoint_list.h"
#include "train/demo_data.h"
#include "train/doctor.h"
#include "train/libmsd_status.h"
#include "train/plan.h"
#include "train/prepare.h"
#include "train/preview.h"
#include "train/probe_modules.h"
#include "train/report.h"
#include "train/train.h"

enum { LINE_BYTES = 8400, PROBLEM_LINES = 50 };

static _Thread_local char line[LINE_BYTES]; /* what msd_message hands out */

const char *msd_version(void)
{
    return MSD_VERSION;
}

const char *msd_message(void)
{
    return line;
}

int libmsd_status(err e)
{
    line[0] = 0;
    if (e == E_INTERRUPTED || e == E_TERMINATED)
        snprintf(line, sizeof line, "%s", err_message());
    else if (e != OK)
        snprintf(line, sizeof line, "error[%s] %s", err_name(e), err_message());
    return err_exit_code(e);
}

const char *msd_nearest(const char *word, const char *const *names)
{
    size_t count = 0;
    while (names[count])
        count++;
    return text_nearest(word, names, count);
}

int msd_usage_error(const char *format, ...)
{
    char text[LINE_BYTES / 2];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return libmsd_status(err_set(E_USAGE, "%s", text));
}

/* ---- shared options ---- */

err libmsd_check_run(const msd_run *o)
{
    const char *device_name = o->device ? o->device : "auto", *type = o->dtype ? o->dtype : "auto";
    if (strcmp(device_name, "auto") && strcmp(device_name, "cpu") && strcmp(device_name, "cuda"))
        return err_set(E_USAGE, "--device: '%s' is none of auto, cpu, cuda", device_name);
    if (strcmp(type, "auto") && strcmp(type, "f32") && strcmp(type, "bf16"))
        return err_set(E_USAGE, "--dtype: '%s' is none of auto, f32, bf16", type);
    if (o->threads < 0 || o->threads > 4096)
        return err_set(E_USAGE, "--threads: %lld is outside 0..4096", (long long)o->threads);
    return OK;
}

const char *libmsd_device(const msd_run *o)
{
    if (!o->device || !strcmp(o->device, "auto"))
        return device_has_cuda() ? "cuda" : "cpu";
    return o->device;
}

dtype libmsd_type(const msd_run *o)
{
    if (!o->dtype || !strcmp(o->dtype, "auto"))
        return !strcmp(libmsd_device(o), "cuda") ? DT_BF16 : DT_F32;
    return !strcmp(o->dtype, "bf16") ? DT_BF16 : DT_F32;
}

static err parse_stored_type(stored_type *out, const char *name, stored_type fallback)
{
    static const struct {
        const char *name;
        stored_type type;
    } types[] = {{"f32", STORED_F32}, {"f16", STORED_F16}, {"bf16", STORED_BF16}};
    *out = fallback;
    if (!name)
        return OK;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (!strcmp(name, types[i].name)) {
            *out = types[i].type;
            return OK;
        }
    }
    return err_set(E_USAGE, "--dtype: '%s' is none of f32, f16, bf16", name);
}

/* ---- training ---- */

/* The settings of --set, and --device, --dtype and --no-graphs as such, which are the last; the arena's. */
static const char **settings(int *count, arena *memory, const msd_list *set, const msd_run *o)
{
    const char **all = ARENA_ARRAY(memory, const char *, set->count + 3);
    for (*count = 0; *count < set->count; (*count)++)
        all[*count] = set->item[*count];
    if (o->device)
        all[(*count)++] = arena_print(memory, "device.kind=%s", o->device);
    if (o->dtype)
        all[(*count)++] = arena_print(memory, "device.dtype=%s", o->dtype);
    if (o->no_graphs)
        all[(*count)++] = "device.graphs=off";
    return all;
}

int msd_train(const msd_train_options *o)
{
    logger log = logger_start(o->run.quiet);
    arena  memory = {0};
    err    e = libmsd_check_run(&o->run);
    if (e != OK)
        return libmsd_status(e);
    train_options t = {.config = o->config, .resume = o->resume, .allow_change = o->allow_change.item,
                       .allowed = o->allow_change.count, .dump_batches = o->dump_batches, .threads = (int)o->run.threads};
    t.set = settings(&t.sets, &memory, &o->set, &o->run);
    int status = libmsd_status(train_run(&t, &log));
    arena_free(&memory);
    return status;
}

int msd_report(const msd_report_options *o)
{
    logger log = logger_start(o->run.quiet);
    return libmsd_status(report_write(o->output, o->run_folder, &log));
}

int msd_prepare(const msd_prepare_options *o, FILE *out)
{
    logger log = logger_start(o->run.quiet);
    err    e = libmsd_check_run(&o->run);
    if (e != OK)
        return libmsd_status(e);
    arena memory = {0};
    prepare_options p = {.config = o->config, .verify = o->verify, .stat = o->stat, .collect = o->gc, .json = o->run.json,
                         .threads = (int)o->run.threads};
    p.set = settings(&p.sets, &memory, &o->set, &o->run);
    int status = libmsd_status(prepare_run(&p, &log, out));
    arena_free(&memory);
    return status;
}

int msd_preview(const msd_preview_options *o)
{
    logger log = logger_start(o->run.quiet);
    preview_options p = {.config = o->config, .set = o->set.item, .sets = o->set.count, .folder = o->output,
                         .count = o->count ? o->count : 16};
    return libmsd_status(p.count > 0 ? preview_run(&p, &log)
                                     : err_set(E_USAGE, "--count: %lld is negative", (long long)p.count));
}

int msd_check(const char *config, const msd_list *set, bool headers, const msd_run *run, FILE *out)
{
    arena memory = {0};
    problems found = {.memory = &memory};
    check_counts counts = {0};
    logger log = logger_start(run->quiet);
    check_look how = {.headers = headers, .threads = (int)run->threads, .log = &log};
    if (run->threads < 0 || run->threads > 4096)
        return libmsd_status(err_set(E_USAGE, "--threads: %lld is outside 0..4096", (long long)run->threads));
    check_run(&counts, &found, config, set->item, set->count, &how);
    err e = problems_report(&found, stderr, PROBLEM_LINES);
    if (e == OK && !run->quiet)
        fprintf(run->json ? stderr : out, "%s: nothing wrong: %lld samples, %lld subjects, %lld pictures\n", config,
                (long long)counts.samples, (long long)counts.subjects, (long long)counts.pictures);
    if (run->json)
        check_statistics_print_json(out, &counts.of, counts.samples, counts.subjects, counts.pictures);
    else if (!run->quiet)
        check_statistics_print(out, &counts.of);
    for (int i = 0; i < BUCKETS && e == OK && !run->quiet; i++) {
        bucket_size b = bucket_size_at(i, counts.resolution);
        if (counts.bucket[i])
            fprintf(out, "  bucket %4d x %4d: %lld samples%s\n", b.width, b.height, (long long)counts.bucket[i],
                    counts.bucket[i] < counts.per_step ? ", fewer than a step takes: it repeats some" : "");
    }
    int status = libmsd_status(e);
    arena_free(&memory);
    return status;
}

int msd_demo_data(const char *folder, const char *photos, int64_t count, uint64_t seed, bool quiet)
{
    logger log = logger_start(quiet);
    return libmsd_status(demo_data_write(folder, photos, count, seed, &log));
}

/* ---- files ---- */

int msd_export(const char *dst, const char *src, const char *dtype_text, bool ema)
{
    logger log = logger_start(false);
    stored_type type;
    char *whole = NULL;
    err e = parse_stored_type(&type, dtype_text, STORED_TYPE_COUNT);
    if (e == OK)
        e = checkpoint_export_source(&whole, src, ema, &log);
    if (e == OK)
        e = adapter_export(dst, whole, type);
    free(whole);
    return libmsd_status(e);
}

int msd_inspect(const char *path, bool json, FILE *out)
{
    inspection *i = NULL;
    err e = inspect(&i, path);
    if (e == OK) {
        if (json)
            inspect_print_json(out, i);
        else
            inspect_print(out, i);
    }
    inspect_free(i);
    return libmsd_status(e);
}

int msd_synth(const char *folder, const char *size, uint64_t seed, const char *dtype_text, bool quiet)
{
    logger log = logger_start(quiet);
    stored_type type;
    err e = parse_stored_type(&type, dtype_text, STORED_F16);
    return libmsd_status(e == OK ? synth_write(folder, size, seed, type, &log) : e);
}

int msd_doctor(bool json, FILE *out)
{
    return libmsd_status(doctor_print(json, out));
}

/* ---- probe ---- */

static err probe_with_device(const msd_probe_options *o)
{
    TRY(libmsd_check_run(&o->run));
    if (o->controlnet)
        return err_set(E_USAGE, "--controlnet: this version has no ControlNet");
    device *dev = NULL;
    TRY(device_open(&dev, libmsd_device(&o->run), (int)o->run.threads));
    probe_options p = {.module = o->module, .model = o->model, .image_encoder = o->image_encoder, .adapter = o->adapter,
                       .in = o->in, .out = o->out, .set = o->set.item, .sets = o->set.count, .dev = dev,
                       .type = libmsd_type(&o->run)};
    err e = probe_modules_run(&p);
    device_close(dev);
    return e;
}

int msd_probe(const msd_probe_options *o)
{
    return libmsd_status(probe_with_device(o));
}

/* ---- benchmark ---- */

msd_benchmark_options msd_benchmark_defaults(void)
{
    return (msd_benchmark_options){.repeats = 5, .size = 512, .batch = 1};
}

int msd_benchmark(const msd_benchmark_options *o, FILE *out)
{
    err e = libmsd_check_run(&o->run);
    if (e != OK)
        return libmsd_status(e);
    benchmark_options b = {.what = o->what, .model = o->model, .image_encoder = o->image_encoder, .random = o->random,
                           .repeats = o->repeats, .size = o->size, .batch = o->batch, .device = libmsd_device(&o->run),
                           .threads = (int)o->run.threads, .graphs = !o->run.no_graphs, .json = o->run.json,
                           .type = libmsd_type(&o->run), .recompute = o->activation_checkpointing};
    return libmsd_status(benchmark_run(&b, out));
}

int msd_plan(const msd_plan_options *o, FILE *out)
{
    err e = libmsd_check_run(&o->run);
    if (e != OK)
        return libmsd_status(e);
    bool one_picture = o->config && !strcmp(o->config, "generate");
    if (o->steps && !one_picture)
        return libmsd_status(err_set(E_USAGE, "--steps: is of `msd plan generate` alone"));
    if (o->ranks < 0 || o->ranks > INT_MAX)
        return libmsd_status(err_set(E_USAGE, "--ranks: %lld is no number of GPUs", (long long)o->ranks));
    bool any_type = !o->run.dtype || !strcmp(o->run.dtype, "auto");
    plan_options p = {.config = one_picture ? NULL : o->config, .steps = !one_picture ? 0 : o->steps > 0 ? o->steps : 30,
                      .set = o->set.item, .sets = o->set.count, .model = o->model, .image_encoder = o->image_encoder,
                      .random = o->random, .size = o->size, .card = o->card, .ranks = (int)o->ranks,
                      .link = o->link, .threads = (int)o->run.threads,
                      .json = o->run.json, .type = o->card && any_type ? DT_BF16 : libmsd_type(&o->run)};
    return libmsd_status(plan_print(&p, out));
}
