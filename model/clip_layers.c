#include "model/clip_layers.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

void clip_layers_config_read(clip_layers_config *out, config_reader *r)
{
    static const config_fixed activation = {"hidden_act", "\"gelu\"|\"quick_gelu\""};
    out->hidden = config_int(r, "hidden_size", out->hidden, 1, 1 << 16);
    out->intermediate = config_int(r, "intermediate_size", out->intermediate, 1, 1 << 18);
    out->layers = config_int(r, "num_hidden_layers", out->layers, 1, 1000);
    out->heads = config_int(r, "num_attention_heads", out->heads, 1, 1 << 12);
    out->eps = (float)config_number(r, "layer_norm_eps", out->eps);
    if (out->hidden % out->heads)
        config_problem(r, "num_attention_heads: %" PRId64 " do not divide hidden_size %" PRId64, out->heads,
                       out->hidden);
    config_check_fixed(r, &activation, 1);
    const char *name = json_string_value(json_object_get(r->object, "hidden_act"));
    if (name)
        out->activation = strcmp(name, "gelu") ? UNARY_QUICK_GELU : UNARY_GELU;
}

static void bind_layer(binder *b, clip_layer *l, const clip_layers_config *config)
{
    static const char *const qkv[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
    int64_t c = config->hidden;
    bind_norm(b, &l->norm1, "layer_norm1", c);
    bind_qkv(b, &l->qkv, qkv, c, c, true);
    bind_linear(b, &l->out, "self_attn.out_proj", c, c, true);
    bind_norm(b, &l->norm2, "layer_norm2", c);
    bind_linear(b, &l->fc1, "mlp.fc1", config->intermediate, c, true);
    bind_linear(b, &l->fc2, "mlp.fc2", c, config->intermediate, true);
}

void clip_layers_bind(binder *b, clip_layer **layer, arena *owner, const clip_layers_config *config)
{
    if (!*layer)
        *layer = ARENA_ARRAY(owner, clip_layer, config->layers);
    for (int64_t i = 0; i < config->layers; i++) {
        int at = bind_enter(b, "encoder.layers.%d", (int)i);
        bind_layer(b, &(*layer)[i], config);
        bind_leave(b, at);
    }
}

/* x (B,T,C) -> x + out(attention(norm1(x))) */
static tensor *attend(ag *g, const clip_layer *l, const clip_layers_config *config, tensor *x, bool causal)
{
    if (!x)
        return NULL;
    const int64_t heads[] = {x->dim[0], x->dim[1], QKV * config->heads, config->hidden / config->heads};
    float   scale = (float)(1.0 / sqrt((double)heads[3]));
    int     scope = ag_scope_open(g);
    tensor *h = ag_layer_norm(g, x, l->norm1.w, l->norm1.b, config->eps);
    tensor *qkv = ag_reshape(g, ag_linear(g, h, l->qkv.w.t, l->qkv.b.t, NULL), 4, heads);
    tensor *q = ag_slice(g, qkv, 2, 0, config->heads), *k = ag_slice(g, qkv, 2, config->heads, config->heads);
    tensor *v = ag_slice(g, qkv, 2, 2 * config->heads, config->heads);
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
