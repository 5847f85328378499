/* When each trainable tensor's gradient is whole, for who sends it on while backward goes on with the rest. For ag.c.
 *
 * Backward runs the tape from its end. A tensor's gradient is whole once the first call that reads it has had its turn;
 * where a product is the only reader of its weight (an adapter's group of keys and values, made before the network that
 * reads them), as soon as the gradient of the product's output is: then the weight's part of its backward (op.early) runs
 * before the call's turn. The numbers are the same either way. */
#ifndef MSD_AUTOGRAD_COMPLETION_H
#define MSD_AUTOGRAD_COMPLETION_H

#include "autograd/op.h"

typedef struct whole_event whole_event;

typedef struct completion {
    ag_whole     whole; /* NULL: nobody asks */
    void        *user;
    tensor     **noted; /* trainable tensors that blocks to be computed again have read, in silence */
    int          noted_count, noted_room;
    whole_event *event; /* in the order of backward; (events) */
    int          events, next;
} completion;

/* Of a call in silence: what it reads and trains. */
void completion_note(completion *w, const op_call *c);
/* A block's notes since `from`, as the block's. */
void completion_attach(completion *w, arena *owner, struct block *b, int from);
/* Before backward of tape[0..count). */
void completion_plan(completion *w, op_call **tape, int count);
/* After the call `at` of the tape has had its turn: early products that are due, and the teller. */
err  completion_after(completion *w, ag *g, op_call **tape, int at);
void completion_reset(completion *w); /* forgets the asker too */
void completion_free(completion *w);

#endif
