#include "autograd/cuda/tune.h"

enum { WARM = 1, RUNS = 4 };
static const float WORTH = 0.97f; /* of the time: less is noise */

typedef struct timing {
    cuda_state    *s;
    cuda_candidate run;
    const void    *user;
    void          *scratch;
    cudaEvent_t    begin, end;
} timing;

static err capturing(bool *is, const cuda_state *s)
{
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    CUDA_TRY(cudaStreamIsCapturing(s->stream, &status));
    *is = status != cudaStreamCaptureStatusNone;
    return OK;
}

/* *milliseconds is 0 where the candidate cannot. */
static err time_one(float *milliseconds, const timing *t, int i)
{
    *milliseconds = 0.0f;
    for (int n = 0; n < WARM; n++)
        if (t->run(t->user, i, t->scratch))
            return OK;
    CUDA_TRY(cudaEventRecord(t->begin, t->s->stream));
    for (int n = 0; n < RUNS; n++)
        if (t->run(t->user, i, t->scratch))
            return OK;
    CUDA_TRY(cudaEventRecord(t->end, t->s->stream));
    CUDA_TRY(cudaEventSynchronize(t->end));
    CUDA_TRY(cudaEventElapsedTime(milliseconds, t->begin, t->end));
    return OK;
}

static err time_all(int *best, const timing *t, int count)
{
    float least = 0.0f;
    for (int i = 0; i < count; i++) {
        float took;
        TRY(time_one(&took, t, i));
        if (took > 0.0f && (!(least > 0.0f) || took < WORTH * least)) {
            least = took;
            *best = i;
        }
    }
    return OK;
}

static err with_events(int *best, timing *t, int count)
{
    CUDA_TRY(cudaEventCreate(&t->begin));
    CUDA_TRY(cudaEventCreate(&t->end));
    return time_all(best, t, count);
}

err cuda_fastest(int *best, cuda_state *s, cuda_candidate run, const void *user, int count, size_t bytes)
{
    timing t = {.s = s, .run = run, .user = user};
    bool   under_way = false;
    *best = 0;
    if (count < 2)
        return OK;
    TRY(capturing(&under_way, s));
    if (under_way)
        return OK;
    if (cudaMalloc(&t.scratch, bytes) != cudaSuccess) {
        cudaGetLastError();
        return OK;
    }
    err e = with_events(best, &t, count);
    if (t.begin)
        cudaEventDestroy(t.begin);
    if (t.end)
        cudaEventDestroy(t.end);
    cudaStreamSynchronize(s->stream);
    cudaFree(t.scratch);
    return e;
}
