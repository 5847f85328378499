#include "autograd/cuda_stream.h"

#include <string.h>

#include "autograd/cuda/cuda.h"

cudaStream_t device_cuda_stream(const device *d)
{
    CHECK(!strcmp(d->kind, "cuda"), "a stream of device %s", d->kind);
    return cuda_stream_of(d);
}

int device_cuda_index(const device *d)
{
    return cuda_state_of(d)->index;
}
