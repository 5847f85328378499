/* Threads of a block as fibers. A thread that meets no barrier runs straight through; one that waits hands over to a
 * thread not yet begun, on a fresh stack, or to one that may go on, whichever the seed says. */
#include "block.h"
#include "fiber.h"
#include "host.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace cuda_host {

__thread place here = {};

namespace {

enum state : uint8_t { WAITS_BLOCK = 1, WAITS_WARP, READY, RUNS, DONE };

struct thread_state {
    uint3          at;
    fiber         *on;
    state          is;
    warp_operation operation;
    unsigned       mask;
    void          *operand;
};

struct scheduler {
    const kernel_call        *call = nullptr;
    std::vector<thread_state> threads;
    std::vector<unsigned>     order, ready, met; /* met: of each warp, lanes that wait for others of it */
    std::vector<fiber *>      stacks, idle; /* all; those of no thread */
    fiber                     main;
    fiber                    *now = nullptr;
    unsigned                  size = 0, next = 0, current = 0, done = 0, at_barrier = 0;
    uint64_t                  seed = 1;
    std::string               wrong;
    unsigned                  first_woken = 0; /* at a barrier */
    bool                      running = false, skewed = false;
};

thread_local scheduler owned;
__thread scheduler    *of_thread; /* owned, found without a look at whether it is made */

void fiber_main();

[[noreturn]] void leave(const std::string &why)
{
    scheduler &s = *of_thread;
    s.wrong = why;
    fiber *from = s.now;
    switch_fiber(*from, s.main);
    abort(); /* not reached: run_block prepares the stacks anew */
}

void place_thread(unsigned t)
{
    scheduler &s = *of_thread;
    s.current = t;
    s.threads[t].is = RUNS;
    here.thread = s.threads[t].at;
}

fiber *idle_stack()
{
    scheduler &s = *of_thread;
    if (s.idle.empty()) {
        fiber *f = new fiber;
        allocate_stack(*f);
        prepare(*f, fiber_main);
        s.stacks.push_back(f);
        return f;
    }
    fiber *f = s.idle.back();
    s.idle.pop_back();
    return f;
}

void go(fiber *to)
{
    scheduler &s = *of_thread;
    fiber *from = s.now;
    s.now = to;
    if (from != to)
        switch_fiber(*from, *to);
}

std::string deadlock()
{
    scheduler &s = *of_thread;
    char     line[200];
    unsigned warp = 0;
    for (const thread_state &t : s.threads)
        warp += t.is == WAITS_WARP;
    snprintf(line, sizeof line, "%u of %u threads wait at __syncthreads and %u for lanes of their warp, %u have returned: none can go on",
             s.at_barrier, s.size, warp, s.done);
    return line;
}

/* Switches to a thread that may go on: any, or, in every other block, one that was woken last, so that one warp runs as far
 * ahead of the others as the barriers let it. */
void go_on()
{
    scheduler &s = *of_thread;
    size_t     i = s.skewed ? s.ready.size() - 1 : random_bits(&s.seed) % s.ready.size();
    unsigned   t = s.ready[i];
    s.ready[i] = s.ready.back();
    s.ready.pop_back();
    place_thread(t);
    go(s.threads[t].on);
}

/* Goes on with another thread; the current one waits. */
void hand_over()
{
    scheduler &s = *of_thread;
    bool fresh = s.next < s.size, some = !s.ready.empty();
    if (!fresh && !some)
        leave(deadlock());
    if (fresh && (!some || random_bits(&s.seed) & 1)) {
        go(idle_stack());
        return;
    }
    go_on();
}

/* A stack's life: threads one after another, until none is left to begin; then it goes to the idle ones. */
void fiber_main()
{
    scheduler &s = *of_thread;
    for (;;) {
        while (s.next < s.size) {
            unsigned t = s.order[s.next++];
            place_thread(t);
            s.threads[t].on = s.now;
            s.call->run(s.call->kernel, s.call->arguments.get());
            s.threads[s.current].is = DONE;
            s.done++;
            if (s.at_barrier > 0)
                leave("a thread returned while others wait at __syncthreads");
            if (!s.ready.empty() && random_bits(&s.seed) & 1)
                break;
        }
        if (s.done == s.size) {
            s.idle.push_back(s.now);
            switch_fiber(*s.now, s.main);
            continue;
        }
        if (s.ready.empty())
            leave(deadlock());
        s.idle.push_back(s.now);
        go_on();
    }
}

void wake(unsigned t)
{
    scheduler &s = *of_thread;
    s.threads[t].is = READY;
    s.ready.push_back(t);
}

} // namespace

bool in_kernel()
{
    return of_thread && of_thread->running;
}

void abandon_block(const std::string &why)
{
    leave(why);
}

void kernel_error(const char *format, ...)
{
    char    line[400];
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    leave(line);
}

unsigned lane()
{
    scheduler &s = *of_thread;
    return s.current % 32;
}

void block_barrier()
{
    scheduler &s = *of_thread;
    if (s.done > 0)
        leave("__syncthreads after a thread of the block has returned");
    unsigned me = s.current;
    s.threads[me].is = WAITS_BLOCK;
    s.at_barrier++;
    if (s.at_barrier < s.size) {
        hand_over();
        return;
    }
    s.at_barrier = 0;
    for (unsigned k = 0; k < s.size; k++)
        wake((s.first_woken + k) % s.size);
    hand_over();
}

void warp_meet(warp_operation operation, unsigned mask, void *operand, void (*act)(void *const operands[32], unsigned mask))
{
    scheduler &s = *of_thread;
    unsigned me = s.current, first = me & ~31u, lanes = s.size - first < 32 ? s.size - first : 32;
    if (lanes < 32)
        mask &= (1u << lanes) - 1;
    if (!(mask >> (me - first) & 1))
        leave("the mask of a warp's operation lacks the lane that calls it");
    thread_state *warp = &s.threads[first];
    warp[me - first].is = WAITS_WARP;
    warp[me - first].operation = operation;
    warp[me - first].mask = mask;
    warp[me - first].operand = operand;
    if (++s.met[me / 32] < (unsigned)__builtin_popcount(mask)) { /* who meets whom is looked at when all can have come */
        hand_over();
        return;
    }
    void    *operands[32] = {};
    unsigned came = 0;
    for (unsigned l = 0; l < lanes; l++) {
        if (!(mask >> l & 1))
            continue;
        if (warp[l].is == DONE)
            leave("a warp's operation names a lane that has returned");
        if (warp[l].is != WAITS_WARP)
            continue;
        if (warp[l].mask != mask || warp[l].operation != operation)
            leave("lanes of a warp meet in different operations or with different masks");
        operands[l] = warp[l].operand;
        came |= 1u << l;
    }
    if (came == mask) {
        if (act)
            act(operands, mask);
        s.met[me / 32] -= (unsigned)__builtin_popcount(mask);
        for (unsigned l = 0; l < lanes; l++)
            if (mask >> l & 1)
                wake(first + l);
    }
    hand_over();
}

void shuffle_act(void *const operands[32], unsigned mask)
{
    for (int l = 0; l < 32; l++) {
        if (!operands[l])
            continue;
        shuffle *to = (shuffle *)operands[l];
        bool     there = to->from >= 0 && to->from < 32 && (mask >> to->from & 1);
        if (there)
            memcpy(to->result, ((const shuffle *)operands[to->from])->value, (size_t)to->size);
        else
            memset(to->result, POISON, sizeof to->result);
    }
}

void vote_act(void *const operands[32], unsigned)
{
    unsigned ballot = 0;
    for (int l = 0; l < 32; l++)
        ballot |= operands[l] && ((const vote *)operands[l])->is ? 1u << l : 0;
    for (int l = 0; l < 32; l++)
        if (operands[l])
            ((vote *)operands[l])->ballot = ballot;
}

std::string run_block(const kernel_call &call, uint3 index, uint64_t seed)
{
    scheduler &s = owned;
    of_thread = &s;
    dim3 size = call.block;
    s.size = size.x * size.y * size.z;
    s.threads.resize(s.size);
    s.order.resize(s.size);
    s.call = &call;
    s.seed = seed;
    for (unsigned i = 0; i < s.size; i++) {
        s.threads[i].at = uint3{i % size.x, i / size.x % size.y, i / (size.x * size.y)};
        s.threads[i].is = READY;
        unsigned j = (unsigned)(random_bits(&s.seed) % (i + 1));
        s.order[i] = s.order[j];
        s.order[j] = i;
    }
    s.met.assign((s.size + 31) / 32, 0);
    s.skewed = random_bits(&s.seed) & 1;
    s.first_woken = (unsigned)(random_bits(&s.seed) % s.met.size()) * 32;
    s.next = s.done = s.at_barrier = 0;
    s.ready.clear();
    s.wrong.clear();
    here.block = index;
    here.block_size = size;
    here.grid_size = call.grid;
    s.now = idle_stack();
    s.running = true;
    switch_fiber(s.main, *s.now);
    s.running = false;
    if (!s.wrong.empty()) {
        s.idle = s.stacks;
        for (fiber *f : s.stacks)
            prepare(*f, fiber_main);
    }
    return s.wrong;
}

} // namespace cuda_host
