/* Errors, versions and properties of the device, counts for the report, seeded failures of calls. */
#include "host.h"

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <unistd.h>

namespace cuda_host {

namespace {

std::atomic<int>         stays{cudaSuccess};
thread_local cudaError_t last = cudaSuccess;

struct counts_state {
    std::mutex                      lock;
    std::map<std::string, uint64_t> of, calls;
};

void report();

counts_state &counts()
{
    static counts_state *c = [] {
        atexit(report);
        return new counts_state;
    }();
    return *c;
}

void report()
{
    const char *name = getenv("MSD_CUDA_HOST_REPORT");
    if (!name || !*name)
        return;
    FILE *file = strcmp(name, "-") == 0 ? stderr : fopen(name, "a");
    if (!file) {
        perror(name);
        return;
    }
    for (auto &[kind, n] : counts().of)
        fprintf(file, "%s %llu\n", kind.c_str(), (unsigned long long)n);
    if (file != stderr)
        fclose(file);
}

/* MSD_CUDA_HOST_FAIL: see host.h */
struct seeded_failure {
    std::string call;
    uint64_t    n;
    bool        sticky, always;
};

seeded_failure wanted_failure()
{
    std::string text = setting("MSD_CUDA_HOST_FAIL", "");
    size_t      colon = text.find(':');
    if (colon == std::string::npos)
        return {"", 0, false, false};
    char       *end;
    uint64_t    n = strtoull(text.c_str() + colon + 1, &end, 10);
    std::string how = end;
    if (!n || (how != "" && how != ":sticky" && how != ":always")) {
        fprintf(stderr, "cuda_host: MSD_CUDA_HOST_FAIL=%s: expected CALL:N, CALL:N:sticky or CALL:N:always, N from 1 on\n", text.c_str());
        abort();
    }
    return {text.substr(0, colon), n, how == ":sticky", how == ":always"};
}

/* What a call of that name fails with, on its own. */
cudaError_t error_of(const char *call)
{
    if (strcmp(call, "cudaMalloc") == 0 || strcmp(call, "cudaHostAlloc") == 0)
        return cudaErrorMemoryAllocation;
    if (strcmp(call, "cudaLaunchKernel") == 0 || strcmp(call, "cudaGraphLaunch") == 0)
        return cudaErrorLaunchOutOfResources;
    return strncmp(call, "cudaGetDeviceCount", 18) == 0 ? cudaErrorNoDevice : cudaErrorUnknown;
}

/* What a machine without a driver, with an old one or without a card answers to every call but those for versions. */
cudaError_t lacking(const char *call)
{
    if (strcmp(call, "cudaDriverGetVersion") == 0 || strcmp(call, "cudaRuntimeGetVersion") == 0)
        return cudaSuccess;
    if (atoi(setting("MSD_CUDA_HOST_DRIVER", "13000")) / 1000 < CUDART_VERSION / 1000)
        return cudaErrorInsufficientDriver;
    return atoi(setting("MSD_CUDA_HOST_DEVICES", "1")) < 1 ? cudaErrorNoDevice : cudaSuccess;
}

cudaError_t say(cudaError_t error, const char *format, va_list list)
{
    char line[600];
    vsnprintf(line, sizeof line, format, list);
    fprintf(stderr, "cuda_host: %s (%s, seed %s)\n", line, cudaGetErrorName(error), setting("MSD_CUDA_HOST_SEED", "1"));
    return last = error;
}

} // namespace

const char *setting(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

uint64_t random_bits(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u; /* SplitMix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void count(const std::string &kind, uint64_t n)
{
    counts_state               &c = counts();
    std::lock_guard<std::mutex> hold(c.lock);
    c.of[kind] += n;
}

void trace(const char *what)
{
    static const char *const name = getenv("MSD_CUDA_HOST_TRACE");
    static FILE *const       file = name && *name ? fopen(name, "a") : nullptr;
    if (!file)
        return;
    static const bool lines = setvbuf(file, nullptr, _IOLBF, 0) == 0; /* whole lines among those of other processes */
    (void)lines;
    fprintf(file, "%d %s\n", (int)getpid(), what);
}

cudaError_t sticky_error()
{
    return (cudaError_t)stays.load();
}

cudaError_t begin_call(const char *name)
{
    uint64_t       n, all;
    seeded_failure wanted = wanted_failure();
    {
        counts_state               &c = counts();
        std::lock_guard<std::mutex> hold(c.lock);
        n = ++c.calls[name];
        all = ++c.calls["any"];
        c.of[std::string("call ") + name]++;
    }
    if (sticky_error())
        return last = sticky_error();
    if (cudaError_t e = lacking(name))
        return last = e;
    if (wanted.call == "any")
        n = all;
    else if (wanted.call != name)
        return cudaSuccess;
    if (wanted.always ? n < wanted.n : n != wanted.n)
        return cudaSuccess;
    return wanted.sticky ? fault(cudaErrorLaunchFailure, "%s: seeded failure of call %llu, which sticks", name, (unsigned long long)n)
                         : refuse(error_of(name), "%s: seeded failure of call %llu", name, (unsigned long long)n);
}

cudaError_t refuse(cudaError_t error, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    say(error, format, list);
    va_end(list);
    return error;
}

cudaError_t fault(cudaError_t error, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    say(error, format, list);
    va_end(list);
    int none = cudaSuccess;
    stays.compare_exchange_strong(none, error);
    return error;
}

} // namespace cuda_host

using namespace cuda_host;

static const struct {
    cudaError_t error;
    const char *name, *text;
} ERRORS[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources", "too many resources requested for launch"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched", "the capture was not initiated in this stream"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

const char *cudaGetErrorName(cudaError_t error)
{
    for (const auto &e : ERRORS)
        if (e.error == error)
            return e.name;
    return "cudaErrorOther";
}

const char *cudaGetErrorString(cudaError_t error)
{
    for (const auto &e : ERRORS)
        if (e.error == error)
            return e.text;
    return "unrecognized error code";
}

cudaError_t cudaPeekAtLastError(void)
{
    return sticky_error() ? sticky_error() : last;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = cudaPeekAtLastError();
    last = cudaSuccess;
    return error;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    cudaError_t e = begin_call("cudaDriverGetVersion");
    *version = atoi(setting("MSD_CUDA_HOST_DRIVER", "13000"));
    return e;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    cudaError_t e = begin_call("cudaRuntimeGetVersion");
    *version = CUDART_VERSION;
    return e;
}

cudaError_t cudaGetDeviceCount(int *n)
{
    cudaError_t e = begin_call("cudaGetDeviceCount");
    *n = e ? 0 : atoi(setting("MSD_CUDA_HOST_DEVICES", "1"));
    return e;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return begin_call("cudaGetDevice");
}

cudaError_t cudaSetDevice(int device)
{
    if (cudaError_t e = begin_call("cudaSetDevice"))
        return e;
    return device == 0 ? cudaSuccess : refuse(cudaErrorInvalidDevice, "cudaSetDevice: device %d of 1", device);
}

/* An H100's figures, but for the memory. */
#undef cudaGetDeviceProperties
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    if (cudaError_t e = begin_call("cudaGetDeviceProperties"))
        return e;
    if (device != 0)
        return refuse(cudaErrorInvalidDevice, "cudaGetDeviceProperties: device %d of 1", device);
    size_t free_bytes;
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "CUDA on the host");
    cudaMemGetInfo(&free_bytes, &p->totalGlobalMem);
    p->sharedMemPerBlock = 48 << 10;
    p->regsPerBlock = 65536;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 0x7fffffff;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    int capability = atoi(setting("MSD_CUDA_HOST_CAPABILITY", "90"));
    p->major = capability / 10;
    p->minor = capability % 10;
    p->multiProcessorCount = 132;
    p->l2CacheSize = 50 << 20;
    p->maxThreadsPerMultiProcessor = 2048;
    p->sharedMemPerMultiprocessor = 228 << 10;
    p->regsPerMultiprocessor = 65536;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    struct cudaDeviceProp p;
    if (cudaError_t e = cudaGetDeviceProperties(&p, device))
        return e;
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)p.sharedMemPerBlock; return cudaSuccess;
    case cudaDevAttrWarpSize: *value = p.warpSize; return cudaSuccess;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; return cudaSuccess;
    default: return refuse(cudaErrorInvalidValue, "cudaDeviceGetAttribute: attribute %d is not known here", (int)attribute);
    }
}
