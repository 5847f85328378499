#include "model/transformer.h"

#include <math.h>

static const float group_norm_eps = 1e-6f, layer_norm_eps = 1e-5f;

static void bind_attention(binder *b, attention_layer *a, const char *path, int64_t channels, int64_t context)
{
    int at = bind_enter(b, "%s", path);
    bind_linear(b, &a->q, "to_q", channels, channels, false);
    bind_linear(b, &a->k, "to_k", channels, context, false);
    bind_linear(b, &a->v, "to_v", channels, context, false);
    bind_linear(b, &a->out, "to_out.0", channels, channels, true);
    bind_leave(b, at);
}

static void bind_block(binder *b, transformer_block *t, int64_t channels, int64_t text_width)
{
    bind_norm(b, &t->norm1, "norm1", channels);
    bind_attention(b, &t->self, "attn1", channels, channels);
    bind_norm(b, &t->norm2, "norm2", channels);
    bind_attention(b, &t->cross, "attn2", channels, text_width);
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
        bind_block(b, &t->block[i], sizes->channels, sizes->text_width);
        bind_leave(b, at);
    }
    bind_projection(b, &t->proj_out, "proj_out", sizes);
}

/* (B,T,C) -> (B,T,heads,C/heads) */
static tensor *split_heads(ag *g, tensor *x, int64_t heads)
{
    return x ? ag_reshape(g, x, DIMS(x->dim[0], x->dim[1], heads, x->dim[2] / heads)) : NULL;
}

/* Adds the subjects' part to what the text gave; y, q (B,h*w,heads,D). */
static tensor *attend_to_subjects(ag *g, tensor *y, tensor *q, const attention_context *c, const adapter_pair *pair,
                                  int64_t heads, tensor *mask)
{
    tensor *k = split_heads(g, ag_linear(g, c->ip_tokens, pair->k.w, NULL, NULL), heads);
    tensor *v = split_heads(g, ag_linear(g, c->ip_tokens, pair->v.w, NULL, NULL), heads);
    return ag_multi_subject_attention(g, y, q, k, v, mask, c->subject_scales, c->scale);
}

/* residual + out(attention of x to keys); pair NULL: no subjects. x (B,T,C), keys (B,S,C'). */
static tensor *attend(ag *g, const attention_layer *a, tensor *x, tensor *keys, tensor *residual, int64_t heads,
                      const attention_context *c, const adapter_pair *pair, tensor *mask)
{
    int     scope = ag_scope_open(g);
    float   scale = 1.0f / sqrtf((float)(residual->dim[2] / heads));
    tensor *q = split_heads(g, ag_linear(g, x, a->q.w, NULL, NULL), heads);
    tensor *k = split_heads(g, ag_linear(g, keys, a->k.w, NULL, NULL), heads);
    tensor *v = split_heads(g, ag_linear(g, keys, a->v.w, NULL, NULL), heads);
    tensor *y = ag_attention(g, q, k, v, scale, false);
    if (pair)
        y = attend_to_subjects(g, y, q, c, pair, heads, mask);
    y = ag_reshape(g, y, residual->ndim, residual->dim);
    return ag_scope_close(g, scope, ag_linear(g, y, a->out.w, a->out.b, residual));
}

static tensor *feed_forward(ag *g, const transformer_block *t, tensor *x)
{
    int     scope = ag_scope_open(g);
    tensor *h = ag_layer_norm(g, x, t->norm3.w, t->norm3.b, layer_norm_eps);
    h = ag_geglu(g, ag_linear(g, h, t->ff_in.w, t->ff_in.b, NULL));
    return ag_scope_close(g, scope, ag_linear(g, h, t->ff_out.w, t->ff_out.b, x));
}

/* x (B,h*w,C) -> the same; the scope of each step drops the x before it. */
static tensor *block_forward(ag *g, const transformer_block *t, tensor *x, int64_t heads, const attention_context *c,
                             const adapter_pair *pair, tensor *mask)
{
    int     scope = ag_scope_open(g);
    tensor *h = ag_layer_norm(g, x, t->norm1.w, t->norm1.b, layer_norm_eps);
    x = ag_scope_close(g, scope, attend(g, &t->self, h, h, x, heads, c, NULL, NULL));
    if (!x)
        return NULL;
    h = ag_layer_norm(g, x, t->norm2.w, t->norm2.b, layer_norm_eps);
    x = ag_scope_close(g, scope, attend(g, &t->cross, h, c->text, x, heads, c, pair, mask));
    return ag_scope_close(g, scope, feed_forward(g, t, x));
}

/* A 1x1 convolution's weight (C,1,1,C) is the linear layer's (C,C) in NHWC. */
static tensor *project(ag *g, const linear *m, tensor *x, tensor *residual)
{
    tensor *w = m->w->ndim == 2 ? m->w : ag_reshape(g, m->w, DIMS(m->w->dim[0], m->w->dim[3]));
    return ag_linear(g, x, w, m->b, residual);
}

static tensor *box_mask(const attention_context *c, int64_t h, int64_t w)
{
    for (int i = 0; i < c->grids; i++)
        if (c->grid[i].h == h && c->grid[i].w == w)
            return c->grid[i].mask;
    CHECK(!c->adapter, "no box mask for %lld x %lld", (long long)h, (long long)w);
    return NULL;
}

tensor *transformer_forward(ag *g, const transformer *t, tensor *x, const attention_context *c)
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
        const adapter_pair *pair = c->adapter ? &c->adapter->pair[t->first_pair + i] : NULL;
        y = ag_scope_close(g, inner, block_forward(g, &t->block[i], y, t->heads, c, pair, mask));
    }
    y = project(g, &t->proj_out, y, residual);
    return ag_scope_close(g, scope, ag_reshape(g, y, x->ndim, x->dim));
}
