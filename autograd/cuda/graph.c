/* Steps as CUDA graphs: the stream's work is captured, and launched as one. Everything that a kernel reads as an
 * argument is kept with it: addresses and numbers; what changes comes from pinned memory by copies that are part of
 * the graph. */
#include <stdlib.h>

#include "autograd/cuda/cuda.h"

enum { SPARE = 16 }; /* so much of the card has to be free, as a part of 1 */

struct captured {
    cudaGraphExec_t graph;
};

static err pin(device *d, void **out, size_t bytes)
{
    (void)d;
    return cuda_pinned_get(out, bytes);
}

static void unpin(device *d, void *memory)
{
    (void)d;
    cudaFreeHost(memory);
}

/* A graph takes memory that no plan foresees: some kilobytes for each kernel in it. The last of the card's is not its.
 * */
static err has_room(void)
{
    size_t have = 0, all = 0;
    CUDA_TRY(cudaMemGetInfo(&have, &all));
    if (have >= all / SPARE)
        return OK;
    return err_set(E_MEMORY, "cuda: %zu of the card's %zu MiB are free, and graphs are made while %zu are", have >> 20,
                   all >> 20, all / SPARE >> 20);
}

/* What other threads do meanwhile is theirs. */
static err begin(device *d)
{
    TRY(has_room());
    CUDA_TRY(cudaStreamBeginCapture(cuda_stream_of(d), cudaStreamCaptureModeThreadLocal));
    return OK;
}

static void drop(device *d, captured *c)
{
    (void)d;
    if (c)
        cudaGraphExecDestroy(c->graph);
    free(c);
}

static err upload_graph(const captured *c, cudaStream_t stream)
{
    CUDA_TRY(cudaGraphUpload(c->graph, stream));
    return OK;
}

/* With all that it needs on the card, so that it is now that there is too little memory, and not at a launch. */
static err instantiate(captured **out, device *d, cudaGraph_t graph)
{
    cudaGraphExec_t made = NULL;
    CUDA_TRY(cudaGraphInstantiate(&made, graph, 0));
    captured *c = heap_get(sizeof *c);
    *c = (captured){made};
    err e = upload_graph(c, cuda_stream_of(d));
    if (e == OK)
        *out = c;
    else
        drop(d, c);
    return e;
}

static err end(device *d, captured **out)
{
    cudaGraph_t graph = NULL;
    *out = NULL;
    CUDA_TRY(cudaStreamEndCapture(cuda_stream_of(d), &graph));
    err e = instantiate(out, d, graph);
    cudaGraphDestroy(graph);
    return e;
}

static err launch(device *d, captured *c)
{
    CUDA_TRY(cudaGraphLaunch(c->graph, cuda_stream_of(d)));
    return OK;
}

const struct capture cuda_capture = {
    .pin = pin, .unpin = unpin, .upload = cuda_upload_pinned, .download = cuda_download_pinned,
    .begin = begin, .end = end, .launch = launch, .drop = drop, .wait = cuda_wait,
};
