/* attention: q (B,T,H,D), k (B,S,H,D), v (B,S,H,D), views with D innermost -> y (B,T,H,D).
 *   y = softmax(scale q k^T [keys 0..t only if causal]) v     (Vaswani et al. 2017, 3.2.1)
 * Kept for backward: q, k, v, y and the log-sum-exp of each row, f32 (B,H,T); never the scores. */
#include "autograd/op.h"

static err attention_shape(const op_call *c, tensor *out)
{
    const tensor *q = c->in[0], *k = c->in[1], *v = c->in[2];
    if (q->ndim != 4 || k->ndim != 4 || !tensor_same_shape(k, v))
        return op_shape_error(c, "q needs four dimensions, k and v the same four");
    if (q->dim[0] != k->dim[0] || q->dim[2] != k->dim[2] || q->dim[3] != k->dim[3])
        return op_shape_error(c, "batch, heads or head size differ");
    if (q->type != k->type || k->type != v->type || tensor_count(q) < 1 || tensor_count(k) < 1)
        return op_shape_error(c, "types differ or a side is empty");
    return shape_like_first(c, out);
}

static err attention_forward(ag *g, op_call *c)
{
    tensor *q = c->in[0], *lse = NULL;
    if (c->records) {
        TRY(op_extra(g, c, 4, "attention.lse", DT_F32, DIMS(q->dim[0], q->dim[2], q->dim[1]), &lse));
        op_save(c, 0, q);
        op_save(c, 1, c->in[1]);
        op_save(c, 2, c->in[2]);
        op_save(c, 3, c->out);
    }
    device *d = ag_device(g);
    return d->p->attention(d, c->out, lse, q, c->in[1], c->in[2], c->p.attention.scale, c->p.attention.causal);
}

static err attention_backward(ag *g, op_call *c)
{
    tensor *dq, *dk, *dv;
    bool    add_q, add_k, add_v;
    TRY(op_grad_strided(g, c, 0, &dq, &add_q));
    TRY(op_grad_strided(g, c, 1, &dk, &add_k));
    TRY(op_grad_strided(g, c, 2, &dv, &add_v));
    device *d = ag_device(g);
    return d->p->attention_backward(d, dq, dk, dv, c->out->grad, c->saved[3], c->saved[4], c->saved[0], c->saved[1],
                                    c->saved[2], c->p.attention.scale, c->p.attention.causal, add_q, add_k, add_v);
}

const op op_attention = {
    .name = "attention",
    .signature = "(B,T,H,D) (B,S,H,D) (B,S,H,D) -> (B,T,H,D)",
    .inputs = 3,
    .shape = attention_shape,
    .forward = attention_forward,
    .backward = attention_backward,
};

tensor *ag_attention(ag *g, tensor *q, tensor *k, tensor *v, float scale, bool causal)
{
    return ag_apply(g, (op_call){.op = &op_attention, .in = {q, k, v}, .p.attention = {scale, causal}});
}
