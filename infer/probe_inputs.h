/* The inputs of a probe module against its table: everything missing and every wrong shape in one message. */
#ifndef MSD_INFER_PROBE_INPUTS_H
#define MSD_INFER_PROBE_INPUTS_H

#include "data/tensor_table.h"
#include "infer/probe.h"

enum { PROBE_MAX_SIZES = 32 };

/* What the letters of the shapes stand for, by the first tensor that has one. */
typedef struct probe_sizes {
    struct {
        const char *letter; /* `length` bytes of a table's text */
        size_t      length;
        int64_t     size;
    } at[PROBE_MAX_SIZES];
    int count;
} probe_sizes;

int64_t probe_sizes_find(const probe_sizes *s, const char *letter, size_t length); /* 0 when absent */

/* E_SHAPE names the file options->in and all that does not fit. */
err probe_inputs_check(probe_sizes *out, arena *memory, const probe_module *m, const tensor_table *tensors,
                       const probe_options *options);

#endif
