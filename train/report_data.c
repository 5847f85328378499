#include "train/report_data.h"

#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/io.h"
#include "base/json.h"

static const size_t LOG_LIMIT = (size_t)1 << 31, CONFIG_LIMIT = (size_t)1 << 20;

void report_data_note(report_data *d, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (d->notes < REPORT_MOST_NOTES)
        d->note[d->notes++] = arena_copy_string(&d->memory, text);
}

static char *path_in(report_data *d, const char *name)
{
    char *joined = path_join(d->run, name), *kept = arena_copy_string(&d->memory, joined);
    free(joined);
    return kept;
}

/* ---- log.jsonl ---- */

static double number(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static void take_validation(report_validations *v, const json_t *said, double step)
{
    const json_t *edges = json_object_get(said, "timesteps"), *bins = json_object_get(said, "bins");
    if (!json_is_object(said) || json_array_size(edges) != VALIDATION_BINS + 1 ||
        json_array_size(bins) != VALIDATION_BINS)
        return;
    int64_t at = v->count++;
    v->step[at] = step;
    v->loss[at] = number(said, "loss");
    v->samples = json_integer_value(json_object_get(said, "samples"));
    for (int i = 0; i <= VALIDATION_BINS; i++)
        v->edge[i] = json_integer_value(json_array_get(edges, (size_t)i));
    for (int i = 0; i < VALIDATION_BINS; i++) {
        const json_t *b = json_array_get(bins, (size_t)i);
        v->bin[i][at] = json_is_number(b) ? json_number_value(b) : NAN;
    }
}

/* The running mean is the progress line's. */
static void take_step(report_data *d, const json_t *line)
{
    report_steps *s = &d->steps;
    int64_t at = s->count++;
    double before = at ? s->average[at - 1] : NAN, seconds = number(line, "seconds");
    s->step[at] = number(line, "step");
    s->loss[at] = number(line, "loss");
    s->grad_norm[at] = number(line, "grad_norm");
    s->lr[at] = number(line, "lr");
    s->images_per_second[at] = number(line, "images_per_second");
    s->wait[at] = number(line, "wait") / seconds;
    s->average[at] = !isfinite(s->loss[at]) ? before
                     : isfinite(before)     ? 0.95 * before + 0.05 * s->loss[at]
                                            : s->loss[at];
    s->seconds += isfinite(seconds) ? seconds : 0;
    s->skipped = json_integer_value(json_object_get(line, "skipped"));
    take_validation(&d->validations, json_object_get(line, "validation"), s->step[at]);
}

static void make_room(report_data *d, int64_t lines)
{
    report_steps *s = &d->steps;
    report_validations *v = &d->validations;
    double **arrays[] = {&s->step, &s->loss, &s->average, &s->grad_norm, &s->lr, &s->wait, &s->images_per_second,
                         &v->step, &v->loss};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        *arrays[i] = ARENA_ARRAY(&d->memory, double, lines + 1);
    for (int i = 0; i < VALIDATION_BINS; i++)
        v->bin[i] = ARENA_ARRAY(&d->memory, double, lines + 1);
}

static void read_lines(report_data *d, const char *text, size_t size)
{
    int64_t lines = 0, bad = 0;
    double last = 0;
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    make_room(d, lines);
    const char *at = text, *stop;
    for (; (stop = memchr(at, '\n', size - (size_t)(at - text))); at = stop + 1) {
        json_t *line = NULL;
        err e = json_text_parse(&line, at, (size_t)(stop - at), NULL, JSON_KEEP_LAST);
        double step = e == OK && json_is_object(line) ? number(line, "step") : NAN;
        if (step > last) {
            take_step(d, line);
            last = step;
        } else {
            bad++;
        }
        json_decref(line);
    }
    if (bad)
        report_data_note(d, "log.jsonl: %" PRId64 " lines are not steps in their order and are left out", bad);
}

static bool read_log(report_data *d)
{
    char *text = NULL;
    size_t size = 0;
    if (file_read(&text, &size, path_in(d, "log.jsonl"), LOG_LIMIT) != OK) {
        report_data_note(d, "no log: %s", err_message());
        make_room(d, 0);
        return false;
    }
    read_lines(d, text, size);
    free(text);
    return true;
}

/* ---- config and dataset ---- */

static bool read_config(report_data *d)
{
    size_t size;
    char *text = NULL;
    const char *path = path_in(d, "config.yaml");
    if (file_read(&text, &size, path, CONFIG_LIMIT) != OK) {
        report_data_note(d, "no config: %s", err_message());
        return false;
    }
    d->config_text = arena_copy_string(&d->memory, text);
    free(text);
    problems found = {.memory = &d->memory};
    run_config_load(&d->config, &d->memory, &found, path, NULL, 0);
    if (!found.errors)
        return true;
    d->config = NULL;
    report_data_note(d, "config.yaml: %s", found.item[0].text);
    return true;
}

static void read_dataset(report_data *d)
{
    problems found = {.memory = &d->memory};
    if (!d->config)
        return;
    manifest_load(&d->dataset, &found, d->config->data.manifest, d->config->data.max_subjects);
    if (!found.errors)
        return;
    manifest_free(&d->dataset);
    d->dataset = (manifest){0};
    report_data_note(d, "the dataset is not reachable: %s: %s", d->config->data.manifest, found.item[0].text);
}

/* ---- files ---- */

static int by_job_and_step(const void *a, const void *b)
{
    const report_picture *x = a, *y = b;
    if (x->job != y->job)
        return x->job < y->job ? -1 : 1;
    return (x->step > y->step) - (x->step < y->step);
}

static int by_step(const void *a, const void *b)
{
    const report_checkpoint *x = a, *y = b;
    return (x->step > y->step) - (x->step < y->step);
}

/* Calls `take` with every name in a folder; a folder that is not there has none. */
static void each_name(report_data *d, const char *folder,
                      void (*take)(report_data *d, const char *folder, const char *name))
{
    DIR *open = opendir(folder);
    for (struct dirent *e; open && (e = readdir(open));)
        take(d, folder, e->d_name);
    if (open)
        closedir(open);
}

static void take_picture(report_data *d, const char *folder, const char *name)
{
    int64_t step;
    int job, number = 0, end = 0;
    bool one = sscanf(name, "step-%" SCNd64 "_%d.png%n", &step, &job, &end) == 2 && end && !name[end];
    bool first =
        !one && sscanf(name, "step-%" SCNd64 "_%d_%d.png%n", &step, &job, &number, &end) == 3 && end && !name[end];
    if ((!one && !(first && number == 0)) || step < 0 || job < 0)
        return;
    if ((d->pictures & (d->pictures - 1)) == 0) {
        report_picture *more = ARENA_ARRAY(&d->memory, report_picture, d->pictures ? 2 * d->pictures : 1);
        if (d->pictures)
            memcpy(more, d->picture, (size_t)d->pictures * sizeof *more);
        d->picture = more;
    }
    d->picture[d->pictures++] = (report_picture){arena_print(&d->memory, "%s/%s", folder, name), step, job};
}

static uint64_t bytes_of(const char *path)
{
    struct stat about;
    return io_lstat(path, &about) == 0 && S_ISREG(about.st_mode) ? (uint64_t)about.st_size : 0;
}

static void take_checkpoint(report_data *d, const char *folder, const char *name)
{
    static const char *const files[] = {"adapter.safetensors", "optimizer.safetensors", "ema.safetensors",
                                        "config.yaml", "manifest.json"};
    report_checkpoint c = {0};
    int end = 0;
    if (sscanf(name, "step-%" SCNd64 "%n", &c.step, &end) != 1 || name[end] || c.step < 0)
        return;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        uint64_t bytes = bytes_of(arena_print(&d->memory, "%s/%s/%s", folder, name, files[i]));
        c.bytes += bytes;
        c.averaged = c.averaged || (i == 2 && bytes);
        c.whole = i == 4 && bytes;
    }
    if ((d->checkpoints & (d->checkpoints - 1)) == 0) {
        report_checkpoint *more = ARENA_ARRAY(&d->memory, report_checkpoint, d->checkpoints ? 2 * d->checkpoints : 1);
        if (d->checkpoints)
            memcpy(more, d->checkpoint, (size_t)d->checkpoints * sizeof *more);
        d->checkpoint = more;
    }
    d->checkpoint[d->checkpoints++] = c;
}

/* ---- all ---- */

err report_data_read(report_data *d, const char *run)
{
    *d = (report_data){.run = run};
    if (!folder_exists(run))
        return err_set(E_USAGE, "%s: no such folder; give the folder of a run (output.dir)", run);
    bool log = read_log(d), config = read_config(d);
    if (!log && !config)
        return err_set(E_USAGE, "%s: is no run folder: it has neither log.jsonl nor config.yaml", run);
    read_dataset(d);
    each_name(d, path_in(d, "samples"), take_picture);
    each_name(d, run, take_checkpoint);
    if (d->pictures)
        qsort(d->picture, (size_t)d->pictures, sizeof *d->picture, by_job_and_step);
    if (d->checkpoints)
        qsort(d->checkpoint, (size_t)d->checkpoints, sizeof *d->checkpoint, by_step);
    return OK;
}

void report_data_free(report_data *d)
{
    manifest_free(&d->dataset);
    arena_free(&d->memory);
}
