#include "model/vae.h"

#include <inttypes.h>
#include <math.h>

static const float         norm_eps = 1e-6f;
static const conv_geometry same3 = {1, 1, 1, 1, 1}, same1 = {1, 0, 0, 0, 0};
static const conv_geometry halve = {2, 0, 0, 1, 1}; /* diffusers pads (0,1,0,1) before its stride-2 convolution */

/* ---- binding ---- */

static void bind_attention(binder *b, vae_attention *a, int64_t channels)
{
    bool old = bind_has(b, "query.weight");
    bind_norm(b, &a->norm, "group_norm", channels);
    bind_linear(b, &a->q, old ? "query" : "to_q", channels, channels, true);
    bind_linear(b, &a->k, old ? "key" : "to_k", channels, channels, true);
    bind_linear(b, &a->v, old ? "value" : "to_v", channels, channels, true);
    bind_linear(b, &a->out, old ? "proj_attn" : "to_out.0", channels, channels, true);
}

static void bind_mid(binder *b, vae_half *half, const vae_config *config)
{
    int64_t channels = config->channels[config->blocks - 1];
    int     mid = bind_enter(b, "mid_block");
    for (int i = 0; i < 2; i++) {
        int at = bind_enter(b, "resnets.%d", i);
        resnet_bind(b, &half->mid[i], channels, channels, 0);
        bind_leave(b, at);
    }
    if (config->attention) {
        int at = bind_enter(b, "attentions.0");
        bind_attention(b, &half->attention, channels);
        bind_leave(b, at);
    }
    bind_leave(b, mid);
}

static void bind_block(binder *b, vae_block *block, arena *owner, int64_t in, int64_t out, int64_t resnets)
{
    block->resnets = resnets;
    if (!block->resnet)
        block->resnet = ARENA_ARRAY(owner, resnet, resnets);
    for (int64_t i = 0; i < resnets; i++) {
        int at = bind_enter(b, "resnets.%d", (int)i);
        resnet_bind(b, &block->resnet[i], i ? out : in, out, 0);
        bind_leave(b, at);
    }
}

static void bind_encoder(binder *b, vae_half *half, arena *owner, const vae_config *config)
{
    int64_t in = config->channels[0], last = config->channels[config->blocks - 1];
    int     encoder = bind_enter(b, "encoder");
    bind_conv(b, &half->conv_in, "conv_in", in, config->in_channels, 3);
    for (int64_t i = 0; i < config->blocks; i++) {
        int64_t out = config->channels[i];
        int     at = bind_enter(b, "down_blocks.%d", (int)i);
        bind_block(b, &half->block[i], owner, in, out, config->layers_per_block);
        if (i + 1 < config->blocks)
            bind_conv(b, &half->block[i].resample, "downsamplers.0.conv", out, out, 3);
        bind_leave(b, at);
        in = out;
    }
    bind_mid(b, half, config);
    bind_norm(b, &half->norm_out, "conv_norm_out", last);
    bind_conv(b, &half->conv_out, "conv_out", 2 * config->latent_channels, last, 3);
    bind_leave(b, encoder);
}

static void bind_decoder(binder *b, vae_half *half, arena *owner, const vae_config *config)
{
    int64_t in = config->channels[config->blocks - 1];
    int     decoder = bind_enter(b, "decoder");
    bind_conv(b, &half->conv_in, "conv_in", in, config->latent_channels, 3);
    bind_mid(b, half, config);
    for (int64_t i = 0; i < config->blocks; i++) {
        int64_t out = config->channels[config->blocks - 1 - i];
        int     at = bind_enter(b, "up_blocks.%d", (int)i);
        bind_block(b, &half->block[i], owner, in, out, config->layers_per_block + 1);
        if (i + 1 < config->blocks)
            bind_conv(b, &half->block[i].resample, "upsamplers.0.conv", out, out, 3);
        bind_leave(b, at);
        in = out;
    }
    bind_norm(b, &half->norm_out, "conv_norm_out", config->channels[0]);
    bind_conv(b, &half->conv_out, "conv_out", config->out_channels, config->channels[0], 3);
    bind_leave(b, decoder);
}

void vae_bind(binder *b, vae *m, arena *owner, const vae_config *config)
{
    m->config = *config;
    int64_t latent = config->latent_channels;
    bind_encoder(b, &m->encoder, owner, config);
    if (config->quant_conv)
        bind_conv(b, &m->quant, "quant_conv", 2 * latent, 2 * latent, 1);
    if (config->post_quant_conv)
        bind_conv(b, &m->post_quant, "post_quant_conv", latent, latent, 1);
    bind_decoder(b, &m->decoder, owner, config);
}

void vae_release(vae *m)
{
    binder *b;
    arena   unused = {0};
    vae_config config = m->config;
    if (!config.blocks)
        return;
    CHECK(bind_walk_begin(&b, &unused, bind_visit_release, NULL) == OK, "%s", err_message());
    vae_bind(b, m, &unused, &config);
    CHECK(bind_end(b) == OK, "%s", err_message());
    arena_free(&unused);
}

/* ---- forward ---- */

/* x (B,h,w,C) -> x + out(attention(group_norm(x))), one head of C over all places */
static tensor *attend(ag *g, const vae_attention *a, tensor *x, int groups)
{
    if (!x)
        return NULL;
    const int64_t places[] = {x->dim[0], x->dim[1] * x->dim[2], x->dim[3]};
    const int64_t heads[] = {places[0], places[1], 1, places[2]};
    int     scope = ag_scope_open(g);
    tensor *h = ag_reshape(g, ag_group_norm(g, x, NULL, a->norm.w, a->norm.b, groups, norm_eps, false), 3, places);
    tensor *q = ag_reshape(g, ag_linear(g, h, a->q.w, a->q.b, NULL), 4, heads);
    tensor *k = ag_reshape(g, ag_linear(g, h, a->k.w, a->k.b, NULL), 4, heads);
    tensor *v = ag_reshape(g, ag_linear(g, h, a->v.w, a->v.b, NULL), 4, heads);
    tensor *y = ag_attention(g, q, k, v, (float)(1.0 / sqrt((double)places[2])), false);
    y = ag_linear(g, ag_reshape(g, y, 3, places), a->out.w, a->out.b, ag_reshape(g, x, 3, places));
    return ag_scope_close(g, scope, ag_reshape(g, y, 4, x->dim));
}

static tensor *middle(ag *g, const vae_half *half, const vae_config *config, tensor *x)
{
    int scope = ag_scope_open(g);
    x = ag_scope_close(g, scope, resnet_forward(g, &half->mid[0], x, NULL, config->groups, norm_eps));
    if (config->attention)
        x = ag_scope_close(g, scope, attend(g, &half->attention, x, config->groups));
    return ag_scope_close(g, scope, resnet_forward(g, &half->mid[1], x, NULL, config->groups, norm_eps));
}

/* Closing one scope after every layer keeps only the newest x alive. */
static tensor *resnets(ag *g, const vae_block *block, const vae_config *config, tensor *x)
{
    int scope = ag_scope_open(g);
    for (int64_t i = 0; i < block->resnets; i++)
        x = ag_scope_close(g, scope, resnet_forward(g, &block->resnet[i], x, NULL, config->groups, norm_eps));
    return x;
}

static tensor *conv_forward(ag *g, const conv *c, tensor *x, conv_geometry geometry)
{
    return ag_conv2d(g, x, c->w, c->b, NULL, geometry);
}

static tensor *finish(ag *g, const vae_half *half, const vae_config *config, tensor *x)
{
    x = ag_group_norm(g, x, NULL, half->norm_out.w, half->norm_out.b, config->groups, norm_eps, true);
    return conv_forward(g, &half->conv_out, x, same3);
}

err vae_encode(tensor **moments, ag *g, const vae *m, tensor *sample)
{
    *moments = NULL;
    TRY(ag_status(g));
    const vae_config *config = &m->config;
    int64_t least = vae_factor(config);
    if (sample->ndim != 4 || sample->dim[3] != config->in_channels || sample->dim[1] < least || sample->dim[2] < least)
        return err_set(E_SHAPE, "VAE encoder: sample (B,H,W,C) is %s, expected %" PRId64 " channels and sides of at "
                       "least %" PRId64, tensor_shape_text(ag_arena(g), sample), config->in_channels, least);
    int     scope = ag_scope_open(g);
    tensor *x = conv_forward(g, &m->encoder.conv_in, ag_to_type(g, sample, m->encoder.conv_in.w->type), same3);
    for (int64_t i = 0; i < config->blocks; i++) {
        const vae_block *block = &m->encoder.block[i];
        x = ag_scope_close(g, scope, resnets(g, block, config, x));
        if (block->resample.w)
            x = ag_scope_close(g, scope, conv_forward(g, &block->resample, x, halve));
    }
    x = ag_scope_close(g, scope, middle(g, &m->encoder, config, x));
    x = finish(g, &m->encoder, config, x);
    if (m->quant.w)
        x = conv_forward(g, &m->quant, x, same1);
    *moments = ag_scope_close(g, scope, ag_to_type(g, x, DT_F32));
    return ag_status(g);
}

void vae_posterior(float *mean, float *logvar, const float *moments, int64_t count, int64_t channels)
{
    for (int64_t i = 0; i < count; i++, moments += 2 * channels) {
        for (int64_t c = 0; c < channels; c++) {
            float v = moments[channels + c];
            mean[i * channels + c] = moments[c];
            logvar[i * channels + c] = v < -30 ? -30 : v > 20 ? 20 : v;
        }
    }
}

err vae_decode(tensor **sample, ag *g, const vae *m, tensor *latent)
{
    *sample = NULL;
    TRY(ag_status(g));
    const vae_config *config = &m->config;
    if (latent->ndim != 4 || latent->dim[3] != config->latent_channels || latent->dim[1] < 1 || latent->dim[2] < 1)
        return err_set(E_SHAPE, "VAE decoder: latent (B,h,w,C) is %s, expected %" PRId64 " channels",
                       tensor_shape_text(ag_arena(g), latent), config->latent_channels);
    int     scope = ag_scope_open(g);
    tensor *x = ag_to_type(g, latent, m->decoder.conv_in.w->type);
    x = m->post_quant.w ? conv_forward(g, &m->post_quant, x, same1) : x;
    x = conv_forward(g, &m->decoder.conv_in, x, same3);
    x = ag_scope_close(g, scope, middle(g, &m->decoder, config, x));
    for (int64_t i = 0; i < config->blocks && x; i++) {
        const vae_block *block = &m->decoder.block[i];
        x = ag_scope_close(g, scope, resnets(g, block, config, x));
        if (x && block->resample.w) {
            x = ag_upsample(g, x, 2 * x->dim[1], 2 * x->dim[2]);
            x = ag_scope_close(g, scope, conv_forward(g, &block->resample, x, same3));
        }
    }
    *sample = ag_scope_close(g, scope, ag_to_type(g, finish(g, &m->decoder, config, x), DT_F32));
    return ag_status(g);
}
