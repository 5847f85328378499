#include "model/transformer.h"

#include <math.h>

static const float group_norm_eps = 1e-6f, layer_norm_eps = 1e-5f;

static void bind_self(binder *b, self_attention *a, int64_t channels)
{
    static const char *const qkv[] = {"to_q", "to_k", "to_v"};
    int at = bind_enter(b, "attn1");
    bind_qkv(b, &a->qkv, qkv, channels, channels, false);
    bind_linear(b, &a->out, "to_out.0", channels, channels, true);
    bind_leave(b, at);
}

static void bind_cross(binder *b, cross_attention *a, int64_t channels, int64_t text_width, weight_stack *text_kv)
{
    int at = bind_enter(b, "attn2");
    a->first_row = text_kv->bound;
    bind_linear(b, &a->q, "to_q", channels, channels, false);
    bind_part(b, text_kv, &a->k.w, "to_k.weight", DIMS(channels, text_width));
    bind_part(b, text_kv, &a->v.w, "to_v.weight", DIMS(channels, text_width));
    bind_linear(b, &a->out, "to_out.0", channels, channels, true);
    bind_leave(b, at);
}

static void bind_block(binder *b, transformer_block *t, const transformer_sizes *s)
{
    int64_t channels = s->channels;
    bind_norm(b, &t->norm1, "norm1", channels);
    bind_self(b, &t->self, channels);
    bind_norm(b, &t->norm2, "norm2", channels);
    bind_cross(b, &t->cross, channels, s->text_width, s->text_kv);
    bind_norm(b, &t->norm3, "norm3", channels);
    bind_linear(b, &t->ff_in, "ff.net.0.proj", 8 * channels, channels, true);
    bind_linear(b, &t->ff_out, "ff.net.2", channels, 4 * channels, true);
}

static void bind_projection(binder *b, linear *m, const char *path, const transformer_sizes *s)
{
    int64_t c = s->channels;
    if (s->linear_projection) {
        bind_linear(b, m, path, c, c, true);
        return;
    }
    int at = bind_enter(b, "%s", path);
    bind_tensor(b, &m->w, "weight", WEIGHT_CONV, DIMS(c, c, 1, 1));
    bind_tensor(b, &m->b, "bias", WEIGHT_PLAIN, DIMS(c));
    bind_leave(b, at);
}

void transformer_bind(binder *b, transformer *t, arena *owner, const transformer_sizes *sizes)
{
    if (!t->block)
        t->block = ARENA_ARRAY(owner, transformer_block, sizes->depth);
    t->depth = sizes->depth;
    t->heads = sizes->heads;
    t->groups = sizes->groups;
    bind_norm(b, &t->norm, "norm", sizes->channels);
    bind_projection(b, &t->proj_in, "proj_in", sizes);
    for (int i = 0; i < sizes->depth; i++) {
        int at = bind_enter(b, "transformer_blocks.%d", i);
        bind_block(b, &t->block[i], sizes);
        bind_leave(b, at);
    }
    bind_projection(b, &t->proj_out, "proj_out", sizes);
}

/* (B,T,channels) of x (B,T,..) from column `at` on, as heads: (B,T,heads,channels/heads). A view. */
static tensor *heads_of(ag *g, tensor *x, int64_t at, int64_t channels, int64_t heads)
{
    if (!x)
        return NULL;
    tensor *part = x->dim[2] == channels ? x : ag_slice(g, x, 2, at, channels);
    return ag_reshape(g, part, DIMS(x->dim[0], x->dim[1], heads, channels / heads));
}

/* residual + out(y), y (B,T,heads,D), residual (B,T,C) */
static tensor *attention_out(ag *g, const linear *out, tensor *y, tensor *residual)
{
    return ag_linear(g, ag_reshape(g, y, residual->ndim, residual->dim), out->w, out->b, residual);
}

static float attention_scale(int64_t channels, int64_t heads)
{
    return 1.0f / sqrtf((float)(channels / heads));
}

/* residual + self-attention of x (B,T,C) */
static tensor *attend_self(ag *g, const self_attention *a, tensor *x, tensor *residual, int64_t heads)
{
    int     scope = ag_scope_open(g);
    int64_t channels = residual->dim[2];
    tensor *qkv = ag_linear(g, x, a->qkv.w.t, NULL, NULL);
    tensor *q = heads_of(g, qkv, 0, channels, heads), *k = heads_of(g, qkv, channels, channels, heads);
    tensor *v = heads_of(g, qkv, 2 * channels, channels, heads);
    tensor *y = ag_attention(g, q, k, v, attention_scale(channels, heads), false);
    return ag_scope_close(g, scope, attention_out(g, &a->out, y, residual));
}

/* Adds the subjects' part to what the text gave; y, q (B,h*w,heads,D). */
static tensor *attend_to_subjects(ag *g, tensor *y, tensor *q, const unet_context *c, const adapter_pair *pair,
                                  int64_t channels, int64_t heads, tensor *mask)
{
    tensor *kv = c->ip_kv[pair->group];
    tensor *k = heads_of(g, kv, pair->first_row, channels, heads);
    tensor *v = heads_of(g, kv, pair->first_row + channels, channels, heads);
    return ag_multi_subject_attention(g, y, q, k, v, mask, c->subject_scales, c->scale);
}

/* residual + cross-attention of x (B,T,C) to the text and, with a pair, to the subjects */
static tensor *attend_cross(ag *g, const cross_attention *a, tensor *x, tensor *residual, int64_t heads,
                            const unet_context *c, const adapter_pair *pair, tensor *mask)
{
    int     scope = ag_scope_open(g);
    int64_t channels = residual->dim[2];
    tensor *q = heads_of(g, ag_linear(g, x, a->q.w, NULL, NULL), 0, channels, heads);
    tensor *k = heads_of(g, c->text_kv, a->first_row, channels, heads);
    tensor *v = heads_of(g, c->text_kv, a->first_row + channels, channels, heads);
    tensor *y = ag_attention(g, q, k, v, attention_scale(channels, heads), false);
    if (pair)
        y = attend_to_subjects(g, y, q, c, pair, channels, heads, mask);
    return ag_scope_close(g, scope, attention_out(g, &a->out, y, residual));
}

static tensor *feed_forward(ag *g, const transformer_block *t, tensor *x)
{
    int     scope = ag_scope_open(g);
    tensor *h = ag_layer_norm(g, x, t->norm3.w, t->norm3.b, layer_norm_eps);
    h = ag_geglu(g, ag_linear(g, h, t->ff_in.w, t->ff_in.b, NULL));
    ag_result_next(g);
    return ag_scope_close(g, scope, ag_linear(g, h, t->ff_out.w, t->ff_out.b, x));
}

typedef struct block_call { /* what a block reads beside x */
    const transformer_block *block;
    int64_t                  heads;
    const unet_context      *context;
    const adapter_pair      *pair; /* NULL: no subjects */
    tensor                  *mask;
} block_call;

/* x (B,h*w,C) -> the same; the scope of each step drops the x before it. */
static tensor *block_forward(ag *g, const void *user, tensor *x)
{
    const block_call        *c = user;
    const transformer_block *t = c->block;
    int     scope = ag_scope_open(g);
    tensor *h = ag_layer_norm(g, x, t->norm1.w, t->norm1.b, layer_norm_eps);
    x = ag_scope_close(g, scope, attend_self(g, &t->self, h, x, c->heads));
    if (!x)
        return NULL;
    h = ag_layer_norm(g, x, t->norm2.w, t->norm2.b, layer_norm_eps);
    x = ag_scope_close(g, scope, attend_cross(g, &t->cross, h, x, c->heads, c->context, c->pair, c->mask));
    return ag_scope_close(g, scope, feed_forward(g, t, x));
}

static tensor *run_block(ag *g, const block_call *c, tensor *x)
{
    const unet_context *context = c->context;
    tensor *used[] = {context->text_kv, c->pair ? context->ip_kv[c->pair->group] : NULL, c->mask, context->subject_scales};
    return context->recompute ? ag_recompute(g, block_forward, c, sizeof *c, x, used, sizeof used / sizeof *used)
                              : block_forward(g, c, x);
}

/* A 1x1 convolution's weight (C,1,1,C) is the linear layer's (C,C) in NHWC. */
static tensor *project(ag *g, const linear *m, tensor *x, tensor *residual)
{
    tensor *w = m->w->ndim == 2 ? m->w : ag_reshape(g, m->w, DIMS(m->w->dim[0], m->w->dim[3]));
    return ag_linear(g, x, w, m->b, residual);
}

static tensor *box_mask(const unet_context *c, int64_t h, int64_t w)
{
    for (int i = 0; i < c->grids; i++)
        if (c->grid[i].h == h && c->grid[i].w == w)
            return c->grid[i].mask;
    CHECK(!c->adapter, "no box mask for %lld x %lld", (long long)h, (long long)w);
    return NULL;
}

tensor *transformer_forward(ag *g, const transformer *t, tensor *x, const unet_context *c)
{
    if (!x)
        return NULL;
    int     scope = ag_scope_open(g);
    int64_t h = x->dim[1], w = x->dim[2], channels = x->dim[3];
    tensor *mask = box_mask(c, h, w);
    tensor *residual = ag_reshape(g, x, DIMS(x->dim[0], h * w, channels));
    int     inner = ag_scope_open(g);
    tensor *y = ag_group_norm(g, residual, NULL, t->norm.w, t->norm.b, t->groups, group_norm_eps, false);
    y = ag_scope_close(g, inner, project(g, &t->proj_in, y, NULL));
    for (int i = 0; y && i < t->depth; i++) {
        block_call call = {.block = &t->block[i], .heads = t->heads, .context = c, .mask = mask,
                           .pair = c->adapter ? &c->adapter->pair[t->first_pair + i] : NULL};
        y = ag_scope_close(g, inner, run_block(g, &call, y));
    }
    y = project(g, &t->proj_out, y, residual);
    return ag_scope_close(g, scope, ag_reshape(g, y, x->ndim, x->dim));
}
