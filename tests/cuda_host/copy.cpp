/* Copies and fills of memory. A pointer on the wrong side is a fault. */
#include "host.h"

#include <cstring>
#include <vector>

namespace cuda_host {

namespace {

cudaError_t check_side(const char *call, const void *memory, size_t bytes, bool device)
{
    if (device ? on_device(memory, bytes) : !in_device_range(memory) && memory)
        return cudaSuccess;
    return fault(cudaErrorIllegalAddress, "%s: %p (%s) is not %zu bytes of %s memory", call, memory,
                 describe(memory).c_str(), bytes, device ? "device" : "host");
}

/* On the stream; checked again when it runs, since memory may have been freed. pinned: what has to be it, or NULL. */
cudaError_t move(void *to, const void *from, size_t bytes, bool to_device, bool from_device, const void *pinned)
{
    if (pinned && !is_pinned(pinned, bytes))
        return fault(cudaErrorIllegalAddress, "cudaMemcpyAsync: %p is not %zu bytes of pinned memory any more", pinned,
                     bytes);
    if (cudaError_t e = check_side("cudaMemcpy", to, bytes, to_device))
        return e;
    if (cudaError_t e = check_side("cudaMemcpy", from, bytes, from_device))
        return e;
    device_access access;
    memmove(to, from, bytes);
    return cudaSuccess;
}

cudaError_t copy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    if (bytes == 0)
        return cudaSuccess;
    if (kind == cudaMemcpyDefault)
        kind = in_device_range(to) ? in_device_range(from) ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice
                                   : in_device_range(from) ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost;
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (cudaError_t e = check_side("cudaMemcpy", to, bytes, to_device))
        return e;
    if (cudaError_t e = check_side("cudaMemcpy", from, bytes, from_device))
        return e;
    count(to_device ? from_device ? "copy device to device" : "copy host to device" : "copy device to host");
    bool pageable = (!to_device && !is_pinned(to, bytes)) || (!from_device && !is_pinned(from, bytes));
    if (pageable && valid_stream(stream) && is_capturing(stream))
        return not_while_capturing("cudaMemcpyAsync of pageable memory");
    if (!from_device && pageable) { /* the library stages it before it returns */
        std::vector<char> staged((const char *)from, (const char *)from + bytes);
        return enqueue(stream, "cudaMemcpyAsync", [to, staged, to_device] {
            return move(to, staged.data(), staged.size(), to_device, false, nullptr);
        });
    }
    const void *pinned = pageable ? nullptr : !to_device ? to : !from_device ? from : nullptr;
    cudaError_t e = enqueue(stream, "cudaMemcpyAsync",
                            [=] { return move(to, from, bytes, to_device, from_device, pinned); });
    return e || !pageable ? e : run_stream(stream);
}

cudaError_t fill(void *memory, int value, size_t bytes, cudaStream_t stream)
{
    if (bytes == 0)
        return cudaSuccess;
    if (cudaError_t e = check_side("cudaMemset", memory, bytes, true))
        return e;
    count("fill");
    return enqueue(stream, "cudaMemsetAsync", [=] {
        if (cudaError_t e = check_side("cudaMemset", memory, bytes, true))
            return e;
        device_access access;
        memset(memory, value, bytes);
        return cudaSuccess;
    });
}

} // namespace

} // namespace cuda_host

using namespace cuda_host;

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    if (cudaError_t e = begin_call("cudaMemcpyAsync"))
        return e;
    return copy(to, from, bytes, kind, stream);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    if (cudaError_t e = begin_call("cudaMemcpy"))
        return e;
    if (cudaError_t e = not_while_capturing("cudaMemcpy"))
        return e;
    cudaError_t e = copy(to, from, bytes, kind, nullptr);
    return e ? e : run_stream(nullptr);
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream)
{
    if (cudaError_t e = begin_call("cudaMemsetAsync"))
        return e;
    return fill(memory, value, bytes, stream);
}

cudaError_t cudaMemset(void *memory, int value, size_t bytes)
{
    if (cudaError_t e = begin_call("cudaMemset"))
        return e;
    return fill(memory, value, bytes, nullptr);
}
