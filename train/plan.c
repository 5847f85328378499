#include "train/plan.h"

#include <inttypes.h>
#include <string.h>

#include "autograd/meta/meta.h"
#include "infer/load_unet.h"
#include "infer/synth_configs.h"
#include "train/plan_run.h"

enum { PROBLEM_LINES = 50 };

static const double MEBIBYTE = 1048576.0;

typedef struct part_plan {
    int64_t    parameters, trained;
    size_t     weights, state, largest, planned; /* bytes; largest: of the step alive at once, planned: its block */
    size_t     allocations;
    double     multiply_adds;
    meta_count by_kind[META_KIND_COUNT];
} part_plan;

static void count_visit(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    (void)path, (void)kind, (void)ndim, (void)dim;
    *(int64_t *)bind_user(b) += tensor_count(*slot);
}

static void count_parameters(part_plan *p, benchmark *b)
{
    p->weights = b->dev->memory->in_use[LIFE_WEIGHTS];
    p->state = b->dev->memory->in_use[LIFE_STATE];
    p->parameters = (int64_t)(p->weights / dtype_bytes(b->options->type));
    if (b->adapter.pair)
        adapter_walk(&b->adapter, count_visit, &p->parameters);
    for (int i = 0; b->optimizer && i < b->optimizer->count; i++)
        p->trained += tensor_count(b->optimizer->param[i].t);
}

static err run_part(part_plan *p, benchmark *b, const benchmark_part *part)
{
    memory_plan memory;
    TRY(part->open(b));
    count_parameters(p, b);
    meta_reset(b->dev);
    ag *g = ag_new(b->dev);
    err e = part->run(b, g);
    ag_free(g);
    TRY(e);
    const meta_report *r = meta_report_of(b->dev);
    for (int k = 0; k < META_KIND_COUNT; k++)
        p->by_kind[k] = r->by_kind[k];
    p->multiply_adds = meta_multiply_adds(b->dev);
    TRY(plan_make(&memory, r->log.item, r->log.count));
    p->largest = memory.largest;
    p->planned = memory.peak;
    p->allocations = memory.count;
    plan_free(&memory);
    return OK;
}

/* ---- printing ---- */

static void print_table(FILE *out, const benchmark_part *part, const part_plan *p, double rate)
{
    fprintf(out, "%s\n  %.1f M parameters", part->name, 1e-6 * (double)p->parameters);
    if (p->trained)
        fprintf(out, ", %.1f M of them trained", 1e-6 * (double)p->trained);
    fprintf(out, "; %.4f T multiply-adds, %.2f s at the matrix rate\n", 1e-12 * p->multiply_adds,
            2.0 * p->multiply_adds / rate);
    fprintf(out, "  MiB: %.1f weights, %.1f state and inputs, %.1f step (planned; %.1f alive at once): %.1f\n",
            (double)p->weights / MEBIBYTE, (double)p->state / MEBIBYTE, (double)p->planned / MEBIBYTE,
            (double)p->largest / MEBIBYTE, (double)(p->weights + p->state + p->planned) / MEBIBYTE);
    for (int k = 0; k < META_KIND_COUNT; k++)
        if (p->by_kind[k].multiply_adds > 0)
            fprintf(out, "  %12.4f T in %5" PRId64 " x %s\n", 1e-12 * p->by_kind[k].multiply_adds, p->by_kind[k].calls,
                    meta_kind_name((meta_kind)k));
}

static void print_json(FILE *out, const benchmark_part *part, const part_plan *p, double rate, bool first)
{
    fprintf(out,
            "%s\n {\"name\": \"%s\", \"parameters\": %" PRId64 ", \"trained\": %" PRId64 ", \"multiply_adds\": %.0f,"
            " \"seconds\": %.4f, \"weights_bytes\": %zu, \"state_bytes\": %zu, \"step_bytes\": %zu,"
            " \"step_live_bytes\": %zu, \"allocations\": %zu, \"kinds\": {",
            first ? "" : ",", part->name, p->parameters, p->trained, p->multiply_adds, 2.0 * p->multiply_adds / rate,
            p->weights, p->state, p->planned, p->largest, p->allocations);
    for (int k = 0; k < META_KIND_COUNT; k++)
        fprintf(out,
                "%s\"%s\": {\"calls\": %" PRId64 ", \"multiply_adds\": %.0f, \"read_bytes\": %.0f,"
                " \"written_bytes\": %.0f}",
                k ? ", " : "", meta_kind_name((meta_kind)k), p->by_kind[k].calls, p->by_kind[k].multiply_adds,
                p->by_kind[k].read, p->by_kind[k].written);
    fprintf(out, "}}");
}

/* ---- the command ---- */

/* The side that the UNet was made for: latents have 8 pixels a side. */
static err default_side(int64_t *out, const plan_options *o)
{
    unet_config config;
    if (o->random) {
        const synth_size *s = synth_size_find(o->random);
        if (!s)
            return err_set(E_USAGE, "--random %.40s: there are tiny, half, sdxl", o->random);
        *out = 8 * s->sample;
        return OK;
    }
    TRY(load_unet_config(&config, o->model));
    *out = config.sample_height ? 8 * config.sample_height : 1024;
    return OK;
}

static err check_options(benchmark_options *made, const plan_options *o)
{
    *made = (benchmark_options){.model = o->model, .image_encoder = o->image_encoder, .random = o->random,
                                .size = o->size, .threads = o->threads, .json = o->json, .type = o->type};
    if ((o->config != NULL) + (o->model != NULL) + (o->random != NULL) != 1)
        return err_set(E_USAGE, "plan: give RUN.yaml, --model DIR or --random sdxl|half|tiny, one of them");
    if (o->config && (o->size || o->image_encoder))
        return err_set(E_USAGE, "plan: RUN.yaml says size and image encoder; --set data.resolution=N changes one");
    if (o->size && (o->size < 64 || o->size > 4096 || o->size % 64))
        return err_set(E_USAGE, "--size %" PRId64 ": expected a multiple of 64 from 64 to 4096", o->size);
    return o->size || o->config ? OK : default_side(&made->size, o);
}

/* How often a part runs for one picture of `msd plan generate`. */
static int64_t times_a_picture(const benchmark_part *part, int64_t steps)
{
    return strstr(part->groups, " denoise ") ? steps : 1;
}

static void print_total(FILE *out, double multiply_adds, size_t largest, int64_t steps, double rate, bool json)
{
    if (json)
        fprintf(out, "], \"generate\": {\"steps\": %" PRId64 ", \"multiply_adds\": %.0f, \"seconds\": %.4f, \"peak_bytes\": %zu}",
                steps, multiply_adds, 2.0 * multiply_adds / rate, largest);
    else
        fprintf(out,
                "a picture of %" PRId64 " steps with guidance and 2 subjects\n  %.4f T multiply-adds, %.2f s at the matrix rate; "
                "%.1f MiB for the part that needs most\n",
                steps, 1e-12 * multiply_adds, 2.0 * multiply_adds / rate, (double)largest / MEBIBYTE);
}

/* `steps` > 0: of one picture alone. */
static err run_parts(benchmark *b, const benchmark_part *first, int64_t steps, double rate, FILE *out)
{
    double total = 0;
    size_t largest = 0;
    bool   any = false;
    for (const benchmark_part *part = first; part->name; part++) {
        part_plan p = {0};
        if (steps && !strstr(part->groups, " generate "))
            continue;
        err e = run_part(&p, b, part);
        benchmark_close(b);
        TRY(e);
        if (b->options->json)
            print_json(out, part, &p, rate, !any);
        else
            print_table(out, part, &p, rate);
        any = true;
        total += p.multiply_adds * (double)times_a_picture(part, steps);
        size_t need = p.weights + p.state + p.planned;
        largest = need > largest ? need : largest;
    }
    if (steps)
        print_total(out, total, largest, steps, rate, b->options->json);
    else if (b->options->json)
        fprintf(out, "]");
    return OK;
}

/* Everything on the meta device, once the options are resolved. */
static err plan_parts_like(const device *cpu, const benchmark_options *o, int64_t steps, double rate, FILE *out)
{
    benchmark b = {.options = o};
    TRY(device_open_meta(&b.dev, cpu));
    if (o->json)
        fprintf(out, "{\"size\": %" PRId64 ", \"dtype\": \"%s\", \"matrix_gflops\": %.1f, \"parts\": [", o->size,
                dtype_name(o->type), 1e-9 * rate);
    else
        fprintf(out, "%" PRId64 " x %" PRId64 " pixels, %s, matrix rate %.1f GFLOP/s\n", o->size, o->size,
                dtype_name(o->type), 1e-9 * rate);
    err e = run_parts(&b, o->config ? plan_run : benchmark_networks, steps, rate, out);
    if (o->json && e == OK)
        fprintf(out, "}\n");
    device_close(b.dev);
    return e;
}

/* The CPU gives the rate, and its primitives say what scratch they take. */
static err plan_parts(const benchmark_options *o, int64_t steps, FILE *out)
{
    device *cpu;
    double  rate;
    TRY(device_open_cpu(&cpu, o->threads));
    err e = benchmark_matrix_rate(&rate, cpu);
    if (e == OK)
        e = plan_parts_like(cpu, o, steps, rate, out);
    device_close(cpu);
    return e;
}

err plan_print(const plan_options *o, FILE *out)
{
    benchmark_options made;
    arena             memory = {0};
    problems          found = {.memory = &memory};
    run_config       *config = NULL;
    TRY(check_options(&made, o));
    if (!o->config)
        return plan_parts(&made, o->steps, out);
    run_config_load(&config, &memory, &found, o->config, o->set, o->sets); /* its result is in the problems */
    err e = problems_report(&found, stderr, PROBLEM_LINES);
    if (e == OK) {
        made.config = config;
        made.size = config->data.resolution;
        made.type = parameters_type(config);
        e = plan_parts(&made, 0, out);
    }
    arena_free(&memory);
    return e;
}
