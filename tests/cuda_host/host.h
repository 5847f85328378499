/* CUDA's libraries on the host, put in at link time by cmake's preset cudahost; no product file knows of it.
 *
 * Kernels are compiled by the host's compiler; the threads of a block are fibers that run in random order and switch at
 * barriers and shuffles (block.cpp). Device memory has addresses of its own, poisoned when fresh, unreadable once freed
 * (memory.cpp). Work waits in its stream until something synchronises (stream.cpp), so that a missing synchronisation
 * shows as poison. What a GPU would not say, or say badly, is one line on stderr, and an error that stays.
 *
 * Environment: MSD_CUDA_HOST_SEED=N (order of threads and blocks), MSD_CUDA_HOST_MEMORY=MIB (of the device),
 * MSD_CUDA_HOST_REPORT=FILE (counts at exit are appended; "-": stderr), MSD_CUDA_HOST_FAIL=CALL:N[:sticky|:always] (the
 * N-th call of that name fails, "any": of all; sticky: as a fault of the device, which every later call meets too; always:
 * so does every later one of that name), MSD_CUDA_HOST_DRIVER=VERSION (13000; 0: none), MSD_CUDA_HOST_DEVICES=N,
 * MSD_CUDA_HOST_CAPABILITY=90, MSD_CUDA_HOST_THREADS=N, MSD_CUDA_HOST_TRACE=FILE (work in the order in which it was queued, a
 * line each, is appended), MSD_CUDA_HOST_NCCL (nccl.cpp). */
#ifndef CUDA_HOST_HOST_H
#define CUDA_HOST_HOST_H

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <string>

namespace cuda_host {

/* ---- runtime.cpp ---- */

/* Every call of the API begins with it: counts, and is the error that the call has to return at once, if any. */
cudaError_t begin_call(const char *name);
/* Returns `error` and remembers it for cudaGetLastError; one line on stderr. */
cudaError_t refuse(cudaError_t error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* As refuse, and every later call fails with it too, as after a fault of the device. */
cudaError_t fault(cudaError_t error, const char *format, ...) __attribute__((format(printf, 2, 3)));
cudaError_t sticky_error();
void        count(const std::string &kind, uint64_t n = 1); /* for the report */
void        trace(const char *what);                        /* a line "PID WHAT" */
const char *setting(const char *name, const char *otherwise);
uint64_t    random_bits(uint64_t *state);

/* ---- memory.cpp ---- */

enum { POISON = 0xff }; /* NaN in every floating type */

/* Whether [memory, bytes) lies in one live allocation. */
bool on_device(const void *memory, size_t bytes);
bool in_device_range(const void *memory);
bool is_pinned(const void *memory, size_t bytes);
/* "400 bytes behind an allocation of 1024", for error lines */
std::string describe(const void *memory);
/* While one is alive the thread may touch device memory. */
struct device_access {
    device_access();
    ~device_access();
};
/* Looks for writes into the gaps around allocations; an error if there are any, naming `what` ran last. */
cudaError_t check_gaps(const char *what);

/* ---- stream.cpp ---- */

/* Appends work to a stream or to the graph that it captures. The work may return a fault()'s error. */
cudaError_t enqueue(cudaStream_t stream, const char *what, std::function<cudaError_t()> work);
bool        valid_stream(cudaStream_t stream);
/* An error where the call is not allowed while a stream captures. */
cudaError_t not_while_capturing(const char *call);
cudaError_t run_everything();
cudaError_t run_stream(cudaStream_t stream);
bool        is_capturing(cudaStream_t stream);

} // namespace cuda_host

#endif
