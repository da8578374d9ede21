// Capture of streams into graphs, and graphs. A graph runs as one operation of its stream; its nodes run in
// any order that they permit.
#include <algorithm>

#include "settings.h"
#include "streams.h"

struct CUgraph_st {
    std::vector<cuda_emulation::Node> nodes;
};

struct CUgraphExec_st {
    std::shared_ptr<std::vector<cuda_emulation::Node>> nodes;
};

namespace cuda_emulation
{
// A graph on its way through a stream.
struct Launch {
    std::shared_ptr<std::vector<Node>> nodes;
    std::vector<bool> done;
    size_t left;
};

static std::vector<size_t> ready_nodes(const Launch &launch)
{
    std::vector<size_t> ready;
    for (size_t i = 0; i < launch.done.size(); i++) {
        const std::vector<int> &after = (*launch.nodes)[i].after;
        if (!launch.done[i] &&
            std::all_of(after.begin(), after.end(), [&](int before) { return launch.done[(size_t)before]; }))
            ready.push_back(i);
    }
    return ready;
}

// Whether a node could be finished.
static bool run_node(Launch &launch)
{
    std::vector<size_t> ready = ready_nodes(launch);
    size_t first = choose_next(ready.size());
    for (size_t tried = 0; tried < ready.size(); tried++) {
        size_t node = ready[(first + tried) % ready.size()];
        if (!(*launch.nodes)[node].run())
            continue;
        launch.done[node] = true;
        launch.left--;
        return true;
    }
    return false;
}

static bool run_nodes(Launch &launch)
{
    while (launch.left)
        if (!run_node(launch))
            return false;
    return true;
}

// Whether all nodes come before the end of the stream where the capture has begun.
static bool all_joined(const Capture &capture, std::vector<int> last)
{
    std::vector<bool> joined(capture.nodes.size());
    while (!last.empty()) {
        int node = last.back();
        last.pop_back();
        if (joined[(size_t)node])
            continue;
        joined[(size_t)node] = true;
        const std::vector<int> &after = capture.nodes[(size_t)node].after;
        last.insert(last.end(), after.begin(), after.end());
    }
    return std::all_of(joined.begin(), joined.end(), [](bool is) { return is; });
}

static cudaError_t capture_end(cudaStream_t handle, cudaGraph_t *graph)
{
    CUstream_st *stream = stream_of(handle);
    std::shared_ptr<Capture> capture = stream->position.capture;
    *graph = nullptr;
    if (!capture)
        return failed(cudaErrorIllegalState);
    if (stream != capture->origin)
        return failed(cudaErrorStreamCaptureUnmatched);
    bool joined = all_joined(*capture, stream->position.nodes);
    capture->ended = true;
    captures_change(-1);
    streams_leave_capture(capture.get());
    if (capture->invalid)
        return failed(cudaErrorStreamCaptureInvalidated);
    if (!joined)
        return failed(cudaErrorStreamCaptureUnjoined);
    *graph = new CUgraph_st{capture->nodes};
    return cudaSuccess;
}
} // namespace cuda_emulation

using namespace cuda_emulation;

extern "C" {
cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode)
{
    CUstream_st *stream = stream_of(handle);
    if (stream_is_legacy(stream))
        return failed(cudaErrorStreamCaptureUnsupported);
    if (stream->position.capture)
        return failed(cudaErrorIllegalState);
    stream->position.capture = std::make_shared<Capture>(Capture{{}, stream, false, false});
    stream->position.nodes.clear();
    stream->front = nullptr;
    captures_change(1);
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    return capture_end(stream, graph);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    bool active = stream_of(stream)->position.capture != nullptr;
    *status = active ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long)
{
    *executable = new CUgraphExec_st{std::make_shared<std::vector<Node>>(graph->nodes)};
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream)
{
    static int64_t launches;
    if (++launches == settings.failing_graph)
        return failed(cudaErrorLaunchFailure);
    size_t nodes = executable->nodes->size();
    auto launch = std::make_shared<Launch>(Launch{executable->nodes, std::vector<bool>(nodes), nodes});
    return submit_work(stream, [launch]() { return run_nodes(*launch); });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable)
{
    delete executable;
    return cudaSuccess;
}
}
