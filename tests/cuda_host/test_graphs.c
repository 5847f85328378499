/* Captures of the host layer, as strict as CUDA: nothing runs while a stream captures, what a capture cannot hold
 * makes it invalid, and a launched graph finds memory that was freed. Faults stay: each is met in a process of its
 * own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <cuda_runtime_api.h>

#include "autograd/cuda/kernels.h"

enum { COUNT = 256, BYTES = COUNT * (int)sizeof(float) };

typedef struct bench {
    cudaStream_t stream, other;
    cudaEvent_t  event, before; /* before: recorded outside of every capture */
    float       *pinned, *back, *on_card;
} bench;

#define DO(call) assert_int_equal(call, cudaSuccess)

static void bench_open(bench *b)
{
    void *memory;
    *b = (bench){0};
    DO(cudaStreamCreateWithFlags(&b->stream, cudaStreamNonBlocking));
    DO(cudaStreamCreateWithFlags(&b->other, cudaStreamNonBlocking));
    DO(cudaEventCreateWithFlags(&b->event, cudaEventDisableTiming));
    DO(cudaEventCreateWithFlags(&b->before, cudaEventDisableTiming));
    DO(cudaEventRecord(b->before, b->other));
    DO(cudaMallocHost(&memory, BYTES));
    b->pinned = memory;
    DO(cudaMallocHost(&memory, BYTES));
    b->back = memory;
    DO(cudaMalloc(&memory, BYTES));
    b->on_card = memory;
}

static void bench_close(bench *b)
{
    DO(cudaStreamSynchronize(b->stream));
    DO(cudaFree(b->on_card));
    DO(cudaFreeHost(b->pinned));
    DO(cudaFreeHost(b->back));
    DO(cudaEventDestroy(b->event));
    DO(cudaEventDestroy(b->before));
    DO(cudaStreamDestroy(b->stream));
    DO(cudaStreamDestroy(b->other));
}

static cudaError_t fill(bench *b, cudaStream_t stream, float value)
{
    cuda_walk w = {.ndim = 1, .dim = {COUNT}, .to = {1}};
    return cuda_fill_launch(b->on_card, CUDA_F32, &w, value, stream);
}

static cudaError_t up(bench *b)
{
    return cudaMemcpyAsync(b->on_card, b->pinned, BYTES, cudaMemcpyHostToDevice, b->stream);
}

static cudaError_t down(bench *b)
{
    return cudaMemcpyAsync(b->back, b->on_card, BYTES, cudaMemcpyDeviceToHost, b->stream);
}

static void begin(bench *b)
{
    DO(cudaStreamBeginCapture(b->stream, cudaStreamCaptureModeThreadLocal));
}

/* Up and down again. */
static cudaGraphExec_t round_trip(bench *b)
{
    cudaGraph_t     graph;
    cudaGraphExec_t made;
    begin(b);
    DO(up(b));
    DO(down(b));
    DO(cudaStreamEndCapture(b->stream, &graph));
    DO(cudaGraphInstantiate(&made, graph, 0));
    DO(cudaGraphDestroy(graph));
    return made;
}

static void contents_are_read_at_the_launch(void **state)
{
    (void)state;
    bench b;
    bench_open(&b);
    b.pinned[7] = 1;
    b.back[7] = 0;
    cudaGraphExec_t graph = round_trip(&b);
    DO(cudaStreamSynchronize(b.stream));
    assert_true(b.back[7] == 0); /* nothing was done */
    for (int i = 2; i < 4; i++) {
        b.pinned[7] = (float)i;
        DO(cudaGraphLaunch(graph, b.stream));
        DO(cudaStreamSynchronize(b.stream));
        assert_true(b.back[7] == (float)i);
    }
    DO(cudaGraphExecDestroy(graph));
    assert_int_not_equal(cudaGraphLaunch(graph, b.stream), cudaSuccess);
    bench_close(&b);
}

/* ---- what a capture cannot hold ---- */

static cudaError_t synchronize_stream(bench *b)
{
    return cudaStreamSynchronize(b->stream);
}

static cudaError_t synchronize_other(bench *b)
{
    return cudaStreamSynchronize(b->other);
}

static cudaError_t query_stream(bench *b)
{
    return cudaStreamQuery(b->stream);
}

static cudaError_t synchronize_device(bench *b)
{
    (void)b;
    return cudaDeviceSynchronize();
}

static cudaError_t synchronize_event(bench *b)
{
    return cudaEventSynchronize(b->before);
}

static cudaError_t query_event(bench *b)
{
    return cudaEventQuery(b->before);
}

static cudaError_t wait_for_outside(bench *b)
{
    return cudaStreamWaitEvent(b->stream, b->before, 0);
}

static cudaError_t allocate(bench *b)
{
    void *memory;
    (void)b;
    return cudaMalloc(&memory, 16);
}

static cudaError_t pin(bench *b)
{
    void *memory;
    (void)b;
    return cudaMallocHost(&memory, 16);
}

static cudaError_t release(bench *b)
{
    return cudaFree(b->on_card);
}

static cudaError_t copy_and_wait(bench *b)
{
    return cudaMemcpy(b->on_card, b->pinned, BYTES, cudaMemcpyHostToDevice);
}

static cudaError_t copy_pageable_up(bench *b)
{
    float pageable[COUNT] = {0};
    return cudaMemcpyAsync(b->on_card, pageable, BYTES, cudaMemcpyHostToDevice, b->stream);
}

static cudaError_t copy_pageable_down(bench *b)
{
    float pageable[COUNT];
    return cudaMemcpyAsync(pageable, b->on_card, BYTES, cudaMemcpyDeviceToHost, b->stream);
}

static cudaError_t default_stream(bench *b)
{
    return fill(b, NULL, 1);
}

static void captures_become_invalid(void **state)
{
    static cudaError_t (*const call[])(bench *b) = {
        synchronize_stream, synchronize_other, query_stream, synchronize_device, synchronize_event, query_event,
        wait_for_outside, allocate, pin, release, copy_and_wait, copy_pageable_up, copy_pageable_down, default_stream,
    };
    (void)state;
    bench b;
    bench_open(&b);
    for (size_t i = 0; i < sizeof call / sizeof *call; i++) {
        cudaGraph_t graph = NULL;
        begin(&b);
        DO(up(&b));
        if (call[i](&b) == cudaSuccess)
            fail_msg("call %zu went on while a stream captures", i);
        if (cudaStreamEndCapture(b.stream, &graph) == cudaSuccess || graph)
            fail_msg("call %zu left the capture valid", i);
        DO(up(&b)); /* the stream is as it was */
        DO(cudaStreamSynchronize(b.stream));
    }
    bench_close(&b);
}

/* ---- other streams ---- */

static void forks_have_to_join(void **state)
{
    (void)state;
    bench       b;
    cudaGraph_t graph = NULL;
    bench_open(&b);
    for (int joined = 0; joined < 2; joined++) {
        begin(&b);
        DO(fill(&b, b.stream, 1));
        DO(cudaEventRecord(b.event, b.stream));
        DO(cudaStreamWaitEvent(b.other, b.event, 0));
        DO(fill(&b, b.other, 2));
        if (joined) {
            DO(cudaEventRecord(b.event, b.other));
            DO(cudaStreamWaitEvent(b.stream, b.event, 0));
            DO(down(&b));
        }
        assert_int_equal(cudaStreamEndCapture(b.stream, &graph) == cudaSuccess, joined);
    }
    cudaGraphExec_t made;
    DO(cudaGraphInstantiate(&made, graph, 0));
    DO(cudaGraphDestroy(graph));
    DO(cudaGraphLaunch(made, b.stream));
    DO(cudaStreamSynchronize(b.stream));
    assert_true(b.back[COUNT - 1] == 2);
    DO(cudaGraphExecDestroy(made));
    bench_close(&b);
}

/* ---- freed memory ---- */

static void free_card(bench *b)
{
    DO(cudaFree(b->on_card));
}

static void free_pinned(bench *b)
{
    DO(cudaFreeHost(b->pinned));
}

static void keep(bench *b)
{
    (void)b;
}

/* 0: the launch went well. */
static int launch_after(void (*change)(bench *b), bool kernel)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bench           b;
        cudaGraph_t     graph;
        cudaGraphExec_t made;
        bench_open(&b);
        begin(&b);
        DO(kernel ? fill(&b, b.stream, 1) : up(&b));
        DO(cudaStreamEndCapture(b.stream, &graph));
        DO(cudaGraphInstantiate(&made, graph, 0));
        change(&b);
        cudaError_t e = cudaGraphLaunch(made, b.stream);
        if (e == cudaSuccess)
            e = cudaStreamSynchronize(b.stream);
        _exit(e == cudaSuccess ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void freed_memory_is_found(void **state)
{
    (void)state;
    for (int kernel = 0; kernel < 2; kernel++) {
        assert_int_equal(launch_after(keep, kernel), 0);
        assert_int_not_equal(launch_after(free_card, kernel), 0);
    }
    assert_int_not_equal(launch_after(free_pinned, false), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(freed_memory_is_found), cmocka_unit_test(contents_are_read_at_the_launch),
        cmocka_unit_test(captures_become_invalid), cmocka_unit_test(forks_have_to_join),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
