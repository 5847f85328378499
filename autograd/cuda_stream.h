/* For the communicator over NCCL alone: where a CUDA device queues its work. */
#ifndef MSD_AUTOGRAD_CUDA_STREAM_H
#define MSD_AUTOGRAD_CUDA_STREAM_H

#include <cuda_runtime_api.h>

#include "autograd/device.h"

cudaStream_t device_cuda_stream(const device *d);
int          device_cuda_index(const device *d);

#endif
