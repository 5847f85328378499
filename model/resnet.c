#include "model/resnet.h"

void resnet_bind(binder *b, resnet *r, int64_t in, int64_t out, int64_t time)
{
    bind_norm(b, &r->norm1, "norm1", in);
    bind_conv(b, &r->conv1, "conv1", out, in, 3);
    if (time > 0)
        bind_linear(b, &r->time, "time_emb_proj", out, time, true);
    bind_norm(b, &r->norm2, "norm2", out);
    bind_conv(b, &r->conv2, "conv2", out, out, 3);
    if (in != out)
        bind_conv(b, &r->shortcut, "conv_shortcut", out, in, 1);
}

tensor *resnet_forward(ag *g, const resnet *r, tensor *x, tensor *time, int groups, float eps)
{
    static const conv_geometry same3 = {1, 1, 1, 1, 1}, same1 = {1, 0, 0, 0, 0};
    int scope = ag_scope_open(g);
    tensor *h = ag_group_norm(g, x, NULL, r->norm1.w, r->norm1.b, groups, eps, true);
    h = ag_conv2d(g, h, r->conv1.w, r->conv1.b, NULL, same3);
    h = ag_scope_close(g, scope, h); /* the normed x goes before the second half: it is the largest block of the VAE */
    tensor *vec = r->time.w ? ag_linear(g, time, r->time.w, r->time.b, NULL) : NULL;
    h = ag_group_norm(g, h, vec, r->norm2.w, r->norm2.b, groups, eps, true);
    tensor *skip = r->shortcut.w ? ag_conv2d(g, x, r->shortcut.w, r->shortcut.b, NULL, same1) : x;
    ag_result_next(g);
    return ag_scope_close(g, scope, ag_conv2d(g, h, r->conv2.w, r->conv2.b, skip, same3));
}
