/* The shared variables of kernels: `static thread_local`, found in the program's own table of symbols. */
#ifndef CUDA_HOST_SHARED_H
#define CUDA_HOST_SHARED_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace cuda_host {

struct variable {
    int64_t offset; /* in the storage of a thread of the operating system */
    size_t  bytes;
};

const std::vector<variable> &shared_variables(const void *kernel);
std::string                  kernel_name(const void *kernel);
void                         poison(const std::vector<variable> &variables); /* this thread's */

} // namespace cuda_host

#endif
