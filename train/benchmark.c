#include "train/benchmark.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "autograd/planned.h"
#include "autograd/profile.h"
#include "base/progress.h"
#include "data/counter.h"

enum { SLOWEST = 10, MAX_REPEATS = 1000, MAX_BATCH = 256, RATE_RUNS = 3, PRODUCT = 2048, LARGEST_PRODUCT = 8192 };
static const double LONG_ENOUGH = 0.02; /* seconds of a product that says how fast a device is */

typedef struct measurement {
    double  median, low, high; /* seconds */
    double  cpu;               /* median of the process's CPU seconds */
    double  operations, rate;  /* of one run; rate: the machine's, operations a second */
    size_t  peak, peak_step;   /* bytes: all, and beyond weights and state */
    size_t  planned;           /* what the plan of one run says of the latter */
    size_t  gradients;         /* bytes of parameters' gradients that are in the state; those of a step's memory are in that */
    int64_t graphs;            /* that runs were launched as; 0: call by call */
    int     rows;
    profile_row row[SLOWEST];
} measurement;

err benchmark_input(benchmark *b, const char *name, int ndim, const int64_t *dim)
{
    tensor *t = NULL;
    CHECK(b->inputs < (int)(sizeof b->input / sizeof *b->input), "%d inputs", b->inputs);
    TRY(tensor_new(&t, &b->memory, b->dev, LIFE_STATE, name, DT_F32, ndim, dim));
    b->input[b->inputs++] = t;
    int64_t count = tensor_count(t);
    float  *value = malloc((size_t)count * sizeof *value);
    if (!value)
        return err_set(E_MEMORY, "benchmark: no memory for %" PRId64 " numbers", count);
    counter_uniform(value, name, 0, count);
    err e = tensor_upload(t, value, DT_F32);
    free(value);
    return e;
}

err benchmark_copy_adapter(benchmark *b, parameters *list)
{
    dtype type = unet_type(&b->unet);
    if (type == DT_F32)
        return OK;
    TRY(adapter_copy(&b->running, &b->memory, b->dev, &b->adapter, type));
    if (list)
        parameters_set_copies(list, &b->running);
    b->models.adapter = &b->running;
    return OK;
}

void benchmark_close(benchmark *b)
{
    for (int i = 0; i < b->inputs; i++)
        tensor_release(b->input[i]);
    average_free(b->average);
    optimizer_free(b->optimizer);
    adapter_release(&b->running);
    adapter_release(&b->adapter);
    unet_release(&b->unet);
    vae_release(&b->vae);
    clip_vision_release(&b->vision);
    clip_text_release(&b->text);
    encoders_close(b->encoders);
    arena_free(&b->memory);
    *b = (benchmark){.options = b->options, .dev = b->dev};
}

/* ---- measuring ---- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *value, int64_t count)
{
    qsort(value, (size_t)count, sizeof *value, ascending);
    return count % 2 ? value[count / 2] : 0.5 * (value[count / 2 - 1] + value[count / 2]);
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Operations a second of a product of n x n matrices, the best of a few; *seconds: of that one. */
static err product_rate(double *out, double *seconds, device *dev, int64_t n, dtype type)
{
    arena   memory = {0};
    tensor *t[3] = {NULL};
    float  *value = ARENA_ARRAY(&memory, float, n * n);
    err     e = OK;
    counter_uniform(value, "product", 0, n * n);
    for (int i = 0; i < 3 && e == OK; i++) {
        e = tensor_new(&t[i], &memory, dev, LIFE_STATE, "product", type, 2, (int64_t[]){n, n});
        if (e == OK && i < 2)
            e = tensor_upload(t[i], value, DT_F32);
    }
    *seconds = 1e30;
    for (int i = 0; i <= RATE_RUNS && e == OK; i++) {
        double start = clock_seconds();
        TRY_GOTO(e, dev->p->linear(dev, t[2], t[0], t[1], NULL, NULL), done);
        TRY_GOTO(e, device_finish(dev), done);
        double took = clock_seconds() - start;
        if (i && took < *seconds)
            *seconds = took;
    }
    *out = 2.0 * (double)(n * n * n) / *seconds;
done:
    for (int i = 0; i < 3; i++)
        tensor_release(t[i]);
    arena_free(&memory);
    return e;
}

err benchmark_matrix_rate(double *out, device *dev, dtype type)
{
    double seconds;
    if (!dev->finish)
        return product_rate(out, &seconds, dev, PRODUCT, DT_F32);
    int64_t n = PRODUCT / 8;
    TRY(product_rate(out, &seconds, dev, n, type));
    while (seconds < LONG_ENOUGH && n < LARGEST_PRODUCT)
        TRY(product_rate(out, &seconds, dev, n *= 2, type));
    return OK;
}

typedef struct planned_part {
    benchmark            *b;
    const benchmark_part *part;
} planned_part;

static err run_part(ag *g, void *user)
{
    const planned_part *p = user;
    return p->part->run(p->b, g);
}

/* In planned memory, as runs do. */
static err run_once(planned *p, benchmark *b, const benchmark_part *part)
{
    planned_part user = {b, part};
    TRY(part->replays ? planned_replay(p, NULL, 0, run_part, &user) : planned_run(p, NULL, 0, run_part, &user));
    if (part->after)
        TRY(part->after(b));
    return device_finish(b->dev);
}

static err run_repeats(measurement *m, planned *p, benchmark *b, const benchmark_part *part)
{
    int64_t n = b->options->repeats;
    double *wall = ARENA_ARRAY(&b->memory, double, n), *cpu = ARENA_ARRAY(&b->memory, double, n);
    for (int64_t i = 0; i < n; i++) {
        double start = clock_seconds(), cpu_start = cpu_seconds();
        TRY(run_once(p, b, part));
        wall[i] = clock_seconds() - start;
        cpu[i] = cpu_seconds() - cpu_start;
    }
    m->median = median(wall, n);
    m->low = wall[0];
    m->high = wall[n - 1];
    m->cpu = median(cpu, n);
    return OK;
}

static err run_profiled(measurement *m, benchmark *b, const benchmark_part *part)
{
    profile           *p = NULL;
    const profile_row *row;
    TRY(profile_open(&p, b->dev));
    ag *g = ag_new(profile_device(p));
    err e = part->run(b, g);
    ag_free(g);
    if (e == OK && part->after)
        e = part->after(b);
    int rows = profile_rows(&row, p);
    m->rows = rows < SLOWEST ? rows : SLOWEST;
    if (m->rows)
        memcpy(m->row, row, (size_t)m->rows * sizeof *row);
    m->operations = profile_operations(p);
    profile_close(p);
    return e;
}

static err foresee(measurement *m, planned *p, benchmark *b, const benchmark_part *part)
{
    TRY(planned_foresee(&m->planned, p, NULL, 0, run_part, &(planned_part){b, part}));
    for (int i = 0; b->optimizer && !b->optimizer->how.passing && i < b->optimizer->count; i++)
        m->gradients += (size_t)tensor_count(b->optimizer->param[i].t) * sizeof(float);
    return OK;
}

/* The runs without a profile. */
static err measure_runs(measurement *m, planned *p, benchmark *b, const benchmark_part *part)
{
    allocator *a = b->dev->memory;
    TRY(foresee(m, p, b, part));
    size_t kept = a->total;
    a->total_peak = a->total;
    TRY(run_once(p, b, part)); /* warms up: primitives are made, memory is fetched */
    if (b->dev->capture && part->replays)
        TRY(run_once(p, b, part)); /* the graph is made */
    m->peak = a->total_peak;
    m->peak_step = m->peak - kept;
    TRY(run_repeats(m, p, b, part));
    m->graphs = planned_replays(p).kept;
    return OK;
}

static err measure(measurement *m, benchmark *b, const benchmark_part *part)
{
    planned *p = NULL;
    double   after = 0.0;
    TRY(part->open(b));
    TRY(benchmark_matrix_rate(&m->rate, b->dev, b->options->type));
    TRY(planned_open(&p, b->dev));
    err e = measure_runs(m, p, b, part);
    planned_close(p);
    TRY(e);
    TRY(benchmark_matrix_rate(&after, b->dev, b->options->type));
    if (after > m->rate)
        m->rate = after;
    return run_profiled(m, b, part);
}

/* ---- printing ---- */

static char *row_shape(arena *text, const profile_row *r)
{
    char *out = arena_copy_string(text, "");
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < r->ndim[i]; k++)
            out = arena_print(text, "%s%s%" PRId64, out, k ? "x" : i ? " " : "", r->dim[i][k]);
    return out;
}

static void print_table(FILE *out, const benchmark_part *part, const measurement *m)
{
    arena  text = {0};
    double rate = m->operations / m->median;
    fprintf(out, "%s\n  median %.1f ms (%.1f to %.1f), CPU time %.1f ms", part->name, 1e3 * m->median, 1e3 * m->low,
            1e3 * m->high, 1e3 * m->cpu);
    if (m->operations > 0)
        fprintf(out, ", %.1f GFLOP/s, %.0f %% of the matrix rate of %.1f", 1e-9 * rate, 100.0 * rate / m->rate,
                1e-9 * m->rate);
    fprintf(out, "\n  peak %.1f MiB, %.1f MiB of them beyond weights and state, planned %.1f\n", (double)m->peak / 1048576.0,
            (double)m->peak_step / 1048576.0, (double)m->planned / 1048576.0);
    for (int i = 0; i < m->rows && m->rows > 1; i++) {
        const profile_row *r = &m->row[i];
        fprintf(out, "  %9.1f ms %5" PRId64 " x  %-26s %s", 1e3 * r->seconds, r->calls, r->primitive, row_shape(&text, r));
        if (r->operations > 0)
            fprintf(out, ": %.1f GFLOP/s", 1e-9 * r->operations / r->seconds);
        fprintf(out, "\n");
    }
    arena_free(&text);
}

static void print_json(FILE *out, const benchmark_part *part, const measurement *m, bool first)
{
    arena text = {0};
    fprintf(out,
            "%s\n {\"name\": \"%s\", \"ms\": %.3f, \"low_ms\": %.3f, \"high_ms\": %.3f, \"cpu_ms\": %.3f, \"gflop\": %.3f,"
            " \"matrix_gflops\": %.1f, \"peak_bytes\": %zu, \"step_bytes\": %zu, \"planned_bytes\": %zu,"
            " \"gradient_bytes\": %zu, \"graphs\": %" PRId64 ", \"slowest\": [",
            first ? "" : ",", part->name, 1e3 * m->median, 1e3 * m->low, 1e3 * m->high, 1e3 * m->cpu,
            1e-9 * m->operations, 1e-9 * m->rate, m->peak, m->peak_step, m->planned,
            m->gradients, m->graphs);
    for (int i = 0; i < m->rows; i++)
        fprintf(out, "%s{\"primitive\": \"%s\", \"shape\": \"%s\", \"calls\": %" PRId64 ", \"ms\": %.3f, \"gflop\": %.3f}",
                i ? ", " : "", m->row[i].primitive, row_shape(&text, &m->row[i]), m->row[i].calls,
                1e3 * m->row[i].seconds, 1e-9 * m->row[i].operations);
    fprintf(out, "]}");
    arena_free(&text);
}

/* ---- the command ---- */

static bool chosen(const benchmark_part *part, const char *what)
{
    char word[64];
    snprintf(word, sizeof word, " %.60s ", what);
    return strstr(part->groups, word) != NULL;
}

static err run_list(int *ran, benchmark *b, const benchmark_part *part, FILE *out)
{
    for (; part->name; part++) {
        measurement m = {0};
        if (!chosen(part, b->options->what))
            continue;
        err e = measure(&m, b, part);
        benchmark_close(b);
        TRY(e);
        if (b->options->json)
            print_json(out, part, &m, !*ran);
        else
            print_table(out, part, &m);
        fflush(out);
        ++*ran;
    }
    return OK;
}

static err check_options(const benchmark_options *o)
{
    bool known = false, op = false;
    for (const benchmark_part *p = benchmark_networks; p->name; p++)
        known = known || chosen(p, o->what);
    for (const benchmark_part *p = benchmark_ops; p->name; p++)
        op = op || chosen(p, o->what);
    if (!known && !op)
        return err_set(E_USAGE, "benchmark %.40s: there are train, generate, ops, unet, vae, encode, text, vision, "
                       "conv, attention, linear", o->what);
    if (known && !o->model == !o->random)
        return err_set(E_USAGE, "benchmark %s: give either --model DIR or --random sdxl|half|tiny", o->what);
    if (o->repeats < 1 || o->repeats > MAX_REPEATS)
        return err_set(E_USAGE, "--repeats %" PRId64 ": expected 1 to %d", o->repeats, MAX_REPEATS);
    if (o->batch < 1 || o->batch > MAX_BATCH)
        return err_set(E_USAGE, "--batch %" PRId64 ": expected 1 to %d", o->batch, MAX_BATCH);
    if (o->size < 64 || o->size > 4096 || o->size % 64)
        return err_set(E_USAGE, "--size %" PRId64 ": expected a multiple of 64 from 64 to 4096", o->size);
    return OK;
}

err benchmark_run(const benchmark_options *o, FILE *out)
{
    benchmark b = {.options = o};
    int       ran = 0;
    TRY(check_options(o));
    TRY(device_open(&b.dev, o->device, o->threads));
    if (!o->graphs)
        b.dev->capture = NULL;
    if (o->json)
        fprintf(out, "{\"threads\": %d, \"dtype\": \"%s\", \"parts\": [", b.dev->threads, dtype_name(o->type));
    err e = run_list(&ran, &b, benchmark_networks, out);
    if (e == OK)
        e = run_list(&ran, &b, benchmark_ops, out);
    if (o->json && e == OK)
        fprintf(out, "]}\n");
    device_close(b.dev);
    return e;
}
