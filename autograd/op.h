/* What an op is: one const descriptor, three small functions. For files in autograd/ops/ and recompute.c only.
 * The one list of ops, below, gives the externs, the registry and the test coverage. */
#ifndef MSD_AUTOGRAD_OP_H
#define MSD_AUTOGRAD_OP_H

#include "autograd/ag.h"

enum { OP_MAX_INPUTS = 8, OP_MAX_SAVED = 8 };

typedef struct op op;
typedef struct op_call {
    const op *op;
    tensor   *in[OP_MAX_INPUTS]; /* optional inputs may be NULL */
    tensor   *out;
    bool      spared;                /* nobody reads out's values: a product may save what backward reads, and stop */
    bool      records;               /* an input needs a gradient: save what backward reads */
    bool      early;                 /* op.early has run */
    arena    *owner;                 /* the graph's; lives until ag_reset */
    tensor   *saved[OP_MAX_SAVED];   /* kept until this call's backward ran; see op_save */
    union {
        conv_geometry conv;
        struct { int groups; float eps; bool silu; } norm;
        struct { float scale; bool causal; } attention;
        struct { int64_t h, w; } grid;
        struct { int64_t size; int freqs; } embedding;
        float factor;
        struct { int dim; int64_t start, length; } slice;
        struct { int ndim; int64_t dim[TENSOR_MAX_DIM]; } shape;
        dtype type;
        const struct block *block;
    } p;
} op_call;

struct op {
    const char *name;
    const char *signature;               /* the shape rule in words: "(n,k) (m,k) -> (n,m)" */
    int         inputs;                  /* how many of in[] it has */
    unsigned    optional;                /* bit i: in[i] may be NULL */
    bool        view;                    /* the output shares in[0]'s storage: forward only sets strides and data */
    /* Checks the inputs and fills out's type, ndim, dim (strides follow). Error: E_SHAPE with both shapes. */
    err (*shape)(const op_call *c, tensor *out);
    err (*forward)(ag *g, op_call *c);
    err (*backward)(ag *g, op_call *c);  /* NULL: not differentiable; reads c->out->grad */
    /* The part of backward that gives the gradients of weights, all inputs but in[0], which read as out's gradient is
     * whole, before the call's turn (completion.h); backward then leaves it out (c->early). NULL: there is none. */
    err (*early)(ag *g, op_call *c);
};

/* What a block that is computed again reads: recompute.c. */
struct block {
    ag_block    f;
    const void *user;
    tensor     *used[AG_BLOCK_MAX_USED];
    int         count;
    tensor    **leaf; /* (leaves) trainable tensors that it reads inside, while somebody watches the graph */
    int         leaves;
};
const struct block *op_block(const op_call *c); /* NULL: c is none */
int  op_noted(const ag *g); /* how many reads of trainable tensors were noted in silence */
void op_attach_noted(ag *g, struct block *b, int from);

/* Runs shape rule, allocation, forward; records the call when an input needs a gradient. */
tensor *ag_apply(ag *g, op_call call);

/* Keeps t's data until this call's backward ran, in c->saved[slot]. Only when c->records. For all that backward reads,
 * frozen weights too: a view of one may be released by its scope before. */
void op_save(op_call *c, int slot, tensor *t);
/* A step tensor beside the output (statistics): handed back in *out, and kept in c->saved[slot] when c->records. */
err op_extra(ag *g, op_call *c, int slot, const char *name, dtype type, int ndim, const int64_t *dim, tensor **out);

/* For autograd/recompute.c: what a block needs that is computed twice. op_silence: nothing is recorded from here on, or
 * it is again. op_record_made: `out`, computed in silence, gets `call` on the tape, which then
 * may save. op_backward_again: backward of what was recorded since the tape had `floor` calls, from y, whose gradient
 * is dy. */
bool     op_silent(const ag *g);
void     op_silence(ag *g, bool silent);
void     op_again(ag *g, bool again); /* a block is being computed again */
op_call *op_record_made(ag *g, op_call call, tensor *out);
err      op_backward_again(ag *g, tensor *y, tensor *dy, int floor);

/* The gradient of in[i] to write: NULL when in[i] is NULL or needs none. *add tells to accumulate. */
err op_grad(ag *g, op_call *c, int i, tensor **grad, bool *add);
/* The same for what reads in[i] strided and can write its gradient so: a view's gradient is part of its base's. */
err op_grad_strided(ag *g, op_call *c, int i, tensor **grad, bool *add);
/* Whether the gradient of a view's output lies in its base's already, so that backward has nothing to do. */
bool op_grad_shared(const op_call *c);

/* A shared view of x's data with another contiguous shape, not on the tape; for calling primitives. */
tensor op_flat(const tensor *x, int ndim, const int64_t *dim);

/* The same with all leading dimensions as rows: (...,n) -> (rows,n). */
tensor op_rows(const tensor *x);

/* Shape rules used by several ops. */
err shape_like_first(const op_call *c, tensor *out);
err shape_broadcast(const op_call *c, tensor *out); /* in[1] aligned at the innermost dimension, each extent in[0]'s or 1 */
err op_shape_error(const op_call *c, const char *what); /* composes "linear: what: (2,3) (4,5)" */

#define OP_LIST(X)                                                                                          \
    X(linear) X(conv2d) X(group_norm) X(layer_norm) X(silu) X(gelu) X(quick_gelu) X(geglu) X(attention)      \
    X(box_mask) X(multi_subject_attention) X(embedding) X(time_embedding) X(box_embedding) X(add) X(mul)     \
    X(scale) X(concat) X(select) X(upsample) X(reshape) X(slice) X(cast) X(mse)
#define X(n) extern const op op_##n;
OP_LIST(X)
#undef X

extern const op *const op_all[];
extern const int       op_count;

#endif
