/* Steps as CUDA graphs: the stream's work is captured, and launched as one. Everything that a kernel reads as an
 * argument is kept with it: addresses and numbers; what changes comes from pinned memory by copies that are part of
 * the graph. */
#include <stdlib.h>

#include "autograd/cuda/cuda.h"

struct captured {
    cudaGraphExec_t graph;
};

static err pin(device *d, void **out, size_t bytes)
{
    (void)d;
    CUDA_TRY(cudaMallocHost(out, bytes));
    return OK;
}

static void unpin(device *d, void *memory)
{
    (void)d;
    cudaFreeHost(memory);
}

/* What other threads do meanwhile is theirs. */
static err begin(device *d)
{
    CUDA_TRY(cudaStreamBeginCapture(cuda_stream_of(d), cudaStreamCaptureModeThreadLocal));
    return OK;
}

static err instantiate(captured **out, cudaGraph_t graph)
{
    cudaGraphExec_t made = NULL;
    CUDA_TRY(cudaGraphInstantiate(&made, graph, 0));
    *out = heap_get(sizeof **out);
    **out = (captured){made};
    return OK;
}

static err end(device *d, captured **out)
{
    cudaGraph_t graph = NULL;
    *out = NULL;
    CUDA_TRY(cudaStreamEndCapture(cuda_stream_of(d), &graph));
    err e = instantiate(out, graph);
    cudaGraphDestroy(graph);
    return e;
}

static err launch(device *d, captured *c)
{
    CUDA_TRY(cudaGraphLaunch(c->graph, cuda_stream_of(d)));
    return OK;
}

static void drop(device *d, captured *c)
{
    (void)d;
    if (c)
        cudaGraphExecDestroy(c->graph);
    free(c);
}

const struct capture cuda_capture = {
    .pin = pin, .unpin = unpin, .upload = cuda_upload_pinned, .download = cuda_download_pinned,
    .begin = begin, .end = end, .launch = launch, .drop = drop, .wait = cuda_wait,
};
