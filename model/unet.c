#include "model/unet.h"

#include <inttypes.h>

#include "model/expect_shape.h"

enum { MAX_SKIPS = UNET_MAX_LEVELS * (UNET_MAX_LAYERS + 1) + 1 };

/* ---- the weights ---- */

static void bind_mlp(binder *b, linear *in, linear *out, const char *path, int64_t from, int64_t to)
{
    int at = bind_enter(b, "%s", path);
    bind_linear(b, in, "linear_1", to, from, true);
    bind_linear(b, out, "linear_2", to, to, true);
    bind_leave(b, at);
}

static void bind_transformer(binder *b, unet *u, transformer *t, arena *owner, const unet_level *level, int depth,
                             int64_t *pair)
{
    const unet_config *c = &u->config;
    t->first_pair = *pair;
    *pair += depth;
    transformer_bind(b, t, owner, &(transformer_sizes){.channels = level->channels, .heads = level->heads,
                                                       .text_width = c->text_width, .depth = depth, .groups = c->groups,
                                                       .linear_projection = c->linear_projection,
                                                       .text_kv = &u->text_kv});
}

/* in[i]: channels that go into resnet i. sampler: path of the block's own convolution, NULL for none. */
static void bind_block(binder *b, unet *u, unet_block *block, arena *owner, const unet_level *level, const int64_t *in,
                       const char *sampler, int64_t *pair)
{
    if (!block->resnet) {
        block->resnet = ARENA_ARRAY(owner, resnet, level->layers);
        block->transformer = level->attention ? ARENA_ARRAY(owner, transformer, level->layers) : NULL;
    }
    for (int i = 0; level->attention && i < level->layers; i++) {
        int at = bind_enter(b, "attentions.%d", i);
        bind_transformer(b, u, &block->transformer[i], owner, level, level->depth[i], pair);
        bind_leave(b, at);
    }
    for (int i = 0; i < level->layers; i++) {
        int at = bind_enter(b, "resnets.%d", i);
        resnet_bind(b, &block->resnet[i], in[i], level->channels, u->config.time_channels);
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
        bind_block(b, u, &u->down[level], owner, &c->down[level], in,
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
        bind_block(b, u, &u->up[k], owner, level, in, k + 1 < c->levels ? "upsamplers.0.conv" : NULL, pair);
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
    bind_transformer(b, u, &u->mid, owner, level, c->mid_depth, pair);
    bind_leave(b, part);
    part = bind_enter(b, "resnets.0");
    resnet_bind(b, &u->mid_first, level->channels, level->channels, c->time_channels);
    bind_leave(b, part);
    part = bind_enter(b, "resnets.1");
    resnet_bind(b, &u->mid_second, level->channels, level->channels, c->time_channels);
    bind_leave(b, part);
    bind_leave(b, at);
}

/* Two rows a channel of every cross-attention. */
static int64_t text_rows(const unet_config *config)
{
    const int64_t *channels;
    arena          memory = {0};
    int64_t        rows = 0, count = adapter_channels(&channels, &memory, config);
    for (int64_t i = 0; i < count; i++)
        rows += 2 * channels[i];
    arena_free(&memory);
    return rows;
}

void unet_bind(binder *b, unet *u, arena *owner, const unet_config *config)
{
    int64_t pair = 0, first = config->down[0].channels;
    u->config = *config;
    bind_stack_begin(&u->text_kv, text_rows(config));
    bind_conv(b, &u->conv_in, "conv_in", first, config->in_channels, config->conv_in_kernel);
    bind_mlp(b, &u->time_in, &u->time_out, "time_embedding", first, config->time_channels);
    bind_mlp(b, &u->add_in, &u->add_out, "add_embedding", config->pooled_width + 6 * config->time_id_channels,
             config->time_channels);
    bind_down(b, u, owner, &pair); /* this order numbers the adapter's pairs */
    bind_up(b, u, owner, &pair);
    bind_mid(b, u, owner, &pair);
    bind_stack_end(b, &u->text_kv);
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

dtype unet_type(const unet *u)
{
    return u->conv_in.w->type;
}

static cross_attention *cross_in(const transformer *t, int64_t i)
{
    return i >= t->first_pair && i < t->first_pair + t->depth ? &t->block[i - t->first_pair].cross : NULL;
}

static cross_attention *find_cross(const unet *u, int64_t i)
{
    const unet_config *c = &u->config;
    cross_attention   *found = cross_in(&u->mid, i);
    for (int k = 0; !found && k < c->levels; k++) {
        for (int l = 0; !found && c->down[k].attention && l < c->down[k].layers; l++)
            found = cross_in(&u->down[k].transformer[l], i);
        for (int l = 0; !found && c->up[k].attention && l < c->up[k].layers; l++)
            found = cross_in(&u->up[k].transformer[l], i);
    }
    CHECK(found, "cross-attention %" PRId64, i);
    return found;
}

const cross_attention *unet_cross_attention(const unet *u, int64_t i)
{
    return find_cross(u, i);
}

err unet_lay_out_text(unet *u)
{
    const int64_t *channels;
    arena          memory = {0};
    int64_t        count = adapter_channels(&channels, &memory, &u->config);
    tensor        *w = u->text_kv.t;
    for (int64_t i = 0; i < count; i++) {
        cross_attention *a = find_cross(u, i);
        tensor_release(a->k.w);
        tensor_release(a->v.w);
        a->k.w = a->v.w = NULL;
    }
    arena_free(&memory);
    return w->dev->dataless ? OK : w->dev->p->lay_out(w->dev, w, USE_FORWARD);
}

/* ---- the inputs ---- */

static err check_inputs(const unet_config *c, const unet_inputs *in, const unet_context *context)
{
    TRY(expect_shape("sample", in->sample, DIMS(-1, -1, -1, c->in_channels)));
    int64_t batch = in->sample->dim[0];
    TRY(expect_shape("timestep", in->timestep, DIMS(batch)));
    if (context->text_kv->dim[0] != batch)
        return err_set(E_SHAPE, "encoder_hidden_states: got a batch of %" PRId64 ", expected %" PRId64,
                       context->text_kv->dim[0], batch);
    TRY(expect_shape("text_embeds", in->text_embeds, DIMS(batch, c->pooled_width)));
    return expect_shape("time_ids", in->time_ids, DIMS(batch, 6));
}

/* ---- forward ---- */

static tensor *convolve(ag *g, const conv *m, tensor *x, int stride)
{
    int pad = (int)(m->w->dim[1] - 1) / 2;
    return ag_conv2d(g, x, m->w, m->b, NULL, (conv_geometry){stride, pad, pad, pad, pad});
}

/* In f32: sines of up to a thousand radians. */
static tensor *sinusoid(ag *g, tensor *t, int64_t dim, dtype type)
{
    return ag_to_type(g, ag_time_embedding(g, t, dim), type);
}

/* silu(time embedding + text_time embedding) (B,time_channels): what every resnet projects to its channels. */
static tensor *embed_time(ag *g, const unet *u, const unet_inputs *in)
{
    int     scope = ag_scope_open(g);
    int64_t batch = in->sample->dim[0], per_id = u->config.time_id_channels;
    dtype   type = unet_type(u);
    tensor *t = sinusoid(g, in->timestep, u->config.down[0].channels, type);
    t = ag_silu(g, ag_linear(g, t, u->time_in.w, u->time_in.b, NULL));
    t = ag_linear(g, t, u->time_out.w, u->time_out.b, NULL);
    tensor *ids = sinusoid(g, ag_reshape(g, in->time_ids, DIMS(6 * batch)), per_id, type);
    tensor *pooled = ag_to_type(g, in->text_embeds, type);
    tensor *a = ag_concat(g, pooled, ag_reshape(g, ids, DIMS(batch, 6 * per_id)), 1);
    a = ag_silu(g, ag_linear(g, a, u->add_in.w, u->add_in.b, NULL));
    return ag_scope_close(g, scope, ag_silu(g, ag_linear(g, a, u->add_out.w, u->add_out.b, t)));
}

typedef struct pass { /* one forward */
    ag                 *g;
    const unet         *u;
    tensor             *time;
    const unet_context *context;
    tensor             *skip[MAX_SKIPS];
    int                 skips;
} pass;

typedef struct resnet_call { /* what a resnet reads beside x */
    const resnet *resnet;
    tensor       *time;
    int           groups;
    float         eps;
} resnet_call;

static tensor *resnet_block(ag *g, const void *user, tensor *x)
{
    const resnet_call *c = user;
    return resnet_forward(g, c->resnet, x, c->time, c->groups, c->eps);
}

static tensor *run_resnet(pass *p, const resnet *r, tensor *x)
{
    resnet_call call = {r, p->time, p->u->config.groups, p->u->config.eps};
    return p->context->recompute ? ag_recompute(p->g, resnet_block, &call, sizeof call, x, &p->time, 1)
                                 : resnet_block(p->g, &call, x);
}

static tensor *run_layer(pass *p, const unet_block *block, int i, tensor *x)
{
    x = run_resnet(p, &block->resnet[i], x);
    return block->transformer ? transformer_forward(p->g, &block->transformer[i], x, p->context) : x;
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
    int scope = ag_scope_open(p->g);
    x = run_resnet(p, &p->u->mid_first, x);
    x = ag_scope_close(p->g, scope, transformer_forward(p->g, &p->u->mid, x, p->context));
    return ag_scope_close(p->g, scope, x ? run_resnet(p, &p->u->mid_second, x) : NULL);
}

/* [x | the newest skip], whose memory goes: nobody else reads it, but for what the tape keeps. */
static tensor *join_skip(pass *p, tensor *x)
{
    tensor *skip = p->skip[--p->skips], *joined = ag_concat(p->g, x, skip, 3);
    tensor_release(skip);
    return joined;
}

static tensor *run_up(pass *p, tensor *x)
{
    int scope = ag_scope_open(p->g); /* closed after each layer: of the up path only the newest x stays */
    for (int k = 0; x && k < p->u->config.levels; k++) {
        const unet_block *block = &p->u->up[k];
        for (int i = 0; x && i < p->u->config.up[k].layers; i++) {
            tensor *joined = join_skip(p, x);
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

static bool inputs_made(const unet_inputs *in, const unet_context *c)
{
    return in->sample && in->timestep && c->text_kv && in->text_embeds && in->time_ids;
}

tensor *unet_forward(ag *g, const unet *u, const unet_inputs *in, const unet_context *context)
{
    if (ag_status(g) != OK || !inputs_made(in, context))
        return NULL;
    if (ag_fail(g, check_inputs(&u->config, in, context)) != OK)
        return NULL;
    int  scope = ag_scope_open(g);
    pass p = {.g = g, .u = u, .context = context};
    if (context->recompute) { /* read again in backward, when the caller's may be gone */
        unet_context *kept = ARENA_NEW(ag_arena(g), unet_context);
        *kept = *context;
        p.context = kept;
    }
    p.time = embed_time(g, u, in);
    tensor *x = convolve(g, &u->conv_in, ag_to_type(g, in->sample, unet_type(u)), 1);
    x = run_up(&p, run_mid(&p, run_down(&p, x)));
    x = ag_group_norm(g, x, NULL, u->norm_out.w, u->norm_out.b, u->config.groups, u->config.eps, true);
    return ag_scope_close(g, scope, ag_to_type(g, convolve(g, &u->conv_out, x, 1), DT_F32));
}
