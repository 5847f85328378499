#include "model/unet.h"

#include <inttypes.h>

enum { MAX_SKIPS = UNET_MAX_LEVELS * (UNET_MAX_LAYERS + 1) + 1 };

/* ---- the weights ---- */

static void bind_mlp(binder *b, linear *in, linear *out, const char *path, int64_t from, int64_t to)
{
    int at = bind_enter(b, "%s", path);
    bind_linear(b, in, "linear_1", to, from, true);
    bind_linear(b, out, "linear_2", to, to, true);
    bind_leave(b, at);
}

static void bind_transformer(binder *b, transformer *t, arena *owner, const unet_config *c, const unet_level *level,
                             int depth, int64_t *pair)
{
    t->first_pair = *pair;
    *pair += depth;
    transformer_bind(b, t, owner, &(transformer_sizes){.channels = level->channels, .heads = level->heads,
                                                       .text_width = c->text_width, .depth = depth, .groups = c->groups,
                                                       .linear_projection = c->linear_projection});
}

/* in[i]: channels that go into resnet i. sampler: path of the block's own convolution, NULL for none. */
static void bind_block(binder *b, unet_block *block, arena *owner, const unet_config *c, const unet_level *level,
                       const int64_t *in, const char *sampler, int64_t *pair)
{
    if (!block->resnet) {
        block->resnet = ARENA_ARRAY(owner, resnet, level->layers);
        block->transformer = level->attention ? ARENA_ARRAY(owner, transformer, level->layers) : NULL;
    }
    for (int i = 0; level->attention && i < level->layers; i++) {
        int at = bind_enter(b, "attentions.%d", i);
        bind_transformer(b, &block->transformer[i], owner, c, level, level->depth[i], pair);
        bind_leave(b, at);
    }
    for (int i = 0; i < level->layers; i++) {
        int at = bind_enter(b, "resnets.%d", i);
        resnet_bind(b, &block->resnet[i], in[i], level->channels, c->time_channels);
        bind_leave(b, at);
    }
    if (sampler)
        bind_conv(b, &block->sampler, sampler, level->channels, level->channels, 3);
}

static void bind_down(binder *b, unet *u, arena *owner, int64_t *pair)
{
    const unet_config *c = &u->config;
    for (int level = 0; level < c->levels; level++) {
        int64_t in[UNET_MAX_LAYERS + 1];
        for (int i = 0; i < c->down[level].layers; i++)
            in[i] = i || !level ? c->down[level].channels : c->down[level - 1].channels;
        int at = bind_enter(b, "down_blocks.%d", level);
        bind_block(b, &u->down[level], owner, c, &c->down[level], in,
                   level + 1 < c->levels ? "downsamplers.0.conv" : NULL, pair);
        bind_leave(b, at);
    }
}

static void bind_up(binder *b, unet *u, arena *owner, int64_t *pair)
{
    const unet_config *c = &u->config;
    int64_t            before = c->up[0].channels;
    for (int k = 0; k < c->levels; k++) {
        const unet_level *level = &c->up[k];
        int64_t           below = k + 1 < c->levels ? c->up[k + 1].channels : level->channels;
        int64_t           in[UNET_MAX_LAYERS + 1];
        for (int i = 0; i < level->layers; i++) /* x, and the skip: the last one comes from the next finer level */
            in[i] = (i ? level->channels : before) + (i == level->layers - 1 ? below : level->channels);
        int at = bind_enter(b, "up_blocks.%d", k);
        bind_block(b, &u->up[k], owner, c, level, in, k + 1 < c->levels ? "upsamplers.0.conv" : NULL, pair);
        bind_leave(b, at);
        before = level->channels;
    }
}

static void bind_mid(binder *b, unet *u, arena *owner, int64_t *pair)
{
    const unet_config *c = &u->config;
    const unet_level  *level = &c->down[c->levels - 1];
    int                at = bind_enter(b, "mid_block");
    int                part = bind_enter(b, "attentions.0");
    bind_transformer(b, &u->mid, owner, c, level, c->mid_depth, pair);
    bind_leave(b, part);
    part = bind_enter(b, "resnets.0");
    resnet_bind(b, &u->mid_first, level->channels, level->channels, c->time_channels);
    bind_leave(b, part);
    part = bind_enter(b, "resnets.1");
    resnet_bind(b, &u->mid_second, level->channels, level->channels, c->time_channels);
    bind_leave(b, part);
    bind_leave(b, at);
}

void unet_bind(binder *b, unet *u, arena *owner, const unet_config *config)
{
    int64_t pair = 0, first = config->down[0].channels;
    u->config = *config;
    bind_conv(b, &u->conv_in, "conv_in", first, config->in_channels, config->conv_in_kernel);
    bind_mlp(b, &u->time_in, &u->time_out, "time_embedding", first, config->time_channels);
    bind_mlp(b, &u->add_in, &u->add_out, "add_embedding", config->pooled_width + 6 * config->time_id_channels,
             config->time_channels);
    bind_down(b, u, owner, &pair); /* this order numbers the adapter's pairs */
    bind_up(b, u, owner, &pair);
    bind_mid(b, u, owner, &pair);
    bind_norm(b, &u->norm_out, "conv_norm_out", first);
    bind_conv(b, &u->conv_out, "conv_out", config->out_channels, first, config->conv_out_kernel);
}

void unet_release(unet *u)
{
    binder     *b;
    unet_config config = u->config;
    arena       unused = {0};
    if (!config.levels)
        return;
    bind_walk_begin(&b, &unused, bind_visit_release, NULL);
    unet_bind(b, u, &unused, &config);
    bind_end(b);
    arena_free(&unused);
}

static const attention_layer *cross_in(const transformer *t, int64_t i)
{
    return i >= t->first_pair && i < t->first_pair + t->depth ? &t->block[i - t->first_pair].cross : NULL;
}

const attention_layer *unet_cross_attention(const unet *u, int64_t i)
{
    const unet_config     *c = &u->config;
    const attention_layer *found = cross_in(&u->mid, i);
    for (int k = 0; !found && k < c->levels; k++) {
        for (int l = 0; !found && c->down[k].attention && l < c->down[k].layers; l++)
            found = cross_in(&u->down[k].transformer[l], i);
        for (int l = 0; !found && c->up[k].attention && l < c->up[k].layers; l++)
            found = cross_in(&u->up[k].transformer[l], i);
    }
    CHECK(found, "cross-attention %" PRId64, i);
    return found;
}

/* ---- the inputs ---- */

static err wrong_shape(const char *name, const tensor *t, const char *expected)
{
    arena text = {0};
    err   e = err_set(E_SHAPE, "%s: got %s, expected %s", name, tensor_shape_text(&text, t), expected);
    arena_free(&text);
    return e;
}

/* dim[i] < 0: any size from 1 */
static err expect_shape(const char *name, const tensor *t, int ndim, const int64_t *dim)
{
    bool  fits = t->ndim == ndim;
    arena text = {0};
    char *expected = arena_copy_string(&text, "(");
    err   e = OK;
    for (int i = 0; i < ndim; i++) {
        fits = fits && (dim[i] < 0 ? t->dim[i] > 0 : t->dim[i] == dim[i]);
        expected = dim[i] < 0 ? arena_print(&text, "%s%s*", expected, i ? "," : "")
                              : arena_print(&text, "%s%s%" PRId64, expected, i ? "," : "", dim[i]);
    }
    if (!fits)
        e = wrong_shape(name, t, arena_print(&text, "%s)", expected));
    arena_free(&text);
    return e;
}

static err check_inputs(const unet_config *c, const unet_inputs *in)
{
    TRY(expect_shape("sample", in->sample, DIMS(-1, -1, -1, c->in_channels)));
    int64_t batch = in->sample->dim[0];
    TRY(expect_shape("timestep", in->timestep, DIMS(batch)));
    TRY(expect_shape("encoder_hidden_states", in->encoder_hidden_states, DIMS(batch, -1, c->text_width)));
    TRY(expect_shape("text_embeds", in->text_embeds, DIMS(batch, c->pooled_width)));
    return expect_shape("time_ids", in->time_ids, DIMS(batch, 6));
}

static err check_subjects(const unet *u, const unet_inputs *in, const adapter_inputs *s)
{
    const resampler_sizes *sizes = &s->adapter->image_proj.sizes;
    CHECK(s->adapter->pairs == u->mid.first_pair + u->mid.depth, "adapter of %" PRId64 " pairs on another UNet",
          s->adapter->pairs);
    TRY(expect_shape("boxes", s->boxes, DIMS(-1, -1, 4)));
    int64_t samples = s->boxes->dim[0], subjects = s->boxes->dim[1];
    if (samples > in->sample->dim[0])
        return wrong_shape("boxes", s->boxes, "no more samples than the batch has");
    TRY(expect_shape("ip_tokens", s->ip_tokens, DIMS(samples, subjects * sizes->queries, sizes->out_width)));
    return s->subject_scales ? expect_shape("subject_scales", s->subject_scales, DIMS(subjects)) : OK;
}

/* ---- forward ---- */

static tensor *convolve(ag *g, const conv *m, tensor *x, int stride)
{
    int pad = (int)(m->w->dim[1] - 1) / 2;
    return ag_conv2d(g, x, m->w, m->b, NULL, (conv_geometry){stride, pad, pad, pad, pad});
}

static tensor *sinusoid(ag *g, tensor *t, int64_t dim, dtype type)
{
    tensor *e = ag_time_embedding(g, t, dim);
    return type == DT_F32 ? e : ag_cast(g, e, type);
}

/* silu(time embedding + text_time embedding) (B,time_channels): what every resnet projects to its channels. */
static tensor *embed_time(ag *g, const unet *u, const unet_inputs *in)
{
    int     scope = ag_scope_open(g);
    int64_t batch = in->sample->dim[0], per_id = u->config.time_id_channels;
    dtype   type = in->sample->type;
    tensor *t = sinusoid(g, in->timestep, u->config.down[0].channels, type);
    t = ag_silu(g, ag_linear(g, t, u->time_in.w, u->time_in.b, NULL));
    t = ag_linear(g, t, u->time_out.w, u->time_out.b, NULL);
    tensor *ids = sinusoid(g, ag_reshape(g, in->time_ids, DIMS(6 * batch)), per_id, type);
    tensor *a = ag_concat(g, in->text_embeds, ag_reshape(g, ids, DIMS(batch, 6 * per_id)), 1);
    a = ag_silu(g, ag_linear(g, a, u->add_in.w, u->add_in.b, NULL));
    return ag_scope_close(g, scope, ag_silu(g, ag_linear(g, a, u->add_out.w, u->add_out.b, t)));
}

/* One box mask for each size at which subjects are attended to. */
static void make_masks(ag *g, attention_context *c, const unet *u, const unet_inputs *in, tensor *boxes)
{
    int64_t h = in->sample->dim[1], w = in->sample->dim[2];
    int     levels = u->config.levels;
    for (int level = 0; level < levels; level++) {
        bool used =
            u->config.down[level].attention || u->config.up[levels - 1 - level].attention || level == levels - 1;
        if (used) {
            c->grid[c->grids].h = h;
            c->grid[c->grids].w = w;
            c->grid[c->grids++].mask = ag_box_mask(g, boxes, h, w);
        }
        h = (h + 1) / 2; /* what a 3x3 convolution of stride 2 with padding 1 gives */
        w = (w + 1) / 2;
    }
}

typedef struct pass { /* one forward */
    ag               *g;
    const unet       *u;
    tensor           *time;
    attention_context context;
    tensor           *skip[MAX_SKIPS];
    int               skips;
} pass;

static tensor *run_layer(pass *p, const unet_block *block, int i, tensor *x)
{
    x = resnet_forward(p->g, &block->resnet[i], x, p->time, p->u->config.groups, p->u->config.eps);
    return block->transformer ? transformer_forward(p->g, &block->transformer[i], x, &p->context) : x;
}

static tensor *run_down(pass *p, tensor *x)
{
    p->skip[p->skips++] = x;
    for (int level = 0; x && level < p->u->config.levels; level++) {
        const unet_block *block = &p->u->down[level];
        for (int i = 0; x && i < p->u->config.down[level].layers; i++) {
            int scope = ag_scope_open(p->g);
            x = ag_scope_close(p->g, scope, run_layer(p, block, i, x));
            p->skip[p->skips++] = x;
        }
        if (block->sampler.w)
            p->skip[p->skips++] = x = convolve(p->g, &block->sampler, x, 2);
    }
    return x;
}

static tensor *run_mid(pass *p, tensor *x)
{
    const unet_config *c = &p->u->config;
    int                scope = ag_scope_open(p->g);
    x = resnet_forward(p->g, &p->u->mid_first, x, p->time, c->groups, c->eps);
    x = ag_scope_close(p->g, scope, transformer_forward(p->g, &p->u->mid, x, &p->context));
    return ag_scope_close(p->g, scope,
                          x ? resnet_forward(p->g, &p->u->mid_second, x, p->time, c->groups, c->eps) : NULL);
}

static tensor *run_up(pass *p, tensor *x)
{
    int scope = ag_scope_open(p->g); /* closed after each layer: of the up path only the newest x stays */
    for (int k = 0; x && k < p->u->config.levels; k++) {
        const unet_block *block = &p->u->up[k];
        for (int i = 0; x && i < p->u->config.up[k].layers; i++) {
            tensor *joined = ag_concat(p->g, x, p->skip[--p->skips], 3);
            x = joined ? ag_scope_close(p->g, scope, run_layer(p, block, i, joined)) : NULL;
        }
        if (!x || !block->sampler.w)
            continue;
        const tensor *next = p->skip[p->skips - 1];
        x = ag_upsample(p->g, x, next->dim[1], next->dim[2]);
        x = ag_scope_close(p->g, scope, convolve(p->g, &block->sampler, x, 1));
    }
    return x;
}

static bool inputs_made(const unet_inputs *in, const adapter_inputs *s)
{
    return in->sample && in->timestep && in->encoder_hidden_states && in->text_embeds && in->time_ids &&
           (!s || (s->ip_tokens && s->boxes));
}

tensor *unet_forward(ag *g, const unet *u, const unet_inputs *in, const adapter_inputs *subjects)
{
    if (ag_status(g) != OK || !inputs_made(in, subjects))
        return NULL;
    if (ag_fail(g, check_inputs(&u->config, in)) != OK ||
        (subjects && ag_fail(g, check_subjects(u, in, subjects)) != OK))
        return NULL;
    int  scope = ag_scope_open(g);
    pass p = {.g = g, .u = u, .context = {.text = in->encoder_hidden_states}};
    p.time = embed_time(g, u, in);
    if (subjects) {
        p.context.adapter = subjects->adapter;
        p.context.ip_tokens = subjects->ip_tokens;
        p.context.subject_scales = subjects->subject_scales;
        p.context.scale = subjects->scale;
        make_masks(g, &p.context, u, in, subjects->boxes);
    }
    tensor *x = run_up(&p, run_mid(&p, run_down(&p, convolve(g, &u->conv_in, in->sample, 1))));
    x = ag_group_norm(g, x, NULL, u->norm_out.w, u->norm_out.b, u->config.groups, u->config.eps, true);
    return ag_scope_close(g, scope, convolve(g, &u->conv_out, x, 1));
}
