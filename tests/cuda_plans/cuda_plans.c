/* Every convolution and attention that SDXL's networks ask cuDNN for, planned for an H100 that is not there: the modules run
 * on the meta device, whose primitives ask autograd/cuda for their scratch, which makes the plans of a card described in
 * JSON. Nothing is executed, and no list of shapes is written down anywhere.
 *   usage: cuda_plans [-v]     exit 1 where a graph has no plan */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/cuda/dnn.h"
#include "base/progress.h"
#include "train/benchmark.h"

/* An H100 SXM as cuDNN writes one down; what only newer versions ask for is passed over by older ones. */
static const char H100[] =
    "{\"cudaDeviceId\":0,\"deviceVer\":900,\"driverVer\":13000,\"maxGridSize\":[2147483647,65535,65535],"
    "\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,\"multiProcessorCount\":132,\"smCountOrigin\":0,\"warpSize\":32,"
    "\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":232448,\"oversizedSharedMemoryPerBlock\":0,"
    "\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,"
    "\"maxThreadsPerSM\":2048,\"pciDeviceId\":0,\"isTccDriver\":0,\"supportCoopLaunch\":1,\"smClockRateKHz\":1980000,"
    "\"memClockRateKHz\":2619000,\"memoryBusWidth\":5120,\"l2CacheSize\":52428800,\"totalGlobalMem\":84929347584,"
    "\"deviceName\":\"NVIDIA H100 80GB HBM3\"}";

enum { SUBJECTS = 4, TOKENS = 77, PICTURE_TOKENS = 257, PICTURE_WIDTH = 1664, PHRASE_WIDTH = 768 };
enum { CONVOLUTION = 1, DATA_GRADIENT, ATTENTION, KINDS }; /* the first word of a plan's key: conv.c, attention.c */

typedef struct tally {
    int64_t asked[KINDS], built[KINDS];
    int64_t kept;      /* plans that come back from their text, as they do from the store of a later process */
    size_t  workspace; /* the largest */
} tally;

static err describe(cuda_state *s)
{
    cudnnStatus_t status = cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &s->described);
    if (status == CUDNN_STATUS_SUCCESS)
        status = cudnnBackendSetAttribute(s->described, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, sizeof H100,
                                          H100);
    if (status == CUDNN_STATUS_SUCCESS)
        status = cudnnBackendFinalize(s->described);
    return status == CUDNN_STATUS_SUCCESS ? OK : cuda_dnn_failed(status, "CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR");
}

/* ---- what was asked for ---- */

static const char *const kind_name[KINDS] = {"", "convolution", "convolution's data gradient", "attention"};

static void print_entry(const keyed_entry *e, const char *end)
{
    const int64_t *k = e->key;
    if (k[0] == ATTENTION)
        printf("  attention%s: %" PRId64 " x %" PRId64 " queries x %" PRId64 " keys, %" PRId64 " heads of %" PRId64 "%s\n",
               k[1] ? " with its sums" : "", k[3], k[4], k[5], k[6], k[7], end);
    else
        printf("  %s: %" PRId64 " x %" PRId64 " x %" PRId64 " x %" PRId64 ", weights %" PRId64 " x %" PRId64 " x %" PRId64
               ", stride %" PRId64 ", padding %" PRId64 "%s%s%s%s\n",
               kind_name[k[0]], k[1], k[2], k[3], k[4], k[5], k[6], k[7], k[8], k[9], k[13] ? "" : ", f32",
               k[14] ? ", bias" : "", k[15] ? ", residual" : "", end);
}

static bool comes_back(const cuda_state *s, const dnn_plan *plan)
{
    size_t    bytes = 0;
    char     *text = dnn_plan_text(&bytes, plan);
    dnn_plan *again = text ? dnn_plan_of_text(s, text, bytes) : NULL;
    bool      same = again && again->workspace == plan->workspace;
    if (again)
        dnn_plan_close(again);
    free(text);
    return same;
}

static void count_plans(tally *t, const cuda_state *s, bool verbose)
{
    for (int i = 0; i < KEYED_CHAINS; i++)
        for (const keyed_entry *e = s->plans.chain[i]; e; e = e->next) {
            const dnn_plan *plan = e->value;
            t->asked[e->key[0]]++;
            t->built[e->key[0]] += plan != NULL;
            t->kept += plan && comes_back(s, plan);
            if (plan && plan->workspace > t->workspace)
                t->workspace = plan->workspace;
            if (verbose || !plan)
                print_entry(e, plan ? "" : ": NO PLAN");
        }
}

static void report(tally *all, const tally *t, const char *what, double seconds)
{
    all->kept += t->kept;
    printf("%-46s", what);
    for (int k = CONVOLUTION; k < KINDS; k++) {
        all->asked[k] += t->asked[k];
        all->built[k] += t->built[k];
        printf(" %s %" PRId64 " of %" PRId64 "%s", kind_name[k], t->built[k], t->asked[k], k + 1 < KINDS ? "," : "");
    }
    printf("; workspace at most %zu KiB; %.1f s\n", t->workspace >> 10, seconds);
    fflush(stdout);
}

/* ---- the modules ---- */

static const benchmark_part *part_named(const char *group)
{
    const benchmark_part *p = benchmark_networks;
    while (p->name && !strstr(p->groups, group))
        p++;
    CHECK(p->name, "no part %s", group);
    return p;
}

/* As many samples, each of as many subjects as a sample may have. */
static void widen_batch(benchmark *b, int64_t samples)
{
    batch  *t = &b->batch;
    arena  *a = &b->memory;
    int64_t rows = samples * SUBJECTS;
    t->B = samples;
    t->S = SUBJECTS;
    t->latents = ARENA_ARRAY(a, float, samples * t->h * t->w * t->C);
    t->noise = ARENA_ARRAY(a, float, samples * t->h * t->w * t->C);
    t->timesteps = ARENA_ARRAY(a, float, samples);
    t->text = ARENA_ARRAY(a, float, samples * TOKENS * t->X);
    t->pooled = ARENA_ARRAY(a, float, samples * t->P);
    t->time_ids = ARENA_ARRAY(a, float, samples * 6);
    t->image_hidden = ARENA_ARRAY(a, float, rows * PICTURE_TOKENS * PICTURE_WIDTH);
    t->phrases = ARENA_ARRAY(a, float, rows * PHRASE_WIDTH);
    t->boxes = ARENA_ARRAY(a, float, rows * 4);
    t->drop_grounding = ARENA_ARRAY(a, int32_t, samples);
}

/* A training step, and the forward alone, whose attention keeps no sums. */
static err run_unet(benchmark *b, ag *g, int64_t samples)
{
    float  loss;
    widen_batch(b, samples);
    TRY(train_step(&loss, NULL, g, &b->models, &b->batch, 1));
    return train_loss(&loss, g, &b->models, &b->batch);
}

static err run_decoder(benchmark *b, ag *g, int64_t samples)
{
    tensor *out;
    int64_t side = b->options->size / vae_factor(&b->vae.config);
    TRY(benchmark_input(b, "latents", DIMS(samples, side, side, b->vae.config.latent_channels)));
    return vae_decode(&out, g, &b->vae, b->input[b->inputs - 1]);
}

static err run_encoder(benchmark *b, ag *g, int64_t samples)
{
    tensor *out;
    TRY(benchmark_input(b, "pictures", DIMS(samples, b->options->size, b->options->size, b->vae.config.in_channels)));
    return vae_encode(&out, g, &b->vae, b->input[b->inputs - 1]);
}

static err run_vision(benchmark *b, ag *g, int64_t samples)
{
    clip_vision_output        out;
    const clip_vision_config *c = &b->vision.config;
    TRY(benchmark_input(b, "pixels", DIMS(samples, c->image_size, c->image_size, c->channels)));
    return clip_vision_forward(&out, g, &b->vision, b->input[b->inputs - 1], true);
}

typedef struct module {
    const char *name, *group; /* group: of the part of train/benchmark_networks.c that opens it */
    err (*run)(benchmark *b, ag *g, int64_t samples);
    bool        one_size;
} module;

static const module modules[] = {
    {"UNet with adapter, forward and backward", " train ", run_unet, false},
    {"VAE decoder", " vae ", run_decoder, false},
    {"VAE encoder", " encode ", run_encoder, false},
    {"image encoder", " vision ", run_vision, true},
};

/* One module at one size, from a table without plans. */
static err plan_module(tally *all, cuda_state *s, const module *m, int64_t size, int64_t samples, bool verbose)
{
    benchmark_options options = {.random = "sdxl", .size = size, .type = DT_BF16};
    benchmark b = {.options = &options};
    tally     t = {0};
    char      what[96];
    double    start = clock_seconds();
    device    like = {.kind = "cuda", .dry = &cuda_dry, .threads = 1, .dataless = true, .state = s};
    TRY(device_open_meta(&b.dev, &like));
    err e = part_named(m->group)->open(&b);
    ag *g = ag_new(b.dev);
    if (e == OK)
        e = m->run(&b, g, samples);
    ag_free(g);
    device *dev = b.dev;
    benchmark_close(&b);
    device_close(dev);
    TRY(e);
    count_plans(&t, s, verbose);
    snprintf(what, sizeof what, "%s, %" PRId64 ", batch %" PRId64, m->name, size, samples);
    report(all, &t, what, clock_seconds() - start);
    keyed_clear(&s->plans, dnn_plan_close);
    return OK;
}

static err plan_all(tally *all, cuda_state *s, bool verbose)
{
    static const int64_t sizes[] = {512, 1024}, batches[] = {1, 2, 4};
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++)
        for (size_t size = 0; size < sizeof sizes / sizeof *sizes; size++)
            for (size_t n = 0; n < sizeof batches / sizeof *batches; n++)
                if (!modules[i].one_size || size == 0)
                    TRY(plan_module(all, s, &modules[i], sizes[size], batches[n], verbose));
    return OK;
}

int main(int count, char **argument)
{
    cuda_state state = {0};
    tally      all = {0};
    bool       verbose = count > 1 && !strcmp(argument[1], "-v");
    err e = describe(&state);
    if (e == OK)
        e = plan_all(&all, &state, verbose);
    if (e != OK) {
        fprintf(stderr, "cuda_plans: %s\n", err_message());
        return err_exit_code(e);
    }
    int64_t asked = 0, built = 0;
    for (int k = CONVOLUTION; k < KINDS; k++) {
        asked += all.asked[k];
        built += all.built[k];
        printf("%s: %" PRId64 " of %" PRId64 "\n", kind_name[k], all.built[k], all.asked[k]);
    }
    printf("plans built %" PRId64 " of %" PRId64 " for an H100, cuDNN %zu; %" PRId64 " of them come back from their text\n", built,
           asked, cudnnGetVersion(), all.kept);
    cudnnBackendDestroyDescriptor(state.described);
    return built == asked && all.kept == built ? 0 : 1;
}
