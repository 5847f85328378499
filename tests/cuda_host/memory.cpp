/* Device memory: a reserved range of addresses, of which each allocation gets pages of its own, ending with the last of
 * them; what is between is poisoned and looked at when work has run. Freed pages cannot be read, and no address is
 * given out twice. Where the processor has protection keys the host cannot touch any of it. */
#include "block.h"
#include "fiber.h"
#include "host.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

namespace cuda_host {

namespace {

const size_t RANGE = (size_t)4 << 40, PAGE = 4096, UNIT = 256;

struct allocation {
    size_t bytes, before, after; /* poisoned gaps within the pages */
    bool   freed;
};

struct memory_state {
    std::mutex                      lock;
    char                           *base = nullptr;
    size_t                          used_range = 0, used = 0;
    int                             key = -1;
    std::map<uintptr_t, allocation> all;
    std::map<uintptr_t, size_t>     pinned;
};

memory_state &state()
{
    static memory_state *m = new memory_state;
    return *m;
}

thread_local int       access_depth;
thread_local int       fault_signal;
thread_local uintptr_t faulting;

void after_fault()
{
    char line[300];
    if (fault_signal == SIGILL) /* kernels are compiled so that a misaligned access is one */
        abandon_block("touches memory that lies not on as many bytes as its type needs");
    snprintf(line, sizeof line, "touches %p: %s", (void *)faulting, describe((const void *)faulting).c_str());
    abandon_block(line);
}

/* A kernel's fault ends the kernel; the host's is said and stays one. */
void on_fault(int number, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)info->si_addr;
#if defined(__x86_64__)
    if (in_kernel()) {
        ucontext_t *u = (ucontext_t *)context;
        faulting = at;
        fault_signal = number;
        u->uc_mcontext.gregs[REG_RSP] = (greg_t)((((uintptr_t)u->uc_mcontext.gregs[REG_RSP] - 512) & ~(uintptr_t)15) - 8);
        u->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)after_fault;
        return;
    }
#else
    (void)context;
#endif
    if (in_device_range((const void *)at) || in_kernel()) {
        static const char line[] = "cuda_host: the host touches device memory\n";
        ssize_t           written = write(2, line, sizeof line - 1);
        (void)written;
    }
    signal(number, SIG_DFL);
}

void reserve(memory_state &m)
{
    if (m.base)
        return;
    void *base = mmap(nullptr, RANGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        perror("cuda_host: addresses for device memory");
        abort();
    }
    m.base = (char *)base;
    m.key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
    sigaction(SIGILL, &action, nullptr);
}

size_t total_bytes()
{
    return (size_t)atoll(setting("MSD_CUDA_HOST_MEMORY", "16384")) << 20;
}

/* The allocation at or before `memory`, all.end() if none. */
std::map<uintptr_t, allocation>::iterator nearest(memory_state &m, const void *memory)
{
    auto it = m.all.upper_bound((uintptr_t)memory);
    return it == m.all.begin() ? m.all.end() : --it;
}

bool all_poison(const void *memory, size_t bytes)
{
    const unsigned char *p = (const unsigned char *)memory;
    return bytes == 0 || (p[0] == POISON && memcmp(p, p + 1, bytes - 1) == 0);
}

/* AddressSanitizer, where there is one, also sees what reads there. */
void hide_gaps(uintptr_t at, const allocation &a)
{
    poison_for_sanitizer((const char *)at - a.before, a.before);
    poison_for_sanitizer((const char *)at + a.bytes, a.after);
}

void show_gaps(uintptr_t at, const allocation &a)
{
    unpoison_for_sanitizer((const char *)at - a.before, a.before + a.bytes + a.after);
}

bool gaps_hold(uintptr_t at, const allocation &a)
{
    show_gaps(at, a);
    bool hold = all_poison((const char *)at - a.before, a.before) && all_poison((const char *)at + a.bytes, a.after);
    hide_gaps(at, a);
    return hold;
}

} // namespace

device_access::device_access()
{
    if (access_depth++ == 0 && state().key >= 0)
        pkey_set(state().key, 0);
}

device_access::~device_access()
{
    if (--access_depth == 0 && state().key >= 0)
        pkey_set(state().key, PKEY_DISABLE_ACCESS);
}

bool in_device_range(const void *memory)
{
    const char *base = state().base;
    return base && (const char *)memory >= base && (const char *)memory < base + RANGE;
}

bool on_device(const void *memory, size_t bytes)
{
    memory_state               &m = state();
    std::lock_guard<std::mutex> hold(m.lock);
    auto                        it = nearest(m, memory);
    return it != m.all.end() && !it->second.freed && (uintptr_t)memory + bytes <= it->first + it->second.bytes;
}

bool is_pinned(const void *memory, size_t bytes)
{
    memory_state               &m = state();
    std::lock_guard<std::mutex> hold(m.lock);
    auto                        it = m.pinned.upper_bound((uintptr_t)memory);
    return it != m.pinned.begin() && (uintptr_t)memory + bytes <= (--it)->first + it->second;
}

std::string describe(const void *memory)
{
    memory_state               &m = state();
    std::lock_guard<std::mutex> hold(m.lock);
    if (!in_device_range(memory))
        return "host memory or none";
    auto it = nearest(m, memory);
    if (it == m.all.end())
        return "before every allocation of the device";
    char   line[120];
    size_t offset = (uintptr_t)memory - it->first;
    if (offset < it->second.bytes)
        snprintf(line, sizeof line, "byte %zu of an allocation of %zu%s", offset, it->second.bytes,
                 it->second.freed ? " that was freed" : "");
    else
        snprintf(line, sizeof line, "%zu bytes behind the end of an allocation of %zu", offset - it->second.bytes,
                 it->second.bytes);
    return line;
}

cudaError_t check_gaps(const char *what)
{
    memory_state               &m = state();
    std::lock_guard<std::mutex> hold(m.lock);
    device_access               access;
    for (auto &[at, a] : m.all) {
        if (a.freed || gaps_hold(at, a))
            continue;
        show_gaps(at, a);
        memset((char *)at - a.before, POISON, a.before);
        memset((char *)at + a.bytes, POISON, a.after);
        hide_gaps(at, a);
        return fault(cudaErrorIllegalAddress, "%s: something wrote outside an allocation of %zu bytes", what, a.bytes);
    }
    return cudaSuccess;
}

} // namespace cuda_host

using namespace cuda_host;

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    if (cudaError_t e = begin_call("cudaMalloc"))
        return e;
    if (!out)
        return refuse(cudaErrorInvalidValue, "cudaMalloc: no place for the pointer");
    *out = nullptr;
    if (cudaError_t e = not_while_capturing("cudaMalloc"))
        return e;
    if (bytes == 0)
        return cudaSuccess;
    memory_state               &m = state();
    std::lock_guard<std::mutex> hold(m.lock);
    reserve(m);
    if (bytes > total_bytes() - m.used)
        return refuse(cudaErrorMemoryAllocation, "cudaMalloc: %zu bytes asked for, %zu free", bytes, total_bytes() - m.used);
    size_t rounded = (bytes + UNIT - 1) / UNIT * UNIT, pages = (rounded + PAGE - 1) / PAGE * PAGE;
    if (m.used_range + pages + PAGE > RANGE)
        return refuse(cudaErrorMemoryAllocation, "cudaMalloc: all addresses have been used");
    char *first = m.base + m.used_range;
    m.used_range += pages + PAGE;
    int failed = m.key >= 0 ? pkey_mprotect(first, pages, PROT_READ | PROT_WRITE, m.key)
                            : mprotect(first, pages, PROT_READ | PROT_WRITE);
    if (failed) {
        perror("cuda_host: mprotect");
        return refuse(cudaErrorMemoryAllocation, "cudaMalloc: the host gives no pages");
    }
    device_access access;
    memset(first, POISON, pages);
    char *at = first + (pages - rounded);
    m.all[(uintptr_t)at] = allocation{bytes, pages - rounded, rounded - bytes, false};
    hide_gaps((uintptr_t)at, m.all[(uintptr_t)at]);
    m.used += pages;
    *out = at;
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    if (cudaError_t e = begin_call("cudaFree"))
        return e;
    if (!memory)
        return cudaSuccess;
    if (cudaError_t e = not_while_capturing("cudaFree"))
        return e;
    if (cudaError_t e = run_everything()) /* as the device does, before the memory is another's */
        return e;
    memory_state                &m = state();
    std::unique_lock<std::mutex> hold(m.lock);
    auto                         it = m.all.find((uintptr_t)memory);
    if (it == m.all.end() || it->second.freed) {
        bool twice = it != m.all.end();
        hold.unlock();
        return refuse(cudaErrorInvalidValue, "cudaFree: %p is %s", memory,
                      twice ? "free already" : describe(memory).c_str());
    }
    allocation &a = it->second;
    bool        held = true;
    {
        device_access access;
        held = gaps_hold(it->first, a);
    }
    char  *first = (char *)it->first - a.before;
    size_t pages = a.before + a.bytes + a.after;
    show_gaps(it->first, a);
    if (mmap(first, pages, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != first) /* merges with its neighbours */
        mprotect(first, pages, PROT_NONE);
    a.freed = true;
    m.used -= pages;
    hold.unlock();
    return held ? cudaSuccess
                : fault(cudaErrorIllegalAddress, "cudaFree: something wrote outside an allocation of %zu bytes", a.bytes);
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned)
{
    if (cudaError_t e = begin_call("cudaHostAlloc"))
        return e;
    if (cudaError_t e = not_while_capturing("cudaHostAlloc"))
        return e;
    memory_state               &m = state();
    std::lock_guard<std::mutex> hold(m.lock);
    reserve(m);
    *out = nullptr;
    size_t rounded = (bytes + PAGE - 1) / PAGE * PAGE;
    if (bytes == 0)
        return cudaSuccess;
    if (!(*out = aligned_alloc(PAGE, rounded)))
        return refuse(cudaErrorMemoryAllocation, "cudaHostAlloc: no %zu bytes", bytes);
    memset(*out, POISON, rounded);
    m.pinned[(uintptr_t)*out] = bytes;
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **out, size_t bytes)
{
    return cudaHostAlloc(out, bytes, 0);
}

cudaError_t cudaFreeHost(void *memory)
{
    if (cudaError_t e = begin_call("cudaFreeHost"))
        return e;
    if (!memory)
        return cudaSuccess;
    if (cudaError_t e = run_everything())
        return e;
    memory_state               &m = state();
    std::lock_guard<std::mutex> hold(m.lock);
    if (m.pinned.erase((uintptr_t)memory) == 0)
        return refuse(cudaErrorInvalidValue, "cudaFreeHost: %p was not allocated by cudaHostAlloc", memory);
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    if (cudaError_t e = begin_call("cudaMemGetInfo"))
        return e;
    memory_state               &m = state();
    std::lock_guard<std::mutex> hold(m.lock);
    *total = total_bytes();
    *free_bytes = *total - m.used;
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *memory)
{
    if (cudaError_t e = begin_call("cudaPointerGetAttributes"))
        return e;
    bool device = on_device(memory, 1), host = is_pinned(memory, 1);
    *attributes = {};
    attributes->type = device ? cudaMemoryTypeDevice : host ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    attributes->device = device || host ? 0 : -1;
    attributes->devicePointer = device || host ? (void *)memory : nullptr;
    attributes->hostPointer = device ? nullptr : (void *)memory;
    return cudaSuccess;
}
