/* Goldens of networks: inputs and outputs in one safetensors file, the network's config.json in its metadata. */
#ifndef MSD_TESTS_SUPPORT_GOLDEN_H
#define MSD_TESTS_SUPPORT_GOLDEN_H

#include <jansson.h>

#include "autograd/tensor.h"
#include "data/safetensors.h"

typedef struct golden {
    safetensors *file;
    json_t      *config; /* NULL when the file has none */
    arena        memory;
} golden;

golden golden_open(const char *name); /* below MSD_GOLDENS; ends the test program when it cannot be read */
void   golden_close(golden *g);
const stored_tensor *golden_tensor(const golden *g, const char *name);
float   *golden_f32(golden *g, const char *name);
int32_t *golden_i32(golden *g, const char *name);
float   *golden_nhwc(golden *g, const char *name); /* of an NCHW tensor */

/* (B,C,H,W) from (B,H,W,C); in `memory` */
float *nchw_from_nhwc(arena *memory, const float *x, int64_t b, int64_t h, int64_t w, int64_t c);

/* ||ours - ref|| / ||ref||, in f64; NaN when either has one. */
double relative_error(const float *ours, const float *ref, int64_t count);
/* Compares a device tensor with the golden tensor of that name (NCHW when nchw), prints "x % of tolerance", and returns
 * whether shape and values agree. */
bool golden_agrees(golden *g, const char *name, const tensor *ours, bool nchw, double tolerance);

#endif
