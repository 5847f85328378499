/* Streams, events and graphs. Work is kept until a synchronisation, a query or the device's own order asks for it; a
 * graph keeps what its nodes wait for, and runs them in a random order that respects it. */
#include "host.h"

#include <chrono>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

using namespace cuda_host;

struct CUgraphNode_st {
    const char                  *what;
    std::function<cudaError_t()> work;
    std::vector<size_t>          after; /* nodes */
};

typedef std::vector<CUgraphNode_st> node_list;

struct CUgraph_st {
    node_list             nodes;
    cudaStream_t          origin;
    bool                  invalid;
    cudaStreamCaptureMode mode;
    std::thread::id       thread; /* that began it */
};

struct CUgraphExec_st {
    std::shared_ptr<node_list> nodes;
};

struct queued {
    const char                  *what;
    uint64_t                     number; /* in the order of all calls */
    std::function<cudaError_t()> work;
    cudaEvent_t                  event;   /* waited for, or NULL */
    uint64_t                     version; /* of event */
};

struct CUstream_st {
    bool               blocking = true; /* keeps order with the default stream */
    std::deque<queued> queue;
    cudaGraph_t        capture = nullptr;
    std::set<size_t>   frontier; /* nodes that the next one waits for */
};

struct CUevent_st {
    uint64_t         recorded = 0, completed = 0;
    cudaStream_t     stream = nullptr;
    cudaGraph_t      capture = nullptr;
    std::set<size_t> frontier;
    bool             timed = true;
    double           seconds = 0;
};

namespace cuda_host {

namespace {

struct stream_state {
    std::recursive_mutex   lock;
    std::set<cudaStream_t> streams;
    std::set<cudaEvent_t>  events;
    std::set<cudaGraph_t>  graphs;
    std::set<cudaGraphExec_t> executables;
    CUstream_st            legacy;
    uint64_t               number = 0, seed = 0;
    int                    captures = 0;
    bool                   ran = false;
};

stream_state &state()
{
    static stream_state *t = new stream_state;
    return *t;
}

typedef std::lock_guard<std::recursive_mutex> guard;

cudaStream_t actual(cudaStream_t stream)
{
    return stream ? stream : &state().legacy;
}

cudaError_t run_one(cudaStream_t stream);

/* Everything of a stream that came before call `number`. */
cudaError_t run_before(cudaStream_t stream, uint64_t number)
{
    while (!stream->queue.empty() && stream->queue.front().number < number)
        if (cudaError_t e = run_one(stream))
            return e;
    return cudaSuccess;
}

cudaError_t run_until(cudaEvent_t event, uint64_t version)
{
    while (event->completed < version) {
        if (!valid_stream(event->stream) || actual(event->stream)->queue.empty())
            return cudaSuccess; /* its stream is gone, and ran first */
        if (cudaError_t e = run_one(actual(event->stream)))
            return e;
    }
    return cudaSuccess;
}

cudaError_t run_one(cudaStream_t stream)
{
    stream_state &t = state();
    uint64_t      number = stream->queue.front().number;
    if (stream == &t.legacy) {
        for (cudaStream_t other : t.streams)
            if (other->blocking)
                if (cudaError_t e = run_before(other, number))
                    return e;
    } else if (stream->blocking) {
        if (cudaError_t e = run_before(&t.legacy, number))
            return e;
    }
    if (stream->queue.empty() || stream->queue.front().number != number)
        return cudaSuccess;
    queued item = std::move(stream->queue.front());
    stream->queue.pop_front();
    if (sticky_error())
        return sticky_error();
    if (item.event)
        return t.events.count(item.event) ? run_until(item.event, item.version) : cudaSuccess;
    t.ran = true;
    return item.work();
}

cudaError_t finish()
{
    if (sticky_error())
        return sticky_error();
    if (!state().ran)
        return cudaSuccess;
    state().ran = false;
    return check_gaps("after work of a stream");
}

/* Any order that keeps what waits behind what it waits for. */
cudaError_t run_nodes(const node_list &nodes)
{
    std::vector<size_t>              left(nodes.size()), ready;
    std::vector<std::vector<size_t>> behind(nodes.size());
    for (size_t i = 0; i < nodes.size(); i++) {
        left[i] = nodes[i].after.size();
        for (size_t j : nodes[i].after)
            behind[j].push_back(i);
        if (left[i] == 0)
            ready.push_back(i);
    }
    while (!ready.empty()) {
        std::swap(ready[random_bits(&state().seed) % ready.size()], ready.back());
        size_t i = ready.back();
        ready.pop_back();
        if (cudaError_t e = nodes[i].work())
            return e;
        for (size_t j : behind[i])
            if (--left[j] == 0)
                ready.push_back(j);
    }
    return cudaSuccess;
}

cudaError_t bad_stream(const char *call)
{
    return refuse(cudaErrorInvalidResourceHandle, "%s: no such stream", call);
}

} // namespace

bool valid_stream(cudaStream_t stream)
{
    guard hold(state().lock);
    return !stream || stream == &state().legacy || state().streams.count(stream);
}

bool is_capturing(cudaStream_t stream)
{
    return actual(stream)->capture != nullptr;
}

/* Of a mode that forbids it to this thread. */
cudaError_t not_while_capturing(const char *call)
{
    guard hold(state().lock);
    bool  forbidden = false;
    for (cudaStream_t s : state().streams) {
        if (!s->capture || s->capture->mode == cudaStreamCaptureModeRelaxed)
            continue;
        if (s->capture->mode == cudaStreamCaptureModeThreadLocal && s->capture->thread != std::this_thread::get_id())
            continue;
        s->capture->invalid = true;
        forbidden = true;
    }
    if (!forbidden)
        return cudaSuccess;
    return refuse(cudaErrorStreamCaptureUnsupported, "%s: not allowed while a stream captures", call);
}

/* Of any mode: what asks for work of this very stream. */
static cudaError_t not_of_capturing(cudaStream_t stream, const char *call)
{
    guard hold(state().lock);
    if (!is_capturing(stream))
        return cudaSuccess;
    actual(stream)->capture->invalid = true;
    return refuse(cudaErrorStreamCaptureUnsupported, "%s: the stream captures", call);
}

cudaError_t enqueue(cudaStream_t stream, const char *what, std::function<cudaError_t()> work)
{
    stream_state &t = state();
    guard         hold(t.lock);
    if (!valid_stream(stream))
        return bad_stream(what);
    cudaStream_t s = actual(stream);
    if (cudaError_t e = s == &t.legacy ? not_while_capturing(what) : cudaSuccess)
        return e;
    if (s->capture) {
        s->capture->nodes.push_back({what, std::move(work), {s->frontier.begin(), s->frontier.end()}});
        s->frontier = {s->capture->nodes.size() - 1};
        return cudaSuccess;
    }
    if (strcmp(what, "kernel") != 0) /* launches say which */
        trace(what);
    s->queue.push_back({what, t.number++, std::move(work), nullptr, 0});
    return cudaSuccess;
}

cudaError_t run_stream(cudaStream_t stream)
{
    guard hold(state().lock);
    while (!actual(stream)->queue.empty())
        if (cudaError_t e = run_one(actual(stream)))
            return e;
    return finish();
}

/* Streams by turns, in random order. */
cudaError_t run_everything()
{
    stream_state &t = state();
    guard         hold(t.lock);
    for (;;) {
        std::vector<cudaStream_t> busy;
        if (!t.legacy.queue.empty())
            busy.push_back(&t.legacy);
        for (cudaStream_t s : t.streams)
            if (!s->queue.empty())
                busy.push_back(s);
        if (busy.empty())
            return finish();
        if (cudaError_t e = run_one(busy[random_bits(&t.seed) % busy.size()]))
            return e;
    }
}

} // namespace cuda_host

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    if (cudaError_t e = begin_call("cudaStreamCreate"))
        return e;
    guard hold(state().lock);
    *out = new CUstream_st;
    (*out)->blocking = !(flags & cudaStreamNonBlocking);
    state().streams.insert(*out);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *out)
{
    return cudaStreamCreateWithFlags(out, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    cudaError_t e = begin_call("cudaStreamDestroy");
    guard       hold(state().lock);
    if (!stream || !valid_stream(stream))
        return bad_stream("cudaStreamDestroy");
    if (!e)
        e = run_stream(stream);
    state().streams.erase(stream);
    delete stream;
    return e;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (cudaError_t e = begin_call("cudaStreamSynchronize"))
        return e;
    if (!valid_stream(stream))
        return bad_stream("cudaStreamSynchronize");
    if (cudaError_t e = not_of_capturing(stream, "cudaStreamSynchronize"))
        return e;
    if (cudaError_t e = not_while_capturing("cudaStreamSynchronize"))
        return e;
    return run_stream(stream);
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    if (cudaError_t e = begin_call("cudaStreamQuery"))
        return e;
    if (!valid_stream(stream))
        return bad_stream("cudaStreamQuery");
    if (cudaError_t e = not_of_capturing(stream, "cudaStreamQuery"))
        return e;
    if (cudaError_t e = not_while_capturing("cudaStreamQuery"))
        return e;
    return run_stream(stream);
}

cudaError_t cudaDeviceSynchronize(void)
{
    if (cudaError_t e = begin_call("cudaDeviceSynchronize"))
        return e;
    if (cudaError_t e = not_while_capturing("cudaDeviceSynchronize"))
        return e;
    return run_everything();
}

cudaError_t cudaDeviceReset(void)
{
    return begin_call("cudaDeviceReset");
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    if (cudaError_t e = begin_call("cudaStreamWaitEvent"))
        return e;
    stream_state &t = state();
    guard         hold(t.lock);
    if (!valid_stream(stream) || !t.events.count(event))
        return refuse(cudaErrorInvalidResourceHandle, "cudaStreamWaitEvent: no such stream or event");
    cudaStream_t s = actual(stream);
    if (event->capture) {
        if (s->capture && s->capture != event->capture)
            return refuse(cudaErrorStreamCaptureIsolation, "cudaStreamWaitEvent: an event of another capture");
        if (!s->capture)
            s->frontier.clear();
        s->capture = event->capture;
        s->frontier.insert(event->frontier.begin(), event->frontier.end());
    } else if (s->capture) {
        s->capture->invalid = true;
        return refuse(cudaErrorStreamCaptureIsolation, "cudaStreamWaitEvent: an event from outside the capture");
    } else if (event->recorded > 0) {
        s->queue.push_back({"cudaStreamWaitEvent", t.number++, nullptr, event, event->recorded});
    }
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    if (cudaError_t e = begin_call("cudaEventCreate"))
        return e;
    guard hold(state().lock);
    *out = new CUevent_st;
    (*out)->timed = !(flags & cudaEventDisableTiming);
    state().events.insert(*out);
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    cudaError_t e = begin_call("cudaEventDestroy");
    guard       hold(state().lock);
    if (!state().events.count(event))
        return refuse(cudaErrorInvalidResourceHandle, "cudaEventDestroy: no such event");
    if (!e)
        e = run_until(event, event->recorded);
    state().events.erase(event);
    delete event;
    return e;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    if (cudaError_t e = begin_call("cudaEventRecord"))
        return e;
    guard hold(state().lock);
    if (!valid_stream(stream) || !state().events.count(event))
        return refuse(cudaErrorInvalidResourceHandle, "cudaEventRecord: no such stream or event");
    cudaStream_t s = actual(stream);
    event->stream = stream;
    event->capture = s->capture;
    if (s->capture) {
        event->frontier = s->frontier;
        return cudaSuccess;
    }
    uint64_t version = ++event->recorded;
    return enqueue(stream, "cudaEventRecord", [event, version] {
        if (!state().events.count(event))
            return cudaSuccess;
        event->completed = version;
        event->seconds = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
        return cudaSuccess;
    });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (cudaError_t e = begin_call("cudaEventSynchronize"))
        return e;
    guard hold(state().lock);
    if (!state().events.count(event))
        return refuse(cudaErrorInvalidResourceHandle, "cudaEventSynchronize: no such event");
    if (event->capture) {
        event->capture->invalid = true;
        return refuse(cudaErrorStreamCaptureUnsupported, "cudaEventSynchronize: the event belongs to a capture");
    }
    if (cudaError_t e = not_while_capturing("cudaEventSynchronize"))
        return e;
    if (cudaError_t e = run_until(event, event->recorded))
        return e;
    return finish();
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    return cudaEventSynchronize(event);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    if (cudaError_t e = begin_call("cudaEventElapsedTime"))
        return e;
    guard hold(state().lock);
    if (!state().events.count(start) || !state().events.count(end) || !start->timed || !end->timed || !start->recorded || !end->recorded)
        return refuse(cudaErrorInvalidResourceHandle, "cudaEventElapsedTime: events without a recorded time");
    if (start->completed < start->recorded || end->completed < end->recorded)
        return cudaErrorNotReady;
    *milliseconds = (float)((end->seconds - start->seconds) * 1e3);
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    if (cudaError_t e = begin_call("cudaStreamBeginCapture"))
        return e;
    guard hold(state().lock);
    if (!stream || !valid_stream(stream) || stream->capture)
        return refuse(cudaErrorStreamCaptureUnsupported, "cudaStreamBeginCapture: the default stream, or one that captures already");
    stream->capture = new CUgraph_st{{}, stream, false, mode, std::this_thread::get_id()};
    stream->frontier.clear();
    state().captures++;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    cudaError_t   failed = begin_call("cudaStreamEndCapture"); /* which ends it too */
    stream_state &t = state();
    guard         hold(t.lock);
    *out = nullptr;
    if (!stream || !valid_stream(stream) || !stream->capture || stream->capture->origin != stream)
        return failed ? failed
                      : refuse(cudaErrorStreamCaptureUnmatched, "cudaStreamEndCapture: no capture began in this stream");
    cudaGraph_t    graph = stream->capture;
    if (graph->mode != cudaStreamCaptureModeRelaxed && graph->thread != std::this_thread::get_id())
        return refuse(cudaErrorStreamCaptureWrongThread, "cudaStreamEndCapture: another thread began the capture");
    std::set<size_t> waited = stream->frontier;
    for (const CUgraphNode_st &node : graph->nodes)
        waited.insert(node.after.begin(), node.after.end());
    for (cudaStream_t s : t.streams)
        if (s->capture == graph)
            s->capture = nullptr;
    for (cudaEvent_t e : t.events)
        if (e->capture == graph)
            e->capture = nullptr;
    t.captures--;
    if (failed) {
        delete graph;
        return failed;
    }
    if (graph->invalid || waited.size() != graph->nodes.size()) {
        bool invalid = graph->invalid;
        delete graph;
        return refuse(invalid ? cudaErrorStreamCaptureInvalidated : cudaErrorStreamCaptureUnjoined,
                      "cudaStreamEndCapture: %s", invalid ? "a call during the capture failed" : "work of another stream is not waited for");
    }
    t.graphs.insert(graph);
    *out = graph;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *out)
{
    if (cudaError_t e = begin_call("cudaStreamIsCapturing"))
        return e;
    guard hold(state().lock);
    if (!valid_stream(stream))
        return bad_stream("cudaStreamIsCapturing");
    cudaGraph_t graph = actual(stream)->capture;
    *out = !graph ? cudaStreamCaptureStatusNone : graph->invalid ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *n)
{
    for (size_t i = 0; nodes && i < *n && i < graph->nodes.size(); i++)
        nodes[i] = &graph->nodes[i];
    *n = graph->nodes.size();
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long)
{
    if (cudaError_t e = begin_call("cudaGraphInstantiate"))
        return e;
    guard hold(state().lock);
    if (!state().graphs.count(graph))
        return refuse(cudaErrorInvalidValue, "cudaGraphInstantiate: no such graph");
    *out = new CUgraphExec_st{std::make_shared<node_list>(graph->nodes)};
    state().executables.insert(*out);
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t graph, cudaStream_t stream)
{
    if (cudaError_t e = begin_call("cudaGraphUpload"))
        return e;
    guard hold(state().lock);
    if (!state().executables.count(graph))
        return refuse(cudaErrorInvalidValue, "cudaGraphUpload: no such graph");
    return enqueue(stream, "cudaGraphUpload", [] { return cudaSuccess; });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
    if (cudaError_t e = begin_call("cudaGraphLaunch"))
        return e;
    guard hold(state().lock);
    if (!state().executables.count(graph))
        return refuse(cudaErrorInvalidValue, "cudaGraphLaunch: no such graph");
    if (valid_stream(stream) && is_capturing(stream))
        return not_of_capturing(stream, "cudaGraphLaunch");
    std::shared_ptr<node_list> nodes = graph->nodes;
    return enqueue(stream, "cudaGraphLaunch", [nodes] { return run_nodes(*nodes); });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph)
{
    cudaError_t e = begin_call("cudaGraphExecDestroy");
    guard       hold(state().lock);
    if (!state().executables.erase(graph))
        return refuse(cudaErrorInvalidValue, "cudaGraphExecDestroy: no such graph");
    delete graph;
    return e;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    cudaError_t e = begin_call("cudaGraphDestroy");
    guard       hold(state().lock);
    if (!state().graphs.erase(graph))
        return refuse(cudaErrorInvalidValue, "cudaGraphDestroy: no such graph");
    delete graph;
    return e;
}
