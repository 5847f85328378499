/* multi_subject_attention: base (B,T,H,D) or NULL, q (B,T,H,D), k, v (A,S*N,H,D) with A <= B, mask u8 (A,S,T),
 * subject_scales f32 (S) or NULL -> y (B,T,H,D).
 *   y = base + sum over subjects s covering t of c_s p_s v_s,
 *   p = softmax over the union of the covering subjects' tokens of q k^T / sqrt(D),  c_s = subject_scales[s] or scale
 * (the reference's MaskedIPAttnProcessor2_0 without its dummy tokens, which influence nothing). Samples A.. and
 * queries outside every mask get base alone. Gradients to base, q, k and v; kept: q, k, v, mask, subject_scales and
 * the log-sum-exp, f32 (A,H,T). */
#include "autograd/op.h"

enum { BASE, QUERY, KEY, VALUE, MASK, SCALES, INPUTS };

static err subjects_shape(const op_call *c, tensor *out)
{
    const tensor *base = c->in[BASE], *q = c->in[QUERY], *k = c->in[KEY], *v = c->in[VALUE], *mask = c->in[MASK];
    if (q->ndim != 4 || k->ndim != 4 || !tensor_same_shape(k, v) || (base && !tensor_same_shape(base, q)))
        return op_shape_error(c, "base and q, and k and v, need the same four dimensions");
    if (k->dim[0] > q->dim[0] || q->dim[2] != k->dim[2] || q->dim[3] != k->dim[3])
        return op_shape_error(c, "k has more samples, or heads or head size differ");
    if (mask->ndim != 3 || mask->dim[0] != k->dim[0] || mask->dim[2] != q->dim[1] || mask->type != DT_U8)
        return op_shape_error(c, "the mask does not fit");
    if (mask->dim[1] < 1 || k->dim[1] < 1 || k->dim[1] % mask->dim[1])
        return op_shape_error(c, "the tokens do not divide among the subjects");
    const tensor *scales = c->in[SCALES];
    if (scales && (scales->type != DT_F32 || tensor_count(scales) != mask->dim[1]))
        return op_shape_error(c, "subject_scales needs one f32 for each subject");
    if (q->type != k->type || k->type != v->type || (base && base->type != q->type) || tensor_count(q) < 1)
        return op_shape_error(c, "types differ or a side is empty");
    out->type = q->type;
    tensor_set_shape(out, q->ndim, q->dim);
    return OK;
}

static err subjects_forward(ag *g, op_call *c)
{
    tensor *q = c->in[QUERY], *lse = NULL;
    if (c->records) {
        TRY(op_extra(g, c, 0, "multi_subject_attention.lse", DT_F32,
                     DIMS(c->in[KEY]->dim[0], q->dim[2], q->dim[1]), &lse));
        for (int i = QUERY; i < INPUTS; i++)
            op_save(c, i, c->in[i]);
    }
    device *d = ag_device(g);
    return d->p->multi_subject_attention(d, c->out, lse, c->in[BASE], q, c->in[KEY], c->in[VALUE], c->in[MASK],
                                         c->in[SCALES], c->p.attention.scale);
}

static err subjects_backward(ag *g, op_call *c)
{
    tensor *dbase, *dq, *dk, *dv;
    bool    add, add_q, add_k, add_v;
    device *d = ag_device(g);
    TRY(op_grad(g, c, BASE, &dbase, &add));
    if (dbase)
        TRY(d->p->copy(d, dbase, c->out->grad, add));
    TRY(op_grad_strided(g, c, QUERY, &dq, &add_q));
    TRY(op_grad_strided(g, c, KEY, &dk, &add_k));
    TRY(op_grad_strided(g, c, VALUE, &dv, &add_v));
    if (!dq && !dk && !dv)
        return OK;
    return d->p->multi_subject_attention_backward(d, dq, dk, dv, c->out->grad, c->saved[0], c->saved[QUERY],
                                                  c->saved[KEY], c->saved[VALUE], c->saved[MASK], c->saved[SCALES],
                                                  c->p.attention.scale, add_q, add_k, add_v);
}

const op op_multi_subject_attention = {
    .name = "multi_subject_attention",
    .signature = "(B,T,H,D) (B,T,H,D) (A,S*N,H,D) (A,S*N,H,D) (A,S,T) (S) -> (B,T,H,D)",
    .inputs = INPUTS,
    .optional = 1u << BASE | 1u << SCALES,
    .shape = subjects_shape,
    .forward = subjects_forward,
    .backward = subjects_backward,
};

tensor *ag_multi_subject_attention(ag *g, tensor *base, tensor *q, tensor *k, tensor *v, tensor *mask,
                                   tensor *subject_scales, float scale)
{
    return ag_apply(g, (op_call){.op = &op_multi_subject_attention,
                                 .in = {base, q, k, v, mask, subject_scales},
                                 .p.attention.scale = scale});
}
