/* AdamW over a list of trainable tensors: f32 masters and gradients in LIFE_STATE, moments in f32 or in 8 bits.
 *
 *     optimizer_begin(o);                 // gradients are empty
 *     ... forward and backward, once or more ...
 *     optimizer_norm(&norm, o);
 *     optimizer_update(o, norm, max_norm, lr);
 *
 * A tensor that took no part has gradient zero: its moments and decay still run. With one backward an update the gradients
 * can be of the step's memory (adamw.passing). */
#ifndef MSD_TRAIN_OPTIMIZER_H
#define MSD_TRAIN_OPTIMIZER_H

#include "autograd/ag.h"
#include "autograd/device.h"

typedef struct parameter {
    const char *name;     /* as in adapter files */
    tensor     *t;        /* f32, needs_grad */
    tensor     *copy;     /* bf16: what the network reads instead, written by each update; NULL: it reads t */
    double      rate;     /* its learning rate is the step's times this; 1 as a rule */
    bool        no_decay; /* no weight decay */
} parameter;

typedef struct adamw {
    double beta1, beta2, eps, weight_decay;
    bool   eight_bits; /* moments as device.h's adamw8 has them; tensors below OPTIMIZER_SMALL numbers keep f32 */
    bool   elsewhere;  /* the moments are train/sharded.h's: this optimizer has none and updates nothing */
    bool   passing;    /* gradients are of the step's memory: backward makes each where activations no longer lie, and
                          optimizer_drop gives them back; for one backward an update */
} adamw;

enum { OPTIMIZER_SMALL = 4096 };

typedef struct optimizer {
    device          *dev;
    const parameter *param; /* borrowed */
    int              count;
    tensor         **m, **v; /* first and second moments: f32, or u8 codes; NULL where they are elsewhere */
    tensor         **m_absmax, **v_absmax; /* of the codes' blocks; NULL where the moments are f32 */
    adamw            how;
    int64_t          updates; /* done so far */
    arena            room;    /* structs of gradients that pass */
} optimizer;

/* The tensor that holds its gradient: what the network reads, or the stack that this is rows of. */
tensor *parameter_whole(const parameter *p);

/* Allocates zeroed moments, and gradients where there are none; structs live in `owner`, data until optimizer_free. */
err  optimizer_new(optimizer **out, arena *owner, device *dev, const parameter *param, int count, adamw how);
void optimizer_free(optimizer *o);

/* What backward has left for a parameter, f32; NULL when it took no part. It is the gradient of the tensor that the network
 * reads, or the part of its stack's that belongs to it. */
const tensor *parameter_gradient(const parameter *p);
void optimizer_begin(optimizer *o);
/* Of gradients that pass, and nothing where they stay: before a backward the graph is told to keep them, after it they are
 * the optimizer's, and when all is read they are given back. */
void optimizer_expect(optimizer *o, ag *g);
void optimizer_take(optimizer *o);
void optimizer_drop(optimizer *o);
/* Which gradients hold nothing yet, fresh[0..count): what a step that only plans (autograd/planned.h) is followed by. */
void optimizer_marks(bool *fresh, const optimizer *o);
void optimizer_set_marks(optimizer *o, const bool *fresh);
/* sqrt of the sum of squares of all gradients, summed in f64 in the list's order. */
err optimizer_norm(double *norm, const optimizer *o);
/* The factor of the gradients by the norm: min(1, max_norm / (norm + 1e-6)); max_norm 0: 1. */
float optimizer_clip(double norm, double max_norm);
/* Gradients x min(1, max_norm / (norm + 1e-6)) as torch's clip_grad_norm_ (max_norm 0: no clipping),
 * then one AdamW update (torch.optim.AdamW) with rate lr times each parameter's own. */
err optimizer_update(optimizer *o, double norm, double max_norm, double lr);

#endif
