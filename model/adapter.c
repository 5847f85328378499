#include "model/adapter.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "model/unet.h"

/* ---- sizes ---- */

static int64_t list_level(int64_t *out, int64_t count, const unet_level *level)
{
    int64_t added = 0;
    for (int i = 0; level->attention && i < level->layers; i++)
        for (int k = 0; k < level->depth[i]; k++, added++)
            if (out)
                out[count + added] = level->channels;
    return count + added;
}

/* out may be NULL: only counts. */
static int64_t list_channels(int64_t *out, const unet_config *c)
{
    int64_t count = 0;
    for (int i = 0; i < c->levels; i++)
        count = list_level(out, count, &c->down[i]);
    for (int i = 0; i < c->levels; i++)
        count = list_level(out, count, &c->up[i]);
    for (int k = 0; k < c->mid_depth; k++, count++)
        if (out)
            out[count] = c->down[c->levels - 1].channels;
    return count;
}

int64_t adapter_channels(const int64_t **channels, arena *owner, const unet_config *config)
{
    int64_t  count = list_channels(NULL, config);
    int64_t *list = ARENA_ARRAY(owner, int64_t, count);
    list_channels(list, config);
    *channels = list;
    return count;
}

static void add_group(ms_adapter *a, int64_t pairs)
{
    int64_t first = a->groups ? a->group[a->groups - 1].end : 0;
    if (pairs)
        a->group[a->groups++] = (adapter_group){.first = first, .end = first + pairs};
}

void adapter_group_pairs(ms_adapter *a, const unet_config *config)
{
    a->groups = 0;
    for (int i = 0; i < config->levels; i++)
        add_group(a, list_level(NULL, 0, &config->down[i]));
    for (int i = 0; i < config->levels; i++)
        add_group(a, list_level(NULL, 0, &config->up[i]));
    add_group(a, config->mid_depth);
}

typedef struct size_reader {
    const weight_source *source;
    err                  status;
} size_reader;

/* dim[which] of a tensor that has to have `ndim` dimensions; 1 after an error. */
static int64_t read_dim(size_reader *r, const char *name, int ndim, int which)
{
    weight_view v;
    if (r->status != OK)
        return 1;
    if (!r->source->find(r->source, &v, name))
        r->status = err_set(E_MODEL, "%s: %s is missing: this is no MS-Diffusion adapter", r->source->label, name);
    else if (v.ndim != ndim || v.dim[which] < 1 || v.dim[which] > 1 << 24)
        r->status = err_set(E_MODEL, "%s: %s: found %d dimensions, expected %d, all from 1 to 2^24", r->source->label,
                            name, v.ndim, ndim);
    return r->status == OK ? v.dim[which] : 1;
}

static int64_t count_layers(const weight_source *s)
{
    int64_t depth = 0;
    for (size_t i = 0; i < s->count; i++) {
        long long layer;
        if (sscanf(s->name(s, i), "image_proj.layers.%lld.", &layer) == 1 && layer >= depth &&
            layer < RESAMPLER_MAX_DEPTH)
            depth = layer + 1;
    }
    return depth;
}

err adapter_sizes_read(resampler_sizes *out, const weight_source *source)
{
    size_reader     r = {source, OK};
    resampler_sizes s = {.depth = count_layers(source)};
    s.dim = read_dim(&r, "image_proj.proj_in.weight", 2, 0);
    s.image_width = read_dim(&r, "image_proj.proj_in.weight", 2, 1);
    s.queries = read_dim(&r, "image_proj.grounding_latents", 3, 1);
    s.out_width = read_dim(&r, "image_proj.proj_out.weight", 2, 0);
    int64_t grounding = read_dim(&r, "image_proj.latent_proj.0.weight", 2, 1);
    int64_t inner = read_dim(&r, "image_proj.layers.0.0.to_q.weight", 2, 0);
    s.hidden_width = read_dim(&r, "image_proj.layers.0.1.1.weight", 2, 0);
    TRY(r.status);
    s.heads = inner / RESAMPLER_HEAD_WIDTH;
    s.phrase_width = grounding - 8 * RESAMPLER_BOX_FREQUENCIES;
    if (inner % RESAMPLER_HEAD_WIDTH)
        return err_set(
            E_MODEL, "%s: image_proj.layers.0.0.to_q.weight: found %" PRId64 " rows, expected a multiple of %d (heads)",
            source->label, inner, RESAMPLER_HEAD_WIDTH);
    if (s.phrase_width < 1)
        return err_set(
            E_MODEL, "%s: image_proj.latent_proj.0.weight: found %" PRId64 " inputs, expected the phrase's width + %d",
            source->label, grounding, 8 * RESAMPLER_BOX_FREQUENCIES);
    *out = s;
    return OK;
}

/* ---- binding ---- */

static void bind_pair(binder *b, adapter_pair *pair, weight_stack *kv, int64_t i, int64_t channels, int64_t width)
{
    int at = bind_enter(b, "ms_adapter.%" PRId64, 2 * i + 1);
    pair->first_row = kv->bound;
    bind_part(b, kv, &pair->k.w, "to_k_ip.weight", DIMS(channels, width));
    bind_part(b, kv, &pair->v.w, "to_v_ip.weight", DIMS(channels, width));
    bind_leave(b, at);
}

static void bind_group(binder *b, ms_adapter *a, int number, int64_t width)
{
    adapter_group *group = &a->group[number];
    int64_t        rows = 0;
    for (int64_t i = group->first; i < group->end; i++)
        rows += 2 * a->channels[i];
    bind_stack_begin(&group->kv, rows);
    for (int64_t i = group->first; i < group->end; i++) {
        a->pair[i].group = number;
        bind_pair(b, &a->pair[i], &group->kv, i, a->channels[i], width);
    }
    bind_stack_end(b, &group->kv);
}

void adapter_bind(binder *b, ms_adapter *a, arena *owner, const resampler_sizes *sizes, const int64_t *channels,
                  int64_t pairs)
{
    if (!a->pair) {
        a->pair = ARENA_ARRAY(owner, adapter_pair, pairs);
        a->channels = channels;
        a->pairs = pairs;
    }
    if (!a->groups)
        add_group(a, pairs);
    CHECK(a->groups == 0 || a->group[a->groups - 1].end == pairs, "groups of another number of pairs than %" PRId64, pairs);
    int at = bind_enter(b, "image_proj");
    resampler_bind(b, &a->image_proj, owner, sizes);
    bind_leave(b, at);
    for (int i = 0; i < a->groups; i++)
        bind_group(b, a, i, sizes->out_width);
    bind_tensor(b, &a->dummy, "dummy_image_tokens", WEIGHT_PLAIN, DIMS(1, ADAPTER_DUMMY_TOKENS, sizes->out_width));
}

err adapter_load(ms_adapter *a, arena *owner, device *dev, dtype type, const weight_source *source,
                 const unet_config *config, bool trainable)
{
    resampler_sizes sizes;
    const int64_t  *channels;
    binder         *b;
    *a = (ms_adapter){0};
    TRY(adapter_sizes_read(&sizes, source));
    if (sizes.out_width != config->text_width)
        return err_set(E_MODEL,
                       "%s: image_proj.proj_out.weight: gives tokens of width %" PRId64
                       ", the UNet's cross_attention_dim is %" PRId64 ": this adapter belongs to another model",
                       source->label, sizes.out_width, config->text_width);
    int64_t pairs = adapter_channels(&channels, owner, config);
    adapter_group_pairs(a, config);
    TRY(bind_load_begin(&b, owner, dev, type, source, trainable));
    adapter_bind(b, a, owner, &sizes, channels, pairs);
    TRY(bind_end(b));
    a->dummy->needs_grad = false;
    return OK;
}

void adapter_walk(ms_adapter *a, bind_visit visit, void *user)
{
    binder *b;
    arena   unused = {0};
    bind_walk_begin(&b, &unused, visit, user);
    adapter_bind(b, a, &unused, &a->image_proj.sizes, a->channels, a->pairs);
    bind_end(b);
    arena_free(&unused);
}

void adapter_release(ms_adapter *a)
{
    if (a->pair)
        adapter_walk(a, bind_visit_release, NULL);
}

/* ---- a new adapter ---- */

typedef struct initialiser {
    arena      *owner;
    device     *dev;
    const unet *u;
    uint64_t    seed, number; /* number: of the tensor in the walk */
    int64_t     linear_in;    /* inputs of the weight before this bias */
    err         status;
} initialiser;

/* torch.nn.Linear.reset_parameters: kaiming_uniform_(a=sqrt(5)) is U(+-1/sqrt(in)), and so is the bias. */
static void draw_linear(float *out, int64_t count, int64_t in, draw_key key)
{
    float bound = 1.0f / sqrtf((float)in);
    draw_uniforms(out, (size_t)count, key);
    for (int64_t i = 0; i < count; i++)
        out[i] = (2.0f * out[i] - 1.0f) * bound;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* A bias belongs to a norm when the weight before it has one dimension. */
static void draw_values(float *out, initialiser *s, const char *path, int ndim, const int64_t *dim, int64_t count)
{
    draw_key key = {.seed = s->seed, .purpose = DRAW_INIT, .step = 0, .sample = s->number};
    if (ndim == 3) { /* grounding_latents (1,N,dim), dummy_image_tokens */
        float scale = strstr(path, "grounding") ? 1.0f / sqrtf((float)dim[2]) : 1.0f;
        draw_normals(out, (size_t)count, key);
        for (int64_t i = 0; i < count; i++)
            out[i] *= scale;
    } else if (ndim == 2) {
        s->linear_in = dim[1];
        draw_linear(out, count, dim[1], key);
    } else if (ends_with(path, ".bias") && s->linear_in) {
        draw_linear(out, count, s->linear_in, key);
    } else {
        s->linear_in = 0;
        for (int64_t i = 0; i < count; i++)
            out[i] = ends_with(path, ".weight") ? 1.0f : 0.0f;
    }
}

/* to_k_ip, to_v_ip begin as the text's to_k, to_v of the same cross-attention; NULL for other paths. */
static const tensor *text_weight(const initialiser *s, const char *path)
{
    int  number;
    char which;
    if (sscanf(path, "ms_adapter.%d.to_%c_ip", &number, &which) != 2)
        return NULL;
    const cross_attention *a = unet_cross_attention(s->u, number / 2);
    return which == 'k' ? a->k.w : a->v.w;
}

static err initialise(binder *b, initialiser *s, tensor **slot, const char *path, int ndim, const int64_t *dim)
{
    TRY(bind_make(b, slot, s->owner, s->dev, LIFE_STATE, arena_copy_string(s->owner, path), DT_F32, ndim, dim));
    (*slot)->needs_grad = strcmp(path, "dummy_image_tokens") != 0;
    if (s->dev->dataless)
        return OK;
    int64_t       count = tensor_count(*slot);
    const tensor *copied = text_weight(s, path);
    float        *value = malloc((size_t)count * sizeof *value);
    if (!value)
        return err_set(E_MEMORY, "%s: no memory for %" PRId64 " numbers while making a new adapter", path, count);
    err e = OK;
    if (copied)
        e = tensor_download(value, DT_F32, copied);
    else
        draw_values(value, s, path, ndim, dim, count);
    if (e == OK)
        e = tensor_upload(*slot, value, DT_F32);
    free(value);
    return e;
}

static void initialise_visit(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    initialiser *s = bind_user(b);
    (void)kind;
    if (s->status == OK)
        s->status = initialise(b, s, slot, path, ndim, dim);
    s->number++;
}

err adapter_new(ms_adapter *a, arena *owner, device *dev, const resampler_sizes *sizes, const unet *u, uint64_t seed)
{
    initialiser    s = {.owner = owner, .dev = dev, .u = u, .seed = seed};
    const int64_t *channels;
    int64_t        pairs = adapter_channels(&channels, owner, &u->config);
    binder        *b;
    *a = (ms_adapter){0};
    if (sizes->out_width != u->config.text_width)
        return err_set(E_CONFIG, "adapter: tokens of width %" PRId64 ", but the UNet's cross_attention_dim is %" PRId64,
                       sizes->out_width, u->config.text_width);
    adapter_group_pairs(a, &u->config);
    TRY(bind_walk_begin(&b, owner, initialise_visit, &s));
    adapter_bind(b, a, owner, sizes, channels, pairs);
    bind_end(b);
    if (s.status != OK)
        adapter_release(a);
    return s.status;
}

/* ---- a copy ---- */

typedef struct copying {
    arena   *owner, listed;
    device  *dev;
    dtype    type;
    tensor **from; /* in the order of the walk */
    int      count, at;
    err      status;
} copying;

static void count_visit(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    (void)slot, (void)path, (void)kind, (void)ndim, (void)dim;
    ((copying *)bind_user(b))->count++;
}

static void list_visit(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    copying *c = bind_user(b);
    (void)path, (void)kind, (void)ndim, (void)dim;
    c->from[c->at++] = *slot;
}

static void copy_visit(binder *b, tensor **slot, const char *path, weight_kind kind, int ndim, const int64_t *dim)
{
    copying *c = bind_user(b);
    tensor  *from = c->from[c->at++];
    (void)kind;
    if (c->status == OK)
        c->status = bind_make(b, slot, c->owner, c->dev, LIFE_STATE, arena_copy_string(c->owner, path), c->type, ndim, dim);
    if (c->status != OK)
        return;
    (*slot)->needs_grad = from->needs_grad;
    c->status = c->dev->p->copy(c->dev, *slot, from, false);
}

err adapter_copy(ms_adapter *out, arena *owner, device *dev, ms_adapter *from, dtype type)
{
    copying c = {.owner = owner, .dev = dev, .type = type};
    binder *b;
    adapter_walk(from, count_visit, &c);
    c.from = ARENA_ARRAY(&c.listed, tensor *, c.count);
    adapter_walk(from, list_visit, &c);
    c.at = 0;
    *out = (ms_adapter){.groups = from->groups};
    for (int i = 0; i < from->groups; i++)
        out->group[i] = (adapter_group){.first = from->group[i].first, .end = from->group[i].end};
    TRY(bind_walk_begin(&b, owner, copy_visit, &c));
    adapter_bind(b, out, owner, &from->image_proj.sizes, from->channels, from->pairs);
    bind_end(b);
    if (c.status != OK)
        adapter_release(out);
    arena_free(&c.listed);
    return c.status;
}
