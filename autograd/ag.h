/* The graph: ops applied in order, a tape of those that lead to something trainable, and backward.
 *
 *     ag *g = ag_new(dev);
 *     tensor *y = ag_linear(g, ag_silu(g, x), w, b, NULL);
 *     tensor *loss = ag_mse(g, y, target);
 *     TRY(ag_backward(g, loss));        // w->grad, b->grad now hold or accumulate gradients
 *     ag_reset(g);                      // every tensor of the step is gone
 *
 * Errors are sticky: the first failing op keeps its error in the graph and returns NULL; an op that
 * is handed NULL for a required input returns NULL. Read ag_status() before using results.
 *
 * Memory: tensors made between ag_scope_open and ag_scope_close are released at the close, but for
 * the one handed back and what the tape keeps for backward. Nothing frozen enters the tape: an op
 * none of whose inputs needs a gradient records nothing and keeps nothing. */
#ifndef MSD_AUTOGRAD_AG_H
#define MSD_AUTOGRAD_AG_H

#include "autograd/device.h"

typedef struct ag ag;

ag   *ag_new(device *dev);
void  ag_free(ag *g);
void  ag_reset(ag *g); /* releases every tensor, empties the tape, clears the error */
void  ag_silence(ag *g); /* nothing is recorded until ag_reset: forward alone, with trainable weights too */
err   ag_status(const ag *g);
err   ag_fail(ag *g, err code); /* keeps the first error (its message is in err_message()); returns code */
device *ag_device(const ag *g);
arena  *ag_arena(ag *g);        /* host memory that lives until ag_reset */
int64_t ag_tape_length(const ag *g);

/* d(loss)/d(every tensor with needs_grad behind it), added into ->grad. loss is f32 with one element. */
err ag_backward(ag *g, tensor *loss);
/* Gradients of training state are the caller's from now on: their structs live in `owner`, their data, of LIFE_STEP, until
 * he releases it and sets ->grad to NULL; ag_reset leaves them. Else those that the graph made go with it. Before the
 * first op; until ag_reset. */
void ag_keep_gradients(ag *g, arena *owner);
/* Told of each trainable tensor (of rows of a stack: the stack) as soon as backward has added all to its gradient; in an
 * order that is the same for the same graph. A tensor that got nothing is told of too (grad_fresh stays). Its error is
 * backward's. */
typedef err (*ag_whole)(void *user, tensor *t);
void ag_watch(ag *g, ag_whole whole, void *user); /* before the first op; until ag_reset */

/* Backward from several outputs whose gradients the caller has put into ->grad; for tests. */
err ag_backward_seeded(ag *g);

int     ag_scope_open(ag *g);
tensor *ag_scope_close(ag *g, int scope, tensor *result); /* result (may be NULL) goes to the outer scope */

/* Activation checkpointing: y = f(x), of whose inside the tape keeps nothing; backward computes it again, then its
 * gradients. The bits are those of f called directly. `user` (bytes of it are copied) has to stay valid inside until
 * backward: what it points to lives in ag_arena(g) or outlives the step. `used`: further step tensors that f reads, those
 * that need gradients and those that do not (entries may be NULL). f returns a new tensor, calls ops only. Where
 * nothing needs a gradient this is f(g, user, x). */
typedef tensor *(*ag_block)(ag *g, const void *user, tensor *x);
enum { AG_BLOCK_MAX_USED = 7 };
tensor *ag_recompute(ag *g, ag_block f, const void *user, size_t bytes, tensor *x, tensor *const *used, int count);

/* Inside a block: the op applied next gives the block's result. When the block is computed again nobody reads its values,
 * so that a product is left out. */
void ag_result_next(ag *g);

/* A step tensor from host data, converted; without gradient. */
tensor *ag_input(ag *g, const char *name, dtype type, int ndim, const int64_t *dim, const void *host, dtype host_type);

/* ---- the ops; each file autograd/ops/<name>.c says shapes and formula. NULL is allowed only where said ---- */
tensor *ag_linear(ag *g, tensor *x, tensor *w, tensor *bias /*NULL*/, tensor *residual /*NULL*/);
tensor *ag_conv2d(ag *g, tensor *x, tensor *w, tensor *bias /*NULL*/, tensor *residual /*NULL*/, conv_geometry geometry);
tensor *ag_group_norm(ag *g, tensor *x, tensor *vec /*NULL*/, tensor *w, tensor *b, int groups, float eps, bool silu);
tensor *ag_layer_norm(ag *g, tensor *x, tensor *w /*NULL*/, tensor *b /*NULL*/, float eps);
tensor *ag_silu(ag *g, tensor *x);
tensor *ag_gelu(ag *g, tensor *x);
tensor *ag_quick_gelu(ag *g, tensor *x);
tensor *ag_geglu(ag *g, tensor *x);
tensor *ag_attention(ag *g, tensor *q, tensor *k, tensor *v, float scale, bool causal);
tensor *ag_box_mask(ag *g, tensor *boxes, int64_t h, int64_t w);
tensor *ag_multi_subject_attention(ag *g, tensor *base /*NULL*/, tensor *q, tensor *k, tensor *v, tensor *mask,
                                   tensor *subject_scales /*NULL*/, float scale);
tensor *ag_embedding(ag *g, tensor *table, tensor *ids);
tensor *ag_time_embedding(ag *g, tensor *t, int64_t dim);
tensor *ag_box_embedding(ag *g, tensor *boxes, int freqs);
tensor *ag_add(ag *g, tensor *a, tensor *b);
tensor *ag_mul(ag *g, tensor *a, tensor *b);
tensor *ag_scale(ag *g, tensor *x, float s);
tensor *ag_concat(ag *g, tensor *a, tensor *b, int dim);
tensor *ag_select(ag *g, tensor *pick, tensor *a, tensor *b);
tensor *ag_upsample(ag *g, tensor *x, int64_t h, int64_t w);
tensor *ag_reshape(ag *g, tensor *x, int ndim, const int64_t *dim);            /* a view */
tensor *ag_slice(ag *g, tensor *x, int dim, int64_t start, int64_t length);    /* a strided view */
tensor *ag_cast(ag *g, tensor *x, dtype type);                                 /* also makes contiguous */
tensor *ag_to_type(ag *g, tensor *x, dtype type);                              /* x itself where it has the type */
tensor *ag_mse(ag *g, tensor *a, tensor *b);

#endif
