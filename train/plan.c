#include "train/plan.h"

#include <inttypes.h>

#include "infer/load_unet.h"
#include "infer/synth_configs.h"
#include "train/plan_part.h"
#include "train/plan_run.h"

enum { PROBLEM_LINES = 50 };

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

/* Time passes by the roofline; backward is over when the optimizer begins. */
static void watch_call(void *user, const meta_call *call)
{
    part_plan *p = user;
    if (call->kind == META_OPTIMIZER && !(p->gradients.backward_end > 0))
        p->gradients.backward_end = p->estimate.seconds;
    roofline_watch(&p->estimate, call);
    p->gradients.end = p->estimate.seconds;
}

static err note_gradient(void *user, tensor *whole)
{
    part_plan *p = user;
    gradient_times_add(&p->gradients, tensor_count(whole), p->estimate.seconds);
    return OK;
}

static void watch_part(part_plan *p, benchmark *b)
{
    gradient_times_free(&p->gradients);
    if (!p->estimate.card)
        return;
    roofline_open(&p->estimate, p->estimate.card);
    meta_watch(b->dev, watch_call, p);
    b->whole = note_gradient;
    b->whole_user = p;
}

static err run_once(part_plan *p, benchmark *b, const benchmark_part *part)
{
    memory_plan memory;
    meta_reset(b->dev);
    p->recompute = b->models.recompute;
    watch_part(p, b);
    ag *g = ag_new(b->dev);
    err e = part->run(b, g);
    ag_free(g);
    if (e == OK && part->after)
        e = part->after(b);
    meta_watch(b->dev, NULL, NULL);
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
    roofline_sort(&p->estimate);
    return OK;
}

/* Whether a run that may do so would save memory by activation checkpointing. */
static bool wants_recompute(const part_plan *p, const benchmark *b)
{
    const run_config *c = b->options->config;
    if (!c || c->train.activation_checkpointing != RECOMPUTE_AUTO || p->recompute)
        return false;
    double limit = c->train.memory ? (double)c->train.memory : p->estimate.card ? p->estimate.card->memory : 0.0;
    return limit > 0 && part_plan_bytes(p) > limit;
}

static err run_part(part_plan *p, benchmark *b, const benchmark_part *part, const card *on)
{
    *p = (part_plan){.name = part->name, .estimate.card = on};
    TRY(part->open(b));
    count_parameters(p, b);
    TRY(run_once(p, b, part));
    if (!wants_recompute(p, b))
        return OK;
    b->models.recompute = true;
    return run_once(p, b, part);
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
                                .size = o->size, .batch = 1, .threads = o->threads, .json = o->json, .type = o->type};
    if ((o->config != NULL) + (o->model != NULL) + (o->random != NULL) != 1)
        return err_set(E_USAGE, "plan: give RUN.yaml, --model DIR or --random sdxl|half|tiny, one of them");
    if (o->config && (o->size || o->image_encoder))
        return err_set(E_USAGE, "plan: RUN.yaml says size and image encoder; --set data.resolution=N changes one");
    if (o->size && (o->size < 64 || o->size > 4096 || o->size % 64))
        return err_set(E_USAGE, "--size %" PRId64 ": expected a multiple of 64 from 64 to 4096", o->size);
    return o->size || o->config ? OK : default_side(&made->size, o);
}

/* ---- parts ---- */

typedef struct planning {
    const plan_options *given;
    benchmark_options   made;
    const card         *card; /* NULL: this machine */
    scaling_options     many; /* ranks 0: one process */
    double              rate; /* operations a second of large products */
    FILE               *out;
} planning;

typedef struct picture_total {
    double  multiply_adds, estimate;
    double  largest; /* bytes */
} picture_total;

static void add_part(picture_total *t, const part_plan *p, const benchmark_part *part, int64_t steps)
{
    double times = part->times == PART_EACH_STEP ? (double)steps : part->times, need = part_plan_bytes(p);
    t->multiply_adds += p->multiply_adds * times;
    t->estimate += p->estimate.seconds * times;
    t->largest = need > t->largest ? need : t->largest;
}

static void print_total(const planning *p, const picture_total *t)
{
    double seconds = 2.0 * t->multiply_adds / p->rate;
    if (p->made.json) {
        fprintf(p->out,
                "], \"generate\": {\"steps\": %" PRId64 ", \"multiply_adds\": %.0f, \"seconds\": %.6f,"
                " \"peak_bytes\": %.0f",
                p->given->steps, t->multiply_adds, seconds, t->largest);
        if (p->card)
            fprintf(p->out, ", \"estimate_seconds\": %.9f", t->estimate);
        fprintf(p->out, "}");
        return;
    }
    fprintf(p->out,
            "a picture of %" PRId64 " steps with guidance and 2 subjects\n  %.4f T multiply-adds, %.2f s at the matrix rate; "
            "%.1f MiB for the part that needs most\n",
            p->given->steps, 1e-12 * t->multiply_adds, seconds, t->largest / 1048576.0);
    if (p->card)
        fprintf(p->out, "  estimate on %s: %.4f s at least\n", p->card->title, t->estimate);
}

/* The same step on many GPUs. */
static void scale_run(scaling *out, const planning *p, const part_plan *made)
{
    const run_config *c = p->made.config;
    scaling_options   o = p->many;
    o.sent = c->train.reduce_dtype == REDUCE_BF16 ? DT_BF16 : DT_F32;
    o.sharded = c->train.shard_optimizer;
    o.pictures = c->train.batch_size * c->train.accumulation;
    scaling_make(out, &made->gradients, &o);
}

static void print_part(const planning *p, const part_plan *made, bool first)
{
    scaling many = {0};
    if (p->many.ranks)
        scale_run(&many, p, made);
    if (p->made.json)
        part_plan_print_json(p->out, made, p->many.ranks ? &many : NULL, p->rate, first);
    else
        part_plan_print(p->out, made, p->rate);
    if (p->many.ranks && !p->made.json)
        scaling_print(p->out, &many);
    scaling_free(&many);
}

/* With steps: those parts alone that a picture needs. */
static err run_parts(const planning *p, benchmark *b, const benchmark_part *first)
{
    picture_total total = {0};
    bool          any = false;
    for (const benchmark_part *part = first; part->name; part++) {
        part_plan made;
        if (p->given->steps && !part->times)
            continue;
        err e = run_part(&made, b, part, p->card);
        benchmark_close(b);
        if (e == OK)
            print_part(p, &made, !any);
        gradient_times_free(&made.gradients);
        TRY(e);
        any = true;
        add_part(&total, &made, part, p->given->steps);
    }
    if (p->given->steps)
        print_total(p, &total);
    else if (p->made.json)
        fprintf(p->out, "]");
    return OK;
}

static void print_head(const planning *p)
{
    const benchmark_options *o = &p->made;
    const card              *c = p->card;
    if (o->json)
        fprintf(p->out, "{\"size\": %" PRId64 ", \"dtype\": \"%s\", \"matrix_gflops\": %.1f, ", o->size,
                dtype_name(o->type), 1e-9 * p->rate);
    else
        fprintf(p->out, "%" PRId64 " x %" PRId64 " pixels, %s, matrix rate %.1f GFLOP/s\n", o->size, o->size,
                dtype_name(o->type), 1e-9 * p->rate);
    if (o->json && c)
        fprintf(p->out, "\"card\": {\"name\": \"%s\", \"title\": \"%s\", \"gflops\": %.1f, \"bytes_per_second\": %.0f,"
                        " \"memory_bytes\": %.0f}, ", c->name, c->title, 1e-9 * p->rate, c->bandwidth, c->memory);
    else if (c)
        fprintf(p->out, "ESTIMATE, nothing measured: every call takes the longer of its operations at %.0f TFLOP/s and its bytes "
                        "at %.2f TB/s (%s);\nno launches, no waits, no scratch of the card's kernels\n",
                1e-12 * p->rate, 1e-12 * c->bandwidth, c->basis);
    if (o->json)
        fprintf(p->out, "\"parts\": [");
}

/* Everything on the meta device, once the options are resolved; like: the device whose scratch is planned too. */
static err plan_parts_like(planning *p, const device *like)
{
    benchmark b = {.options = &p->made};
    TRY(device_open_meta(&b.dev, like));
    print_head(p);
    err e = run_parts(p, &b, p->made.config ? plan_run : benchmark_networks);
    if (p->made.json && e == OK)
        fprintf(p->out, "}\n");
    device_close(b.dev);
    return e;
}

/* Without a card the CPU gives the rate, and its primitives say what scratch they take. */
static err plan_parts(planning *p)
{
    device *cpu;
    if (p->card) {
        p->rate = card_rate(p->card, p->made.type);
        return plan_parts_like(p, NULL);
    }
    TRY(device_open_cpu(&cpu, p->made.threads));
    err e = benchmark_matrix_rate(&p->rate, cpu, DT_F32);
    if (e == OK)
        e = plan_parts_like(p, cpu);
    device_close(cpu);
    return e;
}

static err plan_config(planning *p, arena *memory)
{
    const plan_options *o = p->given;
    problems    found = {.memory = memory};
    run_config *config = NULL;
    run_config_load(&config, memory, &found, o->config, o->set, o->sets); /* its result is in the problems */
    TRY(problems_report(&found, stderr, PROBLEM_LINES));
    if (p->card)
        config->device.kind = CONFIG_DEVICE_CUDA; /* and so the type, unless it says one */
    p->made.config = config;
    p->made.ranks = p->many.ranks;
    p->made.size = config->data.resolution;
    p->made.type = parameters_type(config);
    return plan_parts(p);
}

/* Many ranks need a card, whose times say when gradients are ready. */
static err choose_card(planning *p)
{
    const plan_options *o = p->given;
    const char         *name = o->card ? o->card : o->ranks ? "h100" : NULL;
    if (name && !(p->card = card_find(name)))
        return err_set(E_USAGE, "--card %.40s: there are %s", name, card_names());
    if (!o->ranks)
        return o->link ? err_set(E_USAGE, "--link: is of --ranks N") : OK;
    if (!o->config)
        return err_set(E_USAGE, "--ranks: give RUN.yaml, whose step it is");
    p->many = (scaling_options){.ranks = o->ranks, .link = o->link ? o->link : "nvlink", .on = p->card};
    return scaling_check(&p->many);
}

err plan_print(const plan_options *o, FILE *out)
{
    planning p = {.given = o, .out = out};
    arena    memory = {0};
    TRY(check_options(&p.made, o));
    TRY(choose_card(&p));
    if (!o->config)
        return plan_parts(&p);
    err e = plan_config(&p, &memory);
    arena_free(&memory);
    return e;
}
