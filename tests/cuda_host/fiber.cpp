#include "fiber.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <pthread.h>
#include <sys/mman.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define HAS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_SANITIZER 1
#endif
#endif
#if defined(HAS_SANITIZER)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_host {

/* ---- what AddressSanitizer has to know of: which stack the thread is on, and what may be read ---- */

#if defined(HAS_SANITIZER)

static thread_local fiber *arriving; /* whom the switch under way goes to */
static thread_local void  *own_stack; /* the thread's; not within a function, where shared.cpp takes them for kernels' */
static thread_local size_t own_bytes;

static void thread_stack(const void **stack, size_t *bytes)
{
    if (!own_stack) {
        pthread_attr_t attributes;
        if (pthread_getattr_np(pthread_self(), &attributes) != 0 || pthread_attr_getstack(&attributes, &own_stack, &own_bytes) != 0)
            abort();
        pthread_attr_destroy(&attributes);
    }
    *stack = own_stack;
    *bytes = own_bytes;
}

/* Around the switch itself; `kept` is the stack's own. */
static void before_switch(void **kept, fiber &to)
{
    const void *stack = to.stack;
    size_t      bytes = to.bytes;
    if (!to.stack)
        thread_stack(&stack, &bytes);
    arriving = &to;
    __sanitizer_start_switch_fiber(kept, stack, bytes);
}

static void after_switch(void *kept)
{
    __sanitizer_finish_switch_fiber(kept, nullptr, nullptr);
}

static void begin()
{
    after_switch(nullptr);
    arriving->entry();
}

void poison_for_sanitizer(const void *memory, size_t bytes)
{
    __asan_poison_memory_region(memory, bytes);
}

void unpoison_for_sanitizer(const void *memory, size_t bytes)
{
    __asan_unpoison_memory_region(memory, bytes);
}

#else

static void before_switch(void **, fiber &)
{
}

static void after_switch(void *)
{
}

void poison_for_sanitizer(const void *, size_t)
{
}

void unpoison_for_sanitizer(const void *, size_t)
{
}

#endif

/* What a fresh stack begins with; frames that were left on it for good are nobody's. */
static void (*first_of(fiber &f, void (*entry)()))()
{
    f.entry = entry;
    unpoison_for_sanitizer(f.stack, f.bytes);
#if defined(HAS_SANITIZER)
    return begin;
#else
    return entry;
#endif
}

enum { STACK_BYTES = 256 << 10, GUARD_BYTES = 4096 };

void allocate_stack(fiber &f)
{
    void *memory = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, GUARD_BYTES, PROT_NONE) != 0) {
        perror("cuda_host: stack of a fiber");
        abort();
    }
    f.stack = (char *)memory;
    f.bytes = STACK_BYTES;
    /* Kept as long as the process: what ends with a thread would be a leak. */
    static std::mutex            lock;
    static std::vector<fiber *> *all = new std::vector<fiber *>;
    std::lock_guard<std::mutex>  hold(lock);
    all->push_back(&f);
}

#if defined(__x86_64__)

/* The registers that a callee keeps, by the System V convention; rdi: where to save the stack pointer, rsi: the other. */
extern "C" void cuda_host_switch(void **save, void *load);
asm(".text\n"
    ".globl cuda_host_switch\n"
    ".type cuda_host_switch,@function\n"
    "cuda_host_switch:\n"
    "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
    "    ret\n"
    ".size cuda_host_switch,.-cuda_host_switch\n");

void prepare(fiber &f, void (*entry)())
{
    void **top = (void **)(((uintptr_t)f.stack + f.bytes) & ~(uintptr_t)15);
    *--top = nullptr; /* entry's return address, and its stack as the convention has it */
    *--top = (void *)first_of(f, entry);
    for (int i = 0; i < 6; i++)
        *--top = nullptr;
    f.at = top;
}

void switch_fiber(fiber &from, fiber &to)
{
    void *kept = nullptr;
    before_switch(&kept, to);
    cuda_host_switch(&from.at, to.at);
    after_switch(kept);
}

#else

void prepare(fiber &f, void (*entry)())
{
    getcontext(&f.at);
    f.at.uc_stack.ss_sp = f.stack;
    f.at.uc_stack.ss_size = f.bytes;
    f.at.uc_link = nullptr;
    makecontext(&f.at, first_of(f, entry), 0);
}

void switch_fiber(fiber &from, fiber &to)
{
    void *kept = nullptr;
    before_switch(&kept, to);
    swapcontext(&from.at, &to.at);
    after_switch(kept);
}

#endif

} // namespace cuda_host
