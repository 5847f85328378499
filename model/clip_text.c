#include "model/clip_text.h"

#include <inttypes.h>

err clip_text_config_parse(clip_text_config *out, const json_t *config, const char *where, bool with_projection)
{
    *out = (clip_text_config){.layers = {.hidden = 512, .intermediate = 2048, .layers = 12, .heads = 8,
                                         .activation = UNARY_QUICK_GELU, .eps = 1e-5f}};
    config_reader r = config_read(config, where);
    clip_layers_config_read(&out->layers, &r);
    out->vocabulary = config_int(&r, "vocab_size", 49408, 1, 1 << 24);
    out->positions = config_int(&r, "max_position_embeddings", 77, 1, 1 << 16);
    out->end_of_text = config_int(&r, "eos_token_id", 49407, 0, 1 << 24);
    int64_t projection = config_int(&r, "projection_dim", 512, 0, 1 << 16);
    if (with_projection && !projection)
        config_problem(&r, "projection_dim: found 0, expected the width of text_projection");
    out->projection = with_projection ? projection : 0;
    return config_end(&r);
}

void clip_text_bind(binder *b, clip_text *m, arena *owner, const clip_text_config *config)
{
    m->config = *config;
    int64_t c = config->layers.hidden;
    bool    bare = bind_has(b, "embeddings.token_embedding.weight"); /* transformers 5 writes CLIPTextModel so */
    int     at = bare ? 0 : bind_enter(b, "text_model");
    bind_tensor(b, &m->token_embedding, "embeddings.token_embedding.weight", WEIGHT_PLAIN, DIMS(config->vocabulary, c));
    bind_tensor(b, &m->position_embedding, "embeddings.position_embedding.weight", WEIGHT_PLAIN,
                DIMS(config->positions, c));
    clip_layers_bind(b, &m->layer, owner, &config->layers);
    bind_norm(b, &m->final_norm, "final_layer_norm", c);
    if (!bare)
        bind_leave(b, at);
    if (config->projection > 0)
        bind_linear(b, &m->projection, "text_projection", config->projection, c, false);
    else
        bind_ignore(b, "text_projection.weight");
    bind_ignore(b, bare ? "embeddings.position_ids" : "text_model.embeddings.position_ids");
}

void clip_text_release(clip_text *m)
{
    binder *b;
    arena   unused = {0};
    clip_text_config config = m->config;
    if (!config.layers.hidden)
        return;
    CHECK(bind_walk_begin(&b, &unused, bind_visit_release, NULL) == OK, "%s", err_message());
    clip_text_bind(b, m, &unused, &config);
    CHECK(bind_end(b) == OK, "%s", err_message());
    arena_free(&unused);
}

static err check_ids(const clip_text *m, const int32_t *ids, int64_t batch, int64_t length)
{
    if (length > m->config.positions || length < 1)
        return err_set(E_SHAPE, "text encoder: input_ids have %" PRId64 " tokens, its max_position_embeddings is %"
                       PRId64, length, m->config.positions);
    for (int64_t i = 0; i < batch * length; i++)
        if (ids[i] < 0 || ids[i] >= m->config.vocabulary)
            return err_set(E_MODEL, "text encoder: token id %" PRId32 " at place %" PRId64 ", but its vocab_size is %"
                           PRId64 "; the tokenizer and the encoder do not belong together", ids[i], i % length,
                           m->config.vocabulary);
    return OK;
}

/* Which token of a row carries the sentence: facts.md 5. The first largest, or the first end-of-text (else place 0). */
static int64_t pooling_place(const int32_t *row, int64_t length, int64_t end_of_text)
{
    int64_t best = 0;
    for (int64_t t = 0; t < length; t++) {
        if (end_of_text != 2 && row[t] == end_of_text)
            return t;
        if (end_of_text == 2 && row[t] > row[best])
            best = t;
    }
    return best;
}

/* x (B,T,C) before the final norm -> (B,C), rows picked, then normed */
static tensor *pool(ag *g, const clip_text *m, tensor *x, const int32_t *ids, int64_t batch, int64_t length)
{
    int32_t *row = ARENA_ARRAY(ag_arena(g), int32_t, batch);
    for (int64_t i = 0; i < batch; i++)
        row[i] = (int32_t)(i * length + pooling_place(ids + i * length, length, m->config.end_of_text));
    tensor *rows = ag_input(g, "pooled rows", DT_I32, DIMS(batch), row, DT_I32);
    tensor *flat = ag_reshape(g, x, DIMS(batch * length, m->config.layers.hidden));
    return ag_layer_norm(g, ag_embedding(g, flat, rows), m->final_norm.w, m->final_norm.b, m->config.layers.eps);
}

static tensor *embed(ag *g, const clip_text *m, const int32_t *ids, int64_t batch, int64_t length)
{
    int     scope = ag_scope_open(g);
    tensor *flat = ag_input(g, "input_ids", DT_I32, DIMS(batch * length), ids, DT_I32);
    tensor *x = ag_reshape(g, ag_embedding(g, m->token_embedding, flat), DIMS(batch, length, m->config.layers.hidden));
    x = ag_add(g, x, ag_slice(g, m->position_embedding, 0, 0, length));
    return ag_scope_close(g, scope, x);
}

err clip_text_forward(clip_text_output *out, ag *g, const clip_text *m, const int32_t *ids, int64_t batch,
                      int64_t length, unsigned wanted)
{
    *out = (clip_text_output){0};
    CHECK(m->config.projection > 0 || !(wanted & CLIP_TEXT_EMBEDS), "text_embeds of a text encoder without projection");
    TRY(check_ids(m, ids, batch, length));
    const clip_layers_config *config = &m->config.layers;
    int     scope = ag_scope_open(g);
    tensor *x = embed(g, m, ids, batch, length);
    x = ag_scope_close(g, scope, clip_layers_forward(g, m->layer, config, x, 0, config->layers - 1, true));
    if (wanted & CLIP_TEXT_PENULTIMATE)
        out->penultimate = x;
    if (wanted & ~(unsigned)CLIP_TEXT_PENULTIMATE)
        x = clip_layers_forward(g, m->layer, config, x, config->layers - 1, config->layers, true);
    if (wanted & CLIP_TEXT_LAST)
        out->last = ag_layer_norm(g, x, m->final_norm.w, m->final_norm.b, config->eps);
    if (wanted & (CLIP_TEXT_POOLED | CLIP_TEXT_EMBEDS))
        out->pooled = pool(g, m, x, ids, batch, length);
    if (wanted & CLIP_TEXT_EMBEDS)
        out->embeds = ag_linear(g, out->pooled, m->projection.w, NULL, NULL);
    return ag_status(g);
}
