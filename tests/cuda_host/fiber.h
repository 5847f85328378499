/* Stacks that a thread of the operating system switches between. */
#ifndef CUDA_HOST_FIBER_H
#define CUDA_HOST_FIBER_H

#include <cstddef>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace cuda_host {

struct fiber {
#if defined(__x86_64__)
    void *at = nullptr; /* saved stack pointer */
#else
    ucontext_t at;
#endif
    char  *stack = nullptr; /* NULL: the thread's own */
    size_t bytes = 0;
    void (*entry)() = nullptr;
};

/* Makes the next switch to `f` call entry(), which never returns. */
void prepare(fiber &f, void (*entry)());
void switch_fiber(fiber &from, fiber &to);
void allocate_stack(fiber &f);

/* Memory that only AddressSanitizer, where there is one, is to take for unreadable, or not any more. */
void poison_for_sanitizer(const void *memory, size_t bytes);
void unpoison_for_sanitizer(const void *memory, size_t bytes);

} // namespace cuda_host

#endif
