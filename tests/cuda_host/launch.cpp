/* Kernels on the stream: their blocks in random order over the threads of the operating system, shared variables
 * poisoned before each. */
#include "block.h"
#include "host.h"
#include "shared.h"

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace cuda_host {

namespace {

const uint64_t SMALL = 4096; /* threads of a launch that one thread of the operating system runs faster than two */

unsigned worker_count()
{
    static const unsigned n = (unsigned)atoi(setting("MSD_CUDA_HOST_THREADS", "0"));
    unsigned              all = n ? n : std::thread::hardware_concurrency();
    return all ? all : 1;
}

uint64_t greatest_divisor(uint64_t a, uint64_t b)
{
    return b ? greatest_divisor(b, a % b) : a;
}

uint64_t launch_number()
{
    static std::atomic<uint64_t> n{0};
    return n++;
}

/* Blocks in the order first + i * step, for as many threads as call it. */
struct launch_work {
    const kernel_call    &call;
    std::vector<variable> shared;
    uint64_t              blocks, step, first, seed;
    std::atomic<uint64_t> next{0};
    std::mutex            lock{};
    std::string           wrong{};

    void run()
    {
        device_access access;
        for (uint64_t i; (i = next++) < blocks;) {
            uint64_t b = (first + i * step) % blocks;
            uint3    index = {(unsigned)(b % call.grid.x), (unsigned)(b / call.grid.x % call.grid.y),
                              (unsigned)(b / call.grid.x / call.grid.y)};
            poison(shared);
            std::string why = run_block(call, index, seed ^ (b + 1) * 0x9e3779b97f4a7c15u);
            if (why.empty())
                continue;
            std::lock_guard<std::mutex> hold(lock);
            if (wrong.empty())
                wrong = "block (" + std::to_string(index.x) + "," + std::to_string(index.y) + "," + std::to_string(index.z) + "): " + why;
            next = blocks;
        }
    }
};

/* Threads that stay, since each has stacks for the fibers of a block; they sleep between launches. */
struct helpers {
    std::mutex              lock{};
    std::condition_variable come{}, gone{};
    launch_work            *work = nullptr;
    uint64_t                turn = 0;
    unsigned                count = 0, busy = 0;

    void live()
    {
        std::unique_lock<std::mutex> hold(lock);
        for (uint64_t seen = 0;;) {
            come.wait(hold, [&] { return turn != seen; });
            seen = turn;
            launch_work *now = work;
            hold.unlock();
            now->run();
            hold.lock();
            if (--busy == 0)
                gone.notify_one();
        }
    }

    void run(launch_work &with)
    {
        std::unique_lock<std::mutex> hold(lock);
        for (; count + 1 < worker_count(); count++)
            std::thread(&helpers::live, this).detach();
        work = &with;
        busy = count;
        turn++;
        hold.unlock();
        come.notify_all();
        with.run();
        hold.lock();
        gone.wait(hold, [&] { return busy == 0; });
    }
};

cudaError_t run_kernel(const kernel_call &call)
{
    uint64_t    seed = (uint64_t)strtoull(setting("MSD_CUDA_HOST_SEED", "1"), nullptr, 10) * 0x2545f4914f6cdd1du + launch_number();
    uint64_t    blocks = (uint64_t)call.grid.x * call.grid.y * call.grid.z, step = random_bits(&seed) % blocks + 1;
    while (greatest_divisor(step, blocks) != 1)
        step++;
    count("ran kernel");
    launch_work work = {call, shared_variables(call.kernel), blocks, step, random_bits(&seed) % blocks, random_bits(&seed)};
    uint64_t    threads = blocks * call.block.x * call.block.y * call.block.z;
    static helpers *others = new helpers; /* of whom runs a stream's work, which is one thread at a time */
    if (blocks > 1 && threads > SMALL && worker_count() > 1)
        others->run(work);
    else
        work.run();
    if (work.wrong.empty())
        return cudaSuccess;
    bool touches = work.wrong.find("touches") != std::string::npos, misaligned = work.wrong.find("not on as many") != std::string::npos;
    return fault(misaligned ? cudaErrorMisalignedAddress : touches ? cudaErrorIllegalAddress : cudaErrorLaunchFailure,
                 "kernel %s: %s", kernel_name(call.kernel).c_str(), work.wrong.c_str());
}

/* A word of the arguments that is the address of memory of the host: on a GPU, a fault when it is read. */
const void *host_pointer(const kernel_call &call)
{
    const uintptr_t *words = (const uintptr_t *)call.arguments.get();
    for (size_t i = 0; i < call.argument_bytes / sizeof *words; i++) {
        void *page = (void *)(words[i] & ~(uintptr_t)4095);
        if (words[i] < (uintptr_t)1 << 44 || words[i] >> 47 || in_device_range(page))
            continue;
        unsigned char present;
        if (!is_pinned((void *)words[i], 1) && mincore(page, 1, &present) == 0)
            return (const void *)words[i];
    }
    return nullptr;
}

} // namespace

cudaError_t launch(const kernel_call &call, size_t shared_bytes, cudaStream_t stream)
{
    if (cudaError_t e = begin_call("cudaLaunchKernel"))
        return e;
    uint64_t threads = (uint64_t)call.block.x * call.block.y * call.block.z;
    uint64_t blocks = (uint64_t)call.grid.x * call.grid.y * call.grid.z;
    if (threads == 0 || threads > 1024 || call.block.z > 64 || blocks == 0 || call.grid.x > 0x7fffffffu || call.grid.y > 65535 || call.grid.z > 65535)
        return refuse(cudaErrorInvalidConfiguration, "kernel %s: grid (%u,%u,%u) of blocks (%u,%u,%u)",
                      kernel_name(call.kernel).c_str(), call.grid.x, call.grid.y, call.grid.z, call.block.x, call.block.y, call.block.z);
    size_t bytes = shared_bytes;
    for (const variable &v : shared_variables(call.kernel))
        bytes += v.bytes;
    if (shared_bytes > 0 || bytes > 48 << 10)
        return refuse(cudaErrorInvalidValue, "kernel %s: %zu bytes of shared memory (%zu of them dynamic, which is not known here); a block has 49152",
                      kernel_name(call.kernel).c_str(), bytes, shared_bytes);
    if (const void *bad = host_pointer(call))
        return fault(cudaErrorIllegalAddress, "kernel %s: an argument points to memory of the host, %p",
                     kernel_name(call.kernel).c_str(), bad);
    count("launches");
    count("launches of " + kernel_name(call.kernel));
    trace(kernel_name(call.kernel).c_str());
    return enqueue(stream, "kernel", [call] { return run_kernel(call); });
}

} // namespace cuda_host
