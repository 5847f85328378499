/* What the kernels in autograd/cuda use of CUDA C++, for the host's compiler: threads are fibers of ../fiber.h, shared
 * variables are one per operating-system thread, which runs one block at a time. */
#ifndef CUDA_HOST_RUNTIME_H
#define CUDA_HOST_RUNTIME_H

#include <cstdlib>
#include <cstdint>
#include <cstring>
#include <math.h>
#include <memory>
#include <tuple>
#include <type_traits>

#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static thread_local

struct uint3 {
    unsigned x, y, z;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) int4 {
    int x, y, z, w;
};

static inline float2 make_float2(float x, float y) { return float2{x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return float4{x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return uint2{x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return uint4{x, y, z, w}; }

namespace cuda_host {

struct place {
    uint3 thread, block;
    dim3  block_size, grid_size;
};
extern __thread place here; /* of the thread of a kernel that runs now */

/* A kernel with a copy of its arguments. */
struct kernel_call {
    const void           *kernel;
    dim3                  grid, block;
    std::shared_ptr<void> arguments;
    void (*run)(const void *kernel, void *arguments);
    size_t argument_bytes; /* looked through for host pointers */
};

cudaError_t launch(const kernel_call &call, size_t shared_bytes, cudaStream_t stream);
void        block_barrier();

enum warp_operation { WARP_BARRIER, WARP_SHUFFLE, WARP_VOTE, WARP_MATRIX };

/* Waits for the lanes of `mask`; the last of them calls `act` with everyone's operand, NULL of lanes outside. */
void warp_meet(warp_operation operation, unsigned mask, void *operand, void (*act)(void *const operands[32], unsigned mask));
/* Ends the kernel with an error: `format` as of printf. */
[[noreturn]] void kernel_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
unsigned lane();

struct shuffle {
    unsigned char value[16], result[16];
    int           from, size; /* a lane of the warp */
};
void shuffle_act(void *const operands[32], unsigned mask);

template <class T> T shuffled(unsigned mask, T value, int from)
{
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "shuffles move up to 8 bytes");
    shuffle s;
    memcpy(s.value, &value, sizeof value);
    s.from = from;
    s.size = sizeof value;
    warp_meet(WARP_SHUFFLE, mask, &s, shuffle_act);
    memcpy(&value, s.result, sizeof value);
    return value;
}

struct vote {
    bool     is;
    unsigned ballot;
};
void vote_act(void *const operands[32], unsigned mask);

static inline unsigned ballot(unsigned mask, bool is)
{
    vote v = {is, 0};
    warp_meet(WARP_VOTE, mask, &v, vote_act);
    return v.ballot;
}

template <class... P> struct call_of {
    typedef std::tuple<P...> values;

    static void run(const void *kernel, void *arguments)
    {
        std::apply((void (*)(P...))kernel, *(values *)arguments);
    }

    template <size_t... I> static std::shared_ptr<void> copied(void **arguments, std::index_sequence<I...>)
    {
        std::shared_ptr<void> memory(calloc(1, sizeof(values)), free);
        values *v = new (memory.get()) values(*(P *)arguments[I]...);
        (__builtin_clear_padding(&std::get<I>(*v)), ...); /* what lay there before may look like a pointer */
        return memory;
    }
};

} // namespace cuda_host

template <class... P>
cudaError_t cudaLaunchKernel(void (*kernel)(P...), dim3 grid, dim3 block, void **arguments, size_t shared_bytes,
                             cudaStream_t stream)
{
    typedef cuda_host::call_of<P...> call;
    static_assert((std::is_trivially_copyable<P>::value && ...), "arguments of kernels are copied byte by byte");
    return cuda_host::launch({(const void *)kernel, grid, block,
                              call::copied(arguments, std::index_sequence_for<P...>()), call::run,
                              sizeof(typename call::values)},
                             shared_bytes, stream);
}

#define threadIdx (cuda_host::here.thread)
#define blockIdx (cuda_host::here.block)
#define blockDim (cuda_host::here.block_size)
#define gridDim (cuda_host::here.grid_size)
#define warpSize 32

static inline void __syncthreads() { cuda_host::block_barrier(); }
static inline void __syncwarp(unsigned mask = 0xffffffffu) { cuda_host::warp_meet(cuda_host::WARP_BARRIER, mask, nullptr, nullptr); }
static inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

static inline int cuda_host_within(int from, int width) { return ((int)cuda_host::lane() & ~(width - 1)) | (from & (width - 1)); }

template <class T> T __shfl_sync(unsigned mask, T value, int from, int width = 32)
{
    return cuda_host::shuffled(mask, value, cuda_host_within(from, width));
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32)
{
    int me = (int)cuda_host::lane(), from = me ^ lanes;
    return cuda_host::shuffled(mask, value, from / width <= me / width ? from : me);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned lanes, int width = 32)
{
    int me = (int)cuda_host::lane(), from = me + (int)lanes;
    return cuda_host::shuffled(mask, value, from / width == me / width ? from : me);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned lanes, int width = 32)
{
    int me = (int)cuda_host::lane(), from = me - (int)lanes;
    return cuda_host::shuffled(mask, value, from >= (me & ~(width - 1)) ? from : me);
}
static inline unsigned __ballot_sync(unsigned mask, int is) { return cuda_host::ballot(mask, is != 0); }
static inline int __any_sync(unsigned mask, int is) { return cuda_host::ballot(mask, is != 0) != 0; }
static inline int __all_sync(unsigned mask, int is) { return cuda_host::ballot(mask, is == 0) == 0; }

/* Blocks run on several threads of the operating system. */
template <class T> T atomicAdd(T *at, T value)
{
    static_assert(std::is_integral<T>::value, "sums by atomics of floats have no fixed order");
    return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);
}
template <class T> T atomicExch(T *at, T value) { return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST); }
template <class T> T atomicOr(T *at, T value) { return __atomic_fetch_or(at, value, __ATOMIC_SEQ_CST); }
template <class T> T atomicCAS(T *at, T expected, T value)
{
    __atomic_compare_exchange_n(at, &expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return expected;
}
template <class T> T atomicMax(T *at, T value)
{
    T old = __atomic_load_n(at, __ATOMIC_SEQ_CST);
    while (old < value && !__atomic_compare_exchange_n(at, &old, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    return old;
}

template <class T> T __ldg(const T *at) { return *at; }
static inline unsigned __float_as_uint(float x) { unsigned y; memcpy(&y, &x, sizeof y); return y; }
static inline int __float_as_int(float x) { int y; memcpy(&y, &x, sizeof y); return y; }
static inline float __uint_as_float(unsigned x) { float y; memcpy(&y, &x, sizeof y); return y; }
static inline float __int_as_float(int x) { float y; memcpy(&y, &x, sizeof y); return y; }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((uint64_t)a * b) >> 32); }
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }

#endif
