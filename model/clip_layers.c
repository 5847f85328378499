#include "model/clip_layers.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/json.h"

err clip_config_int(int64_t *out, const json_t *config, const char *key, const char *where, int64_t low, int64_t high)
{
    if (!json_get_present(config, key))
        return OK;
    return err_as(json_get_int(out, config, key, where, low, high), E_MODEL);
}

static err parse_activation(unary *out, const json_t *config, const char *where)
{
    if (!json_get_present(config, "hidden_act"))
        return OK;
    const char *name = NULL;
    TRY(err_as(json_get_text(&name, config, "hidden_act", where), E_MODEL));
    if (!strcmp(name, "quick_gelu"))
        *out = UNARY_QUICK_GELU;
    else if (!strcmp(name, "gelu"))
        *out = UNARY_GELU;
    else
        return err_set(E_MODEL, "%s: hidden_act: found \"%s\", expected quick_gelu or gelu", where, name);
    return OK;
}

err clip_layers_config_parse(clip_layers_config *out, const json_t *config, const char *where)
{
    TRY(clip_config_int(&out->hidden, config, "hidden_size", where, 1, 1 << 16));
    TRY(clip_config_int(&out->intermediate, config, "intermediate_size", where, 1, 1 << 18));
    TRY(clip_config_int(&out->layers, config, "num_hidden_layers", where, 1, 1000));
    TRY(clip_config_int(&out->heads, config, "num_attention_heads", where, 1, 1 << 12));
    TRY(parse_activation(&out->activation, config, where));
    if (json_get_present(config, "layer_norm_eps")) {
        double eps = 0;
        TRY(err_as(json_get_number(&eps, config, "layer_norm_eps", where), E_MODEL));
        if (!(eps > 0 && eps < 1))
            return err_set(E_MODEL, "%s: layer_norm_eps: found %g, expected a small positive number such as 1e-5", where, eps);
        out->eps = (float)eps;
    }
    if (out->hidden % out->heads)
        return err_set(E_MODEL, "%s: num_attention_heads: %" PRId64 " heads do not divide hidden_size %" PRId64, where,
                       out->heads, out->hidden);
    return OK;
}

static void bind_layer(binder *b, clip_layer *l, const clip_layers_config *config)
{
    int64_t c = config->hidden;
    bind_norm(b, &l->norm1, "layer_norm1", c);
    bind_linear(b, &l->q, "self_attn.q_proj", c, c, true);
    bind_linear(b, &l->k, "self_attn.k_proj", c, c, true);
    bind_linear(b, &l->v, "self_attn.v_proj", c, c, true);
    bind_linear(b, &l->out, "self_attn.out_proj", c, c, true);
    bind_norm(b, &l->norm2, "layer_norm2", c);
    bind_linear(b, &l->fc1, "mlp.fc1", config->intermediate, c, true);
    bind_linear(b, &l->fc2, "mlp.fc2", c, config->intermediate, true);
}

clip_layer *clip_layers_bind(binder *b, arena *owner, const clip_layers_config *config)
{
    clip_layer *layer = ARENA_ARRAY(owner, clip_layer, config->layers);
    for (int64_t i = 0; i < config->layers; i++) {
        int at = bind_enter(b, "encoder.layers.%d", (int)i);
        bind_layer(b, &layer[i], config);
        bind_leave(b, at);
    }
    return layer;
}

/* x (B,T,C) -> x + out(attention(norm1(x))) */
static tensor *attend(ag *g, const clip_layer *l, const clip_layers_config *config, tensor *x, bool causal)
{
    if (!x)
        return NULL;
    const int64_t heads[] = {x->dim[0], x->dim[1], config->heads, config->hidden / config->heads};
    float   scale = (float)(1.0 / sqrt((double)heads[3]));
    int     scope = ag_scope_open(g);
    tensor *h = ag_layer_norm(g, x, l->norm1.w, l->norm1.b, config->eps);
    tensor *q = ag_reshape(g, ag_linear(g, h, l->q.w, l->q.b, NULL), 4, heads);
    tensor *k = ag_reshape(g, ag_linear(g, h, l->k.w, l->k.b, NULL), 4, heads);
    tensor *v = ag_reshape(g, ag_linear(g, h, l->v.w, l->v.b, NULL), 4, heads);
    tensor *y = ag_reshape(g, ag_attention(g, q, k, v, scale, causal), 3, x->dim);
    return ag_scope_close(g, scope, ag_linear(g, y, l->out.w, l->out.b, x));
}

/* x (B,T,C) -> x + fc2(activation(fc1(norm2(x)))) */
static tensor *feed_forward(ag *g, const clip_layer *l, const clip_layers_config *config, tensor *x)
{
    int     scope = ag_scope_open(g);
    tensor *h = ag_layer_norm(g, x, l->norm2.w, l->norm2.b, config->eps);
    h = ag_linear(g, h, l->fc1.w, l->fc1.b, NULL);
    h = config->activation == UNARY_GELU ? ag_gelu(g, h) : ag_quick_gelu(g, h);
    return ag_scope_close(g, scope, ag_linear(g, h, l->fc2.w, l->fc2.b, x));
}

tensor *clip_layers_forward(ag *g, const clip_layer *layer, const clip_layers_config *config, tensor *x, int64_t first,
                            int64_t last, bool causal)
{
    int scope = ag_scope_open(g); /* closed after every layer: only the newest x stays */
    for (int64_t i = first; i < last; i++) {
        x = attend(g, &layer[i], config, x, causal);
        x = ag_scope_close(g, scope, feed_forward(g, &layer[i], config, x));
    }
    return x;
}
