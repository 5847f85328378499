/* The op test: one row per case, checked against goldens that PyTorch made in f64.
 *
 *     static tensor *run_scale(ag *g, tensor **in, const op_case *c) { return ag_scale(g, in[0], c->with.p.factor); }
 *     { "scale", &op_scale, "(3,5)*4", run_scale, .with.p.factor = 0.7f },
 *
 * tests/reference/make_ops_*.py has a case of the same name for each row and stores NAME.y, NAME.grad<i> of every
 * input that gets a gradient, and NAME.<i> of the inputs that are given. Each row is run several times:
 *     fresh     gradients as the graph makes them, in memory that was all NaN
 *     added     every gradient buffer holds 1 at the start, so that `=` for `+=` is caught
 *     alone     each input trainable by itself
 *     passed    every input is a view that is gone before the backward
 *     again     the first run once more: the same bits
 *     frozen    nothing trainable: nothing on the tape, nothing kept but the output
 * in bf16 also:
 *     trained   what may be a parameter is training state: its gradient is f32
 * and after each the guard bytes around every block of memory, the inputs, and the bytes still in use are looked at. */
#ifndef MSD_TESTS_SUPPORT_OPS_H
#define MSD_TESTS_SUPPORT_OPS_H

#include "autograd/op.h"
#include "data/safetensors.h"

typedef struct op_case op_case;
struct op_case {
    const char *name;   /* of its tensors in the suite's golden file */
    const op   *op;     /* whose row this is, for the coverage */
    /* One word per input: "(2,3)" counter_uniform of name "NAME.<i>"; "(2,3)*4" the same times 4; "stored": NAME.<i>
     * of the golden file, f32, i32 or u8; "-": NULL. */
    const char *inputs;
    tensor   *(*run)(ag *g, tensor **in, const op_case *c);
    /* Each element may differ by tolerance * (|reference| + RMS of the reference); 0 in the row means
     * OP_TOLERANCE. What needs more says why. */
    double      tolerance;
    op_call     with;   /* with.p: what run hands to the op */
    unsigned    stays;  /* bit i: input i is f32 in a bf16 network too (boxes, times, scales) */
    bool        far;    /* rounding the inputs to bf16 moves the result by more than BF16_TOLERANCE */
};

/* Products and sums of up to a few hundred terms of size 1 in f32, against f64 rounded to f32. */
#define OP_TOLERANCE 2e-6

/* A row in bf16: the norm of the difference, relative to that of the output or gradient. Inputs and dy are rounded to
 * 8 bits, each off by at most 2^-9 = 0.002 and by 0.0011 in the root mean square, and so is the result; an op with three
 * rounded factors is near 0.003, and a gradient that is a difference of like numbers near 0.005. */
#define BF16_TOLERANCE 1e-2
/* The same against our own f32 on the rounded inputs, where only intermediate and last roundings differ. */
#define BF16_OWN_TOLERANCE 8e-3

typedef struct op_suite {
    const char    *golden; /* file below MSD_GOLDENS */
    const op_case *cases;
    int            count;
} op_suite;

extern const op_suite suite_basic, suite_attention; /* cases_*.c; test_ops.c runs them */

typedef struct op_verdict {
    double worst;     /* share of the tolerance used; NaN and infinity are failures */
    char   why[240];  /* the first failure; empty: passed */
    int    gradients; /* how many gradients were compared */
    double     relative;  /* bf16: the largest difference, relative to the norm */
    bool       refused;   /* the device does not have the op in this type */
    bool       same;      /* bf16: the op has no input that is bf16, so that there is nothing to run */
} op_verdict;

typedef struct op_bench op_bench; /* a device whose memory is watched, and a golden file */
op_bench  *op_bench_open(const char *golden);
void       op_bench_close(op_bench *b);
device    *op_bench_device(op_bench *b);
op_verdict op_bench_run(op_bench *b, const op_case *c);
/* The row with inputs and weights rounded to bf16, against the same goldens. */
op_verdict op_bench_run_bf16(op_bench *b, const op_case *c);
/* Bytes that only the tape holds after a forward, one input being trainable. Inputs whose bit is set in `weights` are
 * held by a model; nobody else holds the other inputs and the output. */
size_t     op_bench_kept(op_bench *b, const op_case *c, int trainable, unsigned weights);

#endif
