/* One block of a kernel, its threads as fibers. */
#ifndef CUDA_HOST_BLOCK_H
#define CUDA_HOST_BLOCK_H

#include "include/cuda_runtime.h"

#include <string>

namespace cuda_host {

/* Runs block `index` of the call on this thread of the operating system, its threads in the order that `seed` gives.
 * Returns an empty string, or what went wrong. */
std::string run_block(const kernel_call &call, uint3 index, uint64_t seed);

/* Whether a kernel runs on this thread of the operating system; if so, abandon_block ends it with `why`. */
bool              in_kernel();
[[noreturn]] void abandon_block(const std::string &why);

} // namespace cuda_host

#endif
