/* The meta device: shapes without data. Every primitive counts its work and its traffic and touches nothing; every
 * allocation of a step is written down with its birth and its death. What runs on the CPU runs on it unchanged:
 *
 *     TRY(device_open_meta(&dev, NULL));
 *     ...                                // load networks, run a step
 *     const meta_report *r = meta_report_of(dev);
 *     TRY(plan_make(&plan, r->log.item, r->log.count));
 *
 * Addresses are never mapped; downloads give zeros. */
#ifndef MSD_AUTOGRAD_META_META_H
#define MSD_AUTOGRAD_META_META_H

#include "autograd/device.h"
#include "autograd/planner.h"

typedef enum meta_kind {
    META_LINEAR, META_CONVOLUTION, META_ATTENTION, META_SUBJECT_ATTENTION, META_NORM, META_ELEMENTWISE, META_COPY,
    META_OPTIMIZER, META_KIND_COUNT
} meta_kind;
const char *meta_kind_name(meta_kind kind); /* "convolution" */

typedef struct meta_count {
    int64_t calls;
    double  multiply_adds; /* of matrix products; attention of subjects counts every query against every subject */
    double  read, written; /* bytes of the operands, each once; accumulating reads its output too */
} meta_count;

typedef struct allocation_log { /* LIFE_STEP and LIFE_SCRATCH, in order of birth; time counts gets and puts */
    allocation *item;
    size_t      count;
} allocation_log;

typedef struct meta_report {
    meta_count     by_kind[META_KIND_COUNT];
    allocation_log log; /* what lives still has death PLAN_ALIVE */
} meta_report;

/* One call of a primitive, for who watches the order of things; valid during the watcher's call. */
typedef struct meta_call {
    const char   *primitive; /* "conv2d_dx" */
    meta_kind     kind;
    dtype         type;      /* of what a product computes in: the first operand's */
    double        multiply_adds, read, written; /* as meta_count has them */
    const tensor *output;    /* the first tensor that is written, or NULL */
} meta_call;
typedef void (*meta_watcher)(void *user, const meta_call *call);
/* Every call from here on is told to f, after it was counted; NULL: to nobody. */
void meta_watch(device *dev, meta_watcher f, void *user);

/* Valid until the next primitive or allocation. Memory by lifetime is in dev->memory, as on every device. */
const meta_report *meta_report_of(const device *dev);
double meta_multiply_adds(const device *dev); /* of all kinds */
/* Starts counting anew: counters, log and peaks. No step tensor may be alive. */
void meta_reset(device *dev);

#endif
