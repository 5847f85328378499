#include "model/resampler.h"

static const float norm_eps = 1e-5f;

static void bind_layer(binder *b, resampler_layer *l, const resampler_sizes *s)
{
    int64_t inner = s->heads * RESAMPLER_HEAD_WIDTH;
    bind_norm(b, &l->norm_image, "0.norm1", s->dim);
    bind_norm(b, &l->norm_latents, "0.norm2", s->dim);
    bind_linear(b, &l->q, "0.to_q", inner, s->dim, false);
    bind_linear(b, &l->kv, "0.to_kv", 2 * inner, s->dim, false);
    bind_linear(b, &l->out, "0.to_out", s->dim, inner, false);
    bind_norm(b, &l->norm_forward, "1.0", s->dim);
    bind_linear(b, &l->up, "1.1", s->hidden_width, s->dim, false);
    bind_linear(b, &l->down, "1.3", s->dim, s->hidden_width, false);
}

void resampler_bind(binder *b, resampler *r, arena *owner, const resampler_sizes *sizes)
{
    int64_t box_width = 8 * RESAMPLER_BOX_FREQUENCIES, grounding = sizes->phrase_width + box_width;
    if (!r->layer)
        r->layer = ARENA_ARRAY(owner, resampler_layer, sizes->depth);
    r->sizes = *sizes;
    bind_tensor(b, &r->grounding_latents, "grounding_latents", WEIGHT_PLAIN, DIMS(1, sizes->queries, sizes->dim));
    bind_linear(b, &r->latent_in, "latent_proj.0", 2 * grounding, grounding, true);
    bind_linear(b, &r->latent_out, "latent_proj.2", sizes->dim * sizes->queries, 2 * grounding, true);
    bind_norm(b, &r->latent_norm, "latent_norm", sizes->dim);
    bind_linear(b, &r->proj_in, "proj_in", sizes->dim, sizes->image_width, true);
    bind_norm(b, &r->attention_norm, "attention_norm", sizes->dim);
    bind_linear(b, &r->proj_out, "proj_out", sizes->out_width, sizes->dim, true);
    bind_norm(b, &r->norm_out, "norm_out", sizes->out_width);
    for (int64_t i = 0; i < sizes->depth; i++) {
        int at = bind_enter(b, "layers.%lld", (long long)i);
        bind_layer(b, &r->layer[i], sizes);
        bind_leave(b, at);
    }
}

void resampler_release(resampler *r)
{
    binder         *b;
    arena           unused = {0};
    resampler_sizes sizes = r->sizes;
    bind_walk_begin(&b, &unused, bind_visit_release, NULL);
    resampler_bind(b, r, &unused, &sizes);
    bind_end(b);
    arena_free(&unused);
}

static tensor *normed(ag *g, tensor *x, const norm *n)
{
    return ag_layer_norm(g, x, n->w, n->b, norm_eps);
}

/* (R,queries,dim): the question each subject asks of its picture. */
static tensor *first_latents(ag *g, const resampler *r, tensor *phrase_embeds, tensor *boxes, tensor *drop)
{
    int     scope = ag_scope_open(g);
    int64_t rows = boxes->dim[0];
    dtype   type = r->proj_in.w->type;
    tensor *box = ag_to_type(g, ag_box_embedding(g, boxes, RESAMPLER_BOX_FREQUENCIES), type); /* sines in f32 */
    tensor *grounding = ag_concat(g, ag_to_type(g, phrase_embeds, type), box, 1);
    tensor *h = ag_gelu(g, ag_linear(g, grounding, r->latent_in.w, r->latent_in.b, NULL));
    h = ag_linear(g, h, r->latent_out.w, r->latent_out.b, NULL);
    h = normed(g, ag_reshape(g, h, DIMS(rows, r->sizes.queries, r->sizes.dim)), &r->latent_norm);
    return ag_scope_close(g, scope, ag_select(g, drop, r->grounding_latents, h));
}

/* latents + attention of the latents to [x | latents]; scale 1/8: the reference scales q and k by 64^-1/4 each. */
static tensor *attend(ag *g, const resampler *r, const resampler_layer *l, tensor *x, tensor *latents)
{
    int     scope = ag_scope_open(g);
    int64_t rows = latents->dim[0], queries = r->sizes.queries, heads = r->sizes.heads, width = RESAMPLER_HEAD_WIDTH;
    tensor *image = normed(g, x, &l->norm_image), *own = normed(g, latents, &l->norm_latents);
    tensor *q = ag_linear(g, own, l->q.w, NULL, NULL);
    tensor *kv = ag_linear(g, ag_concat(g, image, own, 1), l->kv.w, NULL, NULL);
    kv = ag_reshape(g, kv, DIMS(rows, queries + x->dim[1], 2 * heads, width));
    tensor *k = ag_slice(g, kv, 2, 0, heads), *v = ag_slice(g, kv, 2, heads, heads);
    tensor *y = ag_attention(g, ag_reshape(g, q, DIMS(rows, queries, heads, width)), k, v, 0.125f, false);
    y = ag_linear(g, ag_reshape(g, y, DIMS(rows, queries, heads * width)), l->out.w, NULL, latents);
    return ag_scope_close(g, scope, y);
}

static tensor *feed_forward(ag *g, const resampler_layer *l, tensor *latents)
{
    int     scope = ag_scope_open(g);
    tensor *h = ag_gelu(g, ag_linear(g, normed(g, latents, &l->norm_forward), l->up.w, NULL, NULL));
    ag_result_next(g);
    return ag_scope_close(g, scope, ag_linear(g, h, l->down.w, NULL, latents));
}

typedef struct layer_call { /* what a layer reads beside the latents */
    const resampler       *r;
    const resampler_layer *layer;
    tensor                *x;
} layer_call;

static tensor *layer_forward(ag *g, const void *user, tensor *latents)
{
    const layer_call *c = user;
    int     scope = ag_scope_open(g);
    tensor *attended = attend(g, c->r, c->layer, c->x, latents);
    return attended ? ag_scope_close(g, scope, feed_forward(g, c->layer, attended)) : NULL;
}

static err check_inputs(const resampler *r, const tensor *image_hidden, const tensor *phrase_embeds,
                        const tensor *boxes, const tensor *drop)
{
    const resampler_sizes *s = &r->sizes;
    int64_t                rows = image_hidden->dim[0];
    arena                  text = {0};
    err                    e = OK;
    if (image_hidden->ndim != 3 || image_hidden->dim[2] != s->image_width)
        e = err_set(E_SHAPE, "image_hidden: got %s, the adapter needs (R,L,%lld)%s",
                    tensor_shape_text(&text, image_hidden), (long long)s->image_width,
                    s->image_width == 1664 ? ": the image encoder has to be ViT-bigG" : "");
    else if (phrase_embeds->ndim != 2 || phrase_embeds->dim[0] != rows || phrase_embeds->dim[1] != s->phrase_width)
        e = err_set(E_SHAPE, "phrase_embeds: got %s, the adapter needs (%lld,%lld)",
                    tensor_shape_text(&text, phrase_embeds), (long long)rows, (long long)s->phrase_width);
    else if (boxes->ndim != 2 || boxes->dim[0] != rows || boxes->dim[1] != 4)
        e = err_set(E_SHAPE, "boxes: got %s, expected (%lld,4)", tensor_shape_text(&text, boxes), (long long)rows);
    else if (drop->ndim != 1 || drop->dim[0] != rows)
        e = err_set(E_SHAPE, "drop_grounding_tokens: got %s, expected (%lld)", tensor_shape_text(&text, drop),
                    (long long)rows);
    arena_free(&text);
    return e;
}

tensor *resampler_forward(ag *g, const resampler *r, tensor *image_hidden, tensor *phrase_embeds, tensor *boxes,
                          tensor *drop, bool recompute)
{
    if (!image_hidden || !phrase_embeds || !boxes || !drop ||
        ag_fail(g, check_inputs(r, image_hidden, phrase_embeds, boxes, drop)) != OK)
        return NULL;
    int     scope = ag_scope_open(g);
    tensor *x = ag_linear(g, ag_to_type(g, image_hidden, r->proj_in.w->type), r->proj_in.w, r->proj_in.b, NULL);
    int     latents_scope = ag_scope_open(g);
    tensor *latents = first_latents(g, r, phrase_embeds, boxes, drop);
    for (int64_t i = 0; x && latents && i < r->sizes.depth; i++) {
        layer_call call = {r, &r->layer[i], x};
        latents = ag_scope_close(g, latents_scope, recompute ? ag_recompute(g, layer_forward, &call, sizeof call, latents, &x, 1)
                                                             : layer_forward(g, &call, latents));
    }
    latents = normed(g, latents, &r->attention_norm);
    latents = ag_linear(g, latents, r->proj_out.w, r->proj_out.b, NULL);
    return ag_scope_close(g, scope, normed(g, latents, &r->norm_out));
}
