#include "model/clip_vision.h"

#include <inttypes.h>

static int64_t patch_count(const clip_vision_config *config)
{
    int64_t side = config->image_size / config->patch_size;
    return side * side;
}

err clip_vision_config_parse(clip_vision_config *out, const json_t *config, const char *where)
{
    *out = (clip_vision_config){.layers = {.hidden = 768, .intermediate = 3072, .layers = 12, .heads = 12,
                                           .activation = UNARY_QUICK_GELU, .eps = 1e-5f}};
    config_reader r = config_read(config, where);
    const json_t *nested = json_object_get(config, "vision_config");
    int64_t       projection = config_int(&r, "projection_dim", 512, 1, 1 << 16);
    if (json_is_object(nested))
        r.object = nested;
    else if (json_object_get(config, "vocab_size"))
        config_problem(&r, "vocab_size: this is a text encoder; give CLIP's picture encoder");
    clip_layers_config_read(&out->layers, &r);
    out->image_size = config_int(&r, "image_size", 224, 1, 1 << 13);
    out->patch_size = config_int(&r, "patch_size", 32, 1, 1 << 13);
    out->channels = config_int(&r, "num_channels", 3, 1, 64);
    out->projection = config_int(&r, "projection_dim", projection, 1, 1 << 16);
    if (out->image_size < out->patch_size)
        config_problem(&r, "patch_size: found %" PRId64 ", larger than image_size %" PRId64, out->patch_size,
                       out->image_size);
    return config_end(&r);
}

static const char *known_encoder(int64_t hidden)
{
    switch (hidden) {
    case 1664: return " (OpenCLIP ViT-bigG/14)";
    case 1408: return " (OpenCLIP ViT-g/14)";
    case 1280: return " (OpenCLIP ViT-H/14)";
    case 1024: return " (CLIP ViT-L/14)";
    case 768: return " (CLIP ViT-B)";
    default: return "";
    }
}

err clip_vision_check_width(const clip_vision_config *config, int64_t adapter_width, const char *where)
{
    int64_t found = config->layers.hidden;
    if (found == adapter_width)
        return OK;
    return err_set(E_MODEL, "%s: hidden_size: found %" PRId64 "%s, the adapter expects %" PRId64 "%s; give the picture "
                   "encoder that the adapter was trained with", where, found, known_encoder(found), adapter_width,
                   known_encoder(adapter_width));
}

static void ignore_rest(binder *b, const char *prefix, bool with_head)
{
    static const char *const head[] = {"post_layernorm.weight", "post_layernorm.bias"};
    arena names = {0};
    bind_ignore(b, arena_print(&names, "%sembeddings.position_ids", prefix));
    for (int i = 0; i < 2 && !with_head; i++)
        bind_ignore(b, arena_print(&names, "%s%s", prefix, head[i]));
    if (!with_head)
        bind_ignore(b, "visual_projection.weight");
    bind_ignore(b, "text_model.*");
    bind_ignore(b, "text_projection.weight");
    bind_ignore(b, "logit_scale");
    arena_free(&names);
}

void clip_vision_bind(binder *b, clip_vision *m, arena *owner, const clip_vision_config *config, bool with_head)
{
    m->config = *config;
    int64_t c = config->layers.hidden, patch = config->patch_size;
    bool    bare = bind_has(b, "embeddings.class_embedding");
    int     at = bare ? 0 : bind_enter(b, "vision_model");
    bind_tensor(b, &m->class_embedding, "embeddings.class_embedding", WEIGHT_PLAIN, DIMS(c));
    bind_tensor(b, &m->patch_embedding, "embeddings.patch_embedding.weight", WEIGHT_CONV,
                DIMS(c, config->channels, patch, patch));
    bind_tensor(b, &m->position_embedding, "embeddings.position_embedding.weight", WEIGHT_PLAIN,
                DIMS(1 + patch_count(config), c));
    bind_norm(b, &m->pre_norm, "pre_layrnorm", c); /* spelt so in the files */
    clip_layers_bind(b, &m->layer, owner, &config->layers);
    if (with_head)
        bind_norm(b, &m->post_norm, "post_layernorm", c);
    if (!bare)
        bind_leave(b, at);
    if (with_head)
        bind_linear(b, &m->projection, "visual_projection", config->projection, c, false);
    ignore_rest(b, bare ? "" : "vision_model.", with_head);
}

void clip_vision_release(clip_vision *m)
{
    binder *b;
    arena   unused = {0};
    clip_vision_config config = m->config;
    if (!config.layers.hidden)
        return;
    CHECK(bind_walk_begin(&b, &unused, bind_visit_release, NULL) == OK, "%s", err_message());
    clip_vision_bind(b, m, &unused, &config, m->projection.w != NULL);
    CHECK(bind_end(b) == OK, "%s", err_message());
    arena_free(&unused);
}

/* pixels (B,S,S,channels) -> (B,L,C), normed */
static tensor *embed(ag *g, const clip_vision *m, tensor *pixels)
{
    int64_t batch = pixels->dim[0], c = m->config.layers.hidden;
    int     scope = ag_scope_open(g);
    conv_geometry patches = {.stride = (int)m->config.patch_size};
    tensor *x = ag_conv2d(g, pixels, m->patch_embedding, NULL, NULL, patches);
    x = ag_reshape(g, x, DIMS(batch, patch_count(&m->config), c));
    tensor *one = ag_reshape(g, m->class_embedding, DIMS(1, 1, c)), *first = one;
    for (int64_t i = 1; i < batch; i++)
        first = ag_concat(g, first, one, 0);
    x = ag_add(g, ag_concat(g, first, x, 1), m->position_embedding);
    return ag_scope_close(g, scope, ag_layer_norm(g, x, m->pre_norm.w, m->pre_norm.b, m->config.layers.eps));
}

err clip_vision_forward(clip_vision_output *out, ag *g, const clip_vision *m, tensor *pixel_values, bool want_embeds)
{
    *out = (clip_vision_output){0};
    TRY(ag_status(g));
    const clip_layers_config *config = &m->config.layers;
    int64_t size = m->config.image_size;
    CHECK(!want_embeds || m->projection.w, "image_embeds of a picture encoder bound without head");
    if (pixel_values->ndim != 4 || pixel_values->dim[1] != size || pixel_values->dim[2] != size ||
        pixel_values->dim[3] != m->config.channels)
        return err_set(E_SHAPE, "picture encoder: pixel_values (B,H,W,C) are %s, its image_size is %" PRId64 " with %"
                       PRId64 " channels", tensor_shape_text(ag_arena(g), pixel_values), size, m->config.channels);
    int     scope = ag_scope_open(g);
    tensor *x = embed(g, m, ag_to_type(g, pixel_values, m->class_embedding->type));
    x = ag_scope_close(g, scope, clip_layers_forward(g, m->layer, config, x, 0, config->layers - 1, false));
    out->penultimate = x;
    if (!want_embeds)
        return ag_status(g);
    scope = ag_scope_open(g);
    x = clip_layers_forward(g, m->layer, config, x, config->layers - 1, config->layers, false);
    x = ag_cast(g, ag_slice(g, x, 1, 0, 1), m->class_embedding->type); /* contiguous again */
    x = ag_reshape(g, x, DIMS(pixel_values->dim[0], config->hidden));
    x = ag_layer_norm(g, x, m->post_norm.w, m->post_norm.b, config->eps);
    out->embeds = ag_scope_close(g, scope, ag_linear(g, x, m->projection.w, NULL, NULL));
    return ag_status(g);
}
