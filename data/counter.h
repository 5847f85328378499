/* Weights and inputs that need no file: a formula of name and index, the same in C here and in Python
 * (tests/reference/counter.py), to the bit. Tests, goldens and `msd synth` use it; nothing random is meant.
 *
 *   value(name, i): h = FNV-1a 64 of the name's bytes; z = splitmix64's finaliser of h + (i+1)*0x9E3779B97F4A7C15;
 *                   2*(z >> 40)/2^24 - 1, in [-1,1), exact in f32 */
#ifndef MSD_DATA_COUNTER_H
#define MSD_DATA_COUNTER_H

#include <stdint.h>

uint64_t counter_key(const char *name); /* h above */
float    counter_value(uint64_t key, uint64_t i);

/* out (dim, row-major in the order of files) gets scale*value + shift. Two or more dimensions:
 * scale sqrt(3/fan_in), fan_in the product of dim[1..], which keeps unit variance; one dimension and a name
 * that ends in "weight" (a norm): 1 + 0.1*value; everything else (biases): 0.1*value. */
void counter_fill(float *out, const char *name, int ndim, const int64_t *dim);

/* out[k] = value(name, first + k), for inputs and for filling a large tensor in pieces. */
void counter_uniform(float *out, const char *name, uint64_t first, int64_t count);

/* counter_fill's elements [first, first + count) only. */
void counter_fill_part(float *out, const char *name, int ndim, const int64_t *dim, int64_t first, int64_t count);

#endif
