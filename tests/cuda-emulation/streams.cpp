// Streams and events. Work runs when it is queued (eager), or as late as the program allows and in any order that
// streams and events permit (lazy): then a host that does not wait, and streams that forget an event, show.
#include "streams.h"

#include <algorithm>

#include <sched.h>

#include "settings.h"

namespace cuda_emulation
{
static CUstream_st legacy{true, {}, nullptr};
static std::vector<CUstream_st *> streams{&legacy};
static std::vector<std::shared_ptr<Operation>> queued; // in the order of issue
static int active_captures;
static bool running;
static cudaError_t last_error;

cudaError_t failed(cudaError_t error)
{
    if (error)
        last_error = error;
    return error;
}

CUstream_st *stream_of(cudaStream_t stream)
{
    bool is_legacy = !stream || stream == cudaStreamLegacy || stream == cudaStreamPerThread;
    return is_legacy ? &legacy : stream;
}

bool stream_is_legacy(const CUstream_st *stream)
{
    return stream == &legacy;
}

int captures_active()
{
    return active_captures;
}

void captures_change(int by)
{
    active_captures += by;
}

void streams_leave_capture(const Capture *capture)
{
    for (CUstream_st *stream : streams)
        if (stream->position.capture.get() == capture) {
            stream->position.capture = nullptr;
            stream->position.nodes.clear();
            stream->front = nullptr;
        }
}

size_t choose_next(size_t count)
{
    switch (settings.schedule) {
    case Schedule::FIFO:
        return 0;
    case Schedule::LIFO:
        return count - 1;
    default:
        return random_below((unsigned)count);
    }
}

static bool may_run(const Operation &operation)
{
    return std::all_of(operation.after.begin(), operation.after.end(),
                       [](const std::shared_ptr<Operation> &before) { return before->done; });
}

// Whether operation i of the queue is done now; it then leaves the queue.
static bool run_operation(size_t i)
{
    std::shared_ptr<Operation> operation = queued[i];
    running = true;
    operation->done = operation->run();
    running = false;
    if (!operation->done)
        return false;
    queued.erase(queued.begin() + (ptrdiff_t)i);
    operation->run = nullptr;
    operation->after.clear();
    return true;
}

// Finishes one operation that may run; lets others run where all wait for other processes.
static void run_one()
{
    check_host_thread();
    if (running)
        die("work on a stream, or a host function, waits for a stream");
    std::vector<size_t> ready;
    for (size_t i = 0; i < queued.size(); i++)
        if (may_run(*queued[i]))
            ready.push_back(i);
    size_t first = choose_next(ready.size());
    for (size_t tried = 0; tried < ready.size(); tried++)
        if (run_operation(ready[(first + tried) % ready.size()]))
            return;
    sched_yield();
}

cudaError_t wait_for(const std::shared_ptr<Operation> &operation)
{
    while (operation ? !operation->done : !queued.empty())
        run_one();
    return cudaSuccess;
}

// The legacy stream waits for all blocking streams, and they for it.
static std::vector<std::shared_ptr<Operation>> comes_after(const CUstream_st *stream)
{
    std::vector<std::shared_ptr<Operation>> after;
    auto add = [&](const CUstream_st *other) {
        if (other->position.operation && !other->position.operation->done)
            after.push_back(other->position.operation);
    };
    add(stream);
    for (CUstream_st *other : streams)
        if (other != stream && other->blocking && stream->blocking && (stream == &legacy || other == &legacy))
            add(other);
    return after;
}

static cudaError_t capture_node(CUstream_st *stream, Work work, Chain *chain)
{
    Capture *capture = stream->position.capture.get();
    std::vector<int> after = stream->position.nodes;
    if (chain && chain->capture == stream->position.capture)
        after.push_back(chain->node);
    int node = (int)capture->nodes.size();
    capture->nodes.push_back({std::move(work), after});
    stream->position.nodes = {node};
    if (chain)
        *chain = {nullptr, stream->position.capture, node};
    return cudaSuccess;
}

cudaError_t submit(cudaStream_t stream, std::function<void()> body, Chain *chain)
{
    auto work = [body = std::move(body)]() {
        body();
        return true;
    };
    return submit_work(stream, work, chain);
}

cudaError_t submit_work(cudaStream_t handle, Work work, Chain *chain)
{
    check_host_thread();
    CUstream_st *stream = stream_of(handle);
    stream->front = nullptr;
    if (stream->position.capture)
        return capture_node(stream, std::move(work), chain);
    if (active_captures && stream == &legacy)
        return failed(cudaErrorStreamCaptureImplicit);
    if (running)
        die("work on a stream, or a host function, queues work");
    auto operation = std::make_shared<Operation>(Operation{std::move(work), comes_after(stream), false});
    if (chain) {
        if (chain->operation && !chain->operation->done)
            operation->after.push_back(chain->operation);
        *chain = {operation, nullptr, 0};
    }
    queued.push_back(operation);
    stream->position.operation = operation;
    return settings.lazy_streams ? cudaSuccess : wait_for(nullptr);
}

static cudaError_t query(const std::shared_ptr<Operation> &operation)
{
    if (!operation || operation->done)
        return cudaSuccess;
    run_one(); // time passes
    return operation->done ? cudaSuccess : cudaErrorNotReady;
}

static cudaError_t event_record(cudaEvent_t event, cudaStream_t handle)
{
    CUstream_st *stream = stream_of(handle);
    if (!stream->position.capture) {
        std::shared_ptr<int64_t> time = event->time_ns = std::make_shared<int64_t>(-1);
        cudaError_t error = submit(handle, [time]() { *time = now_ns(); });
        if (error)
            return error;
    }
    event->position = stream->position;
    return cudaSuccess;
}

// The stream joins the event's capture.
static cudaError_t join_capture(CUstream_st *stream, const Position &event)
{
    if (event.capture->ended)
        return failed(cudaErrorInvalidValue);
    if (stream->position.capture && stream->position.capture != event.capture)
        return failed(cudaErrorStreamCaptureMerge);
    stream->position.capture = event.capture;
    stream->position.nodes.insert(stream->position.nodes.end(), event.nodes.begin(), event.nodes.end());
    return cudaSuccess;
}

static cudaError_t stream_wait(cudaStream_t handle, const Position &event)
{
    CUstream_st *stream = stream_of(handle);
    stream->front = nullptr;
    if (event.capture)
        return join_capture(stream, event);
    if (stream->position.capture)
        return failed(event.operation ? cudaErrorStreamCaptureIsolation : cudaSuccess);
    if (!event.operation || event.operation->done)
        return cudaSuccess;
    Chain chain{event.operation, nullptr, 0};
    return submit(
        handle, []() {}, &chain);
}

static cudaError_t stream_destroy(CUstream_st *stream)
{
    if (stream == &legacy || std::find(streams.begin(), streams.end(), stream) == streams.end())
        return failed(cudaErrorInvalidResourceHandle);
    if (stream->position.operation)
        wait_for(stream->position.operation);
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    delete stream;
    return cudaSuccess;
}
} // namespace cuda_emulation

using namespace cuda_emulation;

extern "C" {
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    *stream = new CUstream_st{!(flags & cudaStreamNonBlocking), {}, nullptr};
    streams.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int)
{
    return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    return stream_destroy(stream);
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle)
{
    CUstream_st *stream = stream_of(handle);
    if (stream->position.capture) {
        stream->position.capture->invalid = true;
        return failed(cudaErrorStreamCaptureUnsupported);
    }
    if (stream == &legacy)
        return cudaDeviceSynchronize();
    stream->front = nullptr;
    return stream->position.operation ? wait_for(stream->position.operation) : cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t handle)
{
    CUstream_st *stream = stream_of(handle);
    if (stream->position.capture) {
        stream->position.capture->invalid = true;
        return failed(cudaErrorStreamCaptureUnsupported);
    }
    return query(stream->position.operation);
}

cudaError_t cudaDeviceSynchronize(void)
{
    if (active_captures)
        return failed(cudaErrorStreamCaptureUnsupported);
    for (CUstream_st *stream : streams)
        stream->front = nullptr;
    return wait_for(nullptr);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *argument)
{
    return submit(stream, [=]() { function(argument); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    *event = new CUevent_st{{}, !(flags & cudaEventDisableTiming), nullptr};
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    return event_record(event, stream);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (event->position.capture)
        return failed(cudaErrorCapturedEvent);
    return event->position.operation ? wait_for(event->position.operation) : cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    if (event->position.capture)
        return failed(cudaErrorCapturedEvent);
    return query(event->position.operation);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    if (!start->timed || !end->timed || !start->time_ns || !end->time_ns)
        return failed(cudaErrorInvalidResourceHandle);
    if (*start->time_ns < 0 || *end->time_ns < 0)
        return failed(cudaErrorNotReady);
    *ms = (float)(*end->time_ns - *start->time_ns) * 1e-6f;
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    return stream_wait(stream, event->position);
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}
}
