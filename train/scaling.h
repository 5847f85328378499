/* What a training step takes on many GPUs, computed and not measured: the moments at which backward finishes each gradient (the
 * meta device's run, every call at its roofline time), the buckets that they are put into (reduction.h), the time that each
 * bucket's sum takes on the links, one after the other on a stream of its own, and what of it is left over when backward
 * ends. Collectives cost no time of the kernels beside them here; in truth they take some of the card's processors. */
#ifndef MSD_TRAIN_SCALING_H
#define MSD_TRAIN_SCALING_H

#include <stdio.h>

#include "train/card.h"

/* When the gradients of an update are whole, in the order of backward. */
typedef struct gradient_times {
    int64_t *elements;
    double  *ready;        /* seconds since the update began */
    int      count, room;
    double   backward_end; /* of the last micro-batch: the optimizer begins; 0: not yet */
    double   end;
} gradient_times;

void gradient_times_add(gradient_times *g, int64_t elements, double ready);
void gradient_times_free(gradient_times *g);

typedef struct scaling_options {
    int         ranks;
    const char *link;     /* "nvlink", "ib400", "ib400x8", "eth100" */
    const card *on;
    dtype       sent;     /* DT_F32 or DT_BF16 */
    bool        sharded;
    int64_t     pictures; /* of one rank in a step */
} scaling_options;

typedef struct scaling_bucket {
    double bytes, ready, begin, end; /* begin, end: of its sum */
} scaling_bucket;

typedef struct scaling {
    scaling_options how;
    int             nodes;
    double          rate;      /* bytes a second that a rank sends at most */
    scaling_bucket *bucket;    /* heap */
    int             buckets;
    double          alone;     /* seconds of a step of one GPU */
    double          backward_end, optimizer, gather, numbers, exposed, step;
    double          efficiency; /* alone / step */
    double          bytes;     /* that a rank sends in a step */
} scaling;

/* E_USAGE: no such link, ranks outside 1..65536, more ranks than an NVLink domain has, a card without NVLink. */
err  scaling_check(const scaling_options *o);
void scaling_make(scaling *out, const gradient_times *g, const scaling_options *o); /* checked ones */
void scaling_free(scaling *s);

/* Seconds in which all ranks have the sum of `bytes` of each: the faster of a ring and of a tree; of a half of it (a
 * reduce-scatter or an all-gather): a ring. */
double scaling_sum_seconds(const scaling_options *o, double bytes);
double scaling_half_seconds(const scaling_options *o, double bytes);

void scaling_print(FILE *out, const scaling *s);
void scaling_print_json(FILE *out, const scaling *s);

#endif
