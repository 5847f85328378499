#include "fiber.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

namespace cuda_host {

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
    *--top = (void *)entry;
    for (int i = 0; i < 6; i++)
        *--top = nullptr;
    f.at = top;
}

void switch_fiber(fiber &from, fiber &to)
{
    cuda_host_switch(&from.at, to.at);
}

#else

void prepare(fiber &f, void (*entry)())
{
    getcontext(&f.at);
    f.at.uc_stack.ss_sp = f.stack;
    f.at.uc_stack.ss_size = f.bytes;
    f.at.uc_link = nullptr;
    makecontext(&f.at, entry, 0);
}

void switch_fiber(fiber &from, fiber &to)
{
    swapcontext(&from.at, &to.at);
}

#endif

} // namespace cuda_host
