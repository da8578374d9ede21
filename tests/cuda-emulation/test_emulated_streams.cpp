// Streams, events and graphs under emulation: what a program must not rely on goes wrong in some order of the
// lazy mode, and what it may rely on never does; what CUDA refuses is refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "test_support.h"

enum { N = 64, ROUNDS = 20 };

extern "C" __attribute__((weak)) int __asan_address_is_poisoned(const volatile void *at);

static __global__ void square_kernel(float *to, const float *from)
{
    to[threadIdx.x] = from[threadIdx.x] * from[threadIdx.x];
}

static void square(float *to, const float *from, cudaStream_t stream)
{
    cudaLaunchConfig_t configuration = {};
    configuration.gridDim = dim3(1);
    configuration.blockDim = dim3(N);
    configuration.stream = stream;
    CUDA(cudaLaunchKernelEx(&configuration, square_kernel, to, from));
}

// Two streams, an event and arrays: `from` holds threes.
struct Work {
    Stream a, b;
    cudaEvent_t event;
    Array<float> from{std::vector<float>(N, 3.0f)}, to{N}, copy{N};
    float *pinned;

    Work()
    {
        CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
        CUDA(cudaMallocHost((void **)&pinned, N * sizeof(float)));
        CUDA(cudaMemsetAsync(to.at, 0xff, N * sizeof(float), a.handle));
        a.wait();
    }

    Work(const Work &) = delete;
    Work &operator=(const Work &) = delete;

    ~Work()
    {
        CUDA(cudaEventDestroy(event));
        CUDA(cudaFreeHost(pinned));
    }

    bool copy_is(float value) const
    {
        return copy.values()[5] == value;
    }
};

// How many of ROUNDS random orders give what `round` says is wrong.
static int wrong_rounds(bool (*is_wrong)(Work &))
{
    int wrong = 0;
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        cuda_emulation_configure("random", seed, "lazy");
        Work work;
        wrong += is_wrong(work);
    }
    cuda_emulation_configure("fifo", 1, "eager");
    return wrong;
}

static bool reads_before_waiting(Work &work)
{
    square(work.to.at, work.from.at, work.a.handle);
    CUDA(cudaMemcpyAsync(work.pinned, work.to.at, N * sizeof(float), cudaMemcpyDeviceToHost, work.a.handle));
    bool wrong = work.pinned[5] != 9;
    work.a.wait();
    return wrong || work.pinned[5] != 9;
}

static bool reads_after_waiting(Work &work)
{
    square(work.to.at, work.from.at, work.a.handle);
    CUDA(cudaMemcpyAsync(work.pinned, work.to.at, N * sizeof(float), cudaMemcpyDeviceToHost, work.a.handle));
    work.a.wait();
    return work.pinned[5] != 9;
}

static bool uses_another_stream(Work &work, bool event)
{
    square(work.to.at, work.from.at, work.a.handle);
    if (event) {
        CUDA(cudaEventRecord(work.event, work.a.handle));
        CUDA(cudaStreamWaitEvent(work.b.handle, work.event, 0));
    }
    CUDA(cudaMemcpyAsync(work.copy.at, work.to.at, N * sizeof(float), cudaMemcpyDeviceToDevice,
                         work.b.handle));
    CUDA(cudaDeviceSynchronize());
    return !work.copy_is(9);
}

static bool forgets_the_event(Work &work)
{
    return uses_another_stream(work, false);
}

static bool waits_for_the_event(Work &work)
{
    return uses_another_stream(work, true);
}

// An event that was recorded long ago orders nothing that came after it.
static bool waits_for_an_old_event(Work &work)
{
    CUDA(cudaEventRecord(work.event, work.a.handle));
    CUDA(cudaDeviceSynchronize());
    square(work.to.at, work.from.at, work.a.handle);
    CUDA(cudaStreamWaitEvent(work.b.handle, work.event, 0));
    CUDA(cudaMemcpyAsync(work.copy.at, work.to.at, N * sizeof(float), cudaMemcpyDeviceToDevice,
                         work.b.handle));
    CUDA(cudaDeviceSynchronize());
    return !work.copy_is(9);
}

static bool changes_pinned_source(Work &work)
{
    for (int i = 0; i < N; i++)
        work.pinned[i] = 1;
    CUDA(
        cudaMemcpyAsync(work.copy.at, work.pinned, N * sizeof(float), cudaMemcpyHostToDevice, work.a.handle));
    work.pinned[5] = 2;
    work.a.wait();
    return !work.copy_is(1);
}

static bool changes_pageable_source(Work &work)
{
    std::vector<float> source(N, 1.0f);
    CUDA(cudaMemcpyAsync(work.copy.at, source.data(), N * sizeof(float), cudaMemcpyHostToDevice,
                         work.a.handle));
    source[5] = 2;
    work.a.wait();
    return !work.copy_is(1);
}

static bool fills_by_the_legacy_stream(Work &work)
{
    CUDA(cudaMemset(work.to.at, 0, N * sizeof(float)));
    square(work.to.at, work.from.at, work.a.handle); // a non-blocking stream
    CUDA(cudaDeviceSynchronize());
    return work.to.values()[5] != 9;
}

static bool fills_by_the_legacy_stream_for_a_blocking_one(Work &work)
{
    cudaStream_t blocking;
    CUDA(cudaStreamCreate(&blocking));
    CUDA(cudaMemset(work.to.at, 0, N * sizeof(float)));
    square(work.to.at, work.from.at, blocking);
    CUDA(cudaMemcpyAsync(work.copy.at, work.to.at, N * sizeof(float), cudaMemcpyDeviceToDevice, nullptr));
    CUDA(cudaDeviceSynchronize());
    CUDA(cudaStreamDestroy(blocking));
    return !work.copy_is(9);
}

static void mistakes_of_the_host_are_seen(void **state)
{
    (void)state;
    assert_int_equal(wrong_rounds(reads_before_waiting), ROUNDS);
    assert_in_range(wrong_rounds(forgets_the_event), 1, ROUNDS - 1);
    assert_in_range(wrong_rounds(waits_for_an_old_event), 1, ROUNDS - 1);
    assert_int_equal(wrong_rounds(changes_pinned_source), ROUNDS);
    assert_in_range(wrong_rounds(fills_by_the_legacy_stream), 1, ROUNDS - 1);
}

static void what_cuda_orders_is_ordered(void **state)
{
    (void)state;
    assert_int_equal(wrong_rounds(reads_after_waiting), 0);
    assert_int_equal(wrong_rounds(waits_for_the_event), 0);
    assert_int_equal(wrong_rounds(changes_pageable_source), 0);
    assert_int_equal(wrong_rounds(fills_by_the_legacy_stream_for_a_blocking_one), 0);
}

static void events_tell_progress_and_time(void **state)
{
    (void)state;
    cuda_emulation_configure("fifo", 1, "lazy");
    Work work;
    cudaEvent_t start, end;
    float ms = -1;
    CUDA(cudaEventCreate(&start));
    CUDA(cudaEventCreate(&end));
    assert_int_equal(cudaEventQuery(start), cudaSuccess); // never recorded
    CUDA(cudaEventRecord(start, work.a.handle));
    square(work.to.at, work.from.at, work.a.handle);
    CUDA(cudaEventRecord(end, work.a.handle));
    assert_int_equal(cudaEventElapsedTime(&ms, start, end), cudaErrorNotReady);
    assert_int_equal(cudaEventQuery(end), cudaErrorNotReady);
    while (cudaEventQuery(end) == cudaErrorNotReady) {
    }
    assert_int_equal(cudaStreamQuery(work.a.handle), cudaSuccess);
    CUDA(cudaEventElapsedTime(&ms, start, end));
    assert_true(ms > 0);
    assert_int_equal(cudaEventElapsedTime(&ms, work.event, end),
                     cudaErrorInvalidResourceHandle); // keeps no time
    CUDA(cudaEventDestroy(start));
    CUDA(cudaEventDestroy(end));
    cuda_emulation_configure("fifo", 1, "eager");
    (void)cudaGetLastError();
}

// to = from^2 on a, then copy = to^2 on b and back to a: a fork and a join.
static cudaGraphExec_t capture_fork(Work &work, cudaEvent_t joined)
{
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    CUDA(cudaStreamBeginCapture(work.a.handle, cudaStreamCaptureModeGlobal));
    square(work.to.at, work.from.at, work.a.handle);
    CUDA(cudaEventRecord(work.event, work.a.handle));
    CUDA(cudaStreamWaitEvent(work.b.handle, work.event, 0));
    square(work.copy.at, work.to.at, work.b.handle);
    CUDA(cudaEventRecord(joined, work.b.handle));
    CUDA(cudaStreamWaitEvent(work.a.handle, joined, 0));
    CUDA(
        cudaMemcpyAsync(work.pinned, work.copy.at, N * sizeof(float), cudaMemcpyDeviceToHost, work.a.handle));
    CUDA(cudaStreamEndCapture(work.a.handle, &graph));
    CUDA(cudaGraphInstantiate(&executable, graph, 0));
    CUDA(cudaGraphDestroy(graph));
    return executable;
}

static bool replays_a_graph(Work &work)
{
    cudaEvent_t joined;
    CUDA(cudaEventCreateWithFlags(&joined, cudaEventDisableTiming));
    work.pinned[5] = 0;
    cudaGraphExec_t executable = capture_fork(work, joined);
    CUDA(cudaEventDestroy(joined));
    bool wrong = work.pinned[5] != 0; // capturing runs nothing
    for (float input = 2; input < 5; input++) {
        std::vector<float> values(N, input);
        CUDA(cudaMemcpyAsync(work.from.at, values.data(), N * sizeof(float), cudaMemcpyHostToDevice,
                             work.a.handle));
        CUDA(cudaGraphLaunch(executable, work.a.handle));
        work.a.wait();
        wrong |= work.pinned[5] != input * input * input * input;
    }
    CUDA(cudaGraphExecDestroy(executable));
    return wrong;
}

static void graphs_replay_what_was_captured(void **state)
{
    (void)state;
    assert_int_equal(wrong_rounds(replays_a_graph), 0);
}

static bool graph_without_order(Work &work)
{
    cudaEvent_t joined;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    CUDA(cudaEventCreateWithFlags(&joined, cudaEventDisableTiming));
    CUDA(cudaStreamBeginCapture(work.a.handle, cudaStreamCaptureModeGlobal));
    CUDA(cudaEventRecord(work.event, work.a.handle));
    CUDA(cudaStreamWaitEvent(work.b.handle, work.event, 0));
    square(work.to.at, work.from.at, work.a.handle); // after the fork: b does not wait for it
    square(work.copy.at, work.to.at, work.b.handle);
    CUDA(cudaEventRecord(joined, work.b.handle));
    CUDA(cudaStreamWaitEvent(work.a.handle, joined, 0));
    CUDA(cudaStreamEndCapture(work.a.handle, &graph));
    CUDA(cudaGraphInstantiate(&executable, graph, 0));
    CUDA(cudaGraphLaunch(executable, work.a.handle));
    work.a.wait();
    CUDA(cudaGraphDestroy(graph));
    CUDA(cudaGraphExecDestroy(executable));
    CUDA(cudaEventDestroy(joined));
    return !work.copy_is(81);
}

static void nodes_of_a_graph_run_in_any_order_that_it_permits(void **state)
{
    (void)state;
    assert_in_range(wrong_rounds(graph_without_order), 1, ROUNDS - 1);
}

static void captures_refuse_what_cuda_refuses(void **state)
{
    (void)state;
    Work work;
    cudaGraph_t graph;
    void *memory;
    cudaStreamCaptureStatus status;
    CUDA(cudaStreamBeginCapture(work.a.handle, cudaStreamCaptureModeGlobal));
    CUDA(cudaStreamIsCapturing(work.a.handle, &status));
    assert_int_equal(status, cudaStreamCaptureStatusActive);
    assert_int_equal(cudaMalloc(&memory, 4), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaMemset(work.to.at, 0, 4), cudaErrorStreamCaptureImplicit);
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorStreamCaptureUnsupported);
    CUDA(cudaEventRecord(work.event, work.a.handle));
    CUDA(cudaStreamWaitEvent(work.b.handle, work.event, 0));
    assert_int_equal(cudaEventSynchronize(work.event), cudaErrorCapturedEvent);
    assert_int_equal(cudaStreamEndCapture(work.b.handle, &graph), cudaErrorStreamCaptureUnmatched);
    square(work.copy.at, work.from.at, work.b.handle);
    assert_int_equal(cudaStreamEndCapture(work.a.handle, &graph), cudaErrorStreamCaptureUnjoined);
    assert_int_equal(cudaStreamWaitEvent(work.b.handle, work.event, 0),
                     cudaErrorInvalidValue); // of a former capture
    CUDA(cudaStreamBeginCapture(work.a.handle, cudaStreamCaptureModeGlobal));
    assert_int_equal(cudaStreamSynchronize(work.a.handle), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(work.a.handle, &graph), cudaErrorStreamCaptureInvalidated);
    CUDA(cudaStreamIsCapturing(work.a.handle, &status));
    assert_int_equal(status, cudaStreamCaptureStatusNone);
    (void)cudaGetLastError();
}

static void memory_is_the_device_s_or_not(void **state)
{
    (void)state;
    Array<float> device(N);
    std::vector<float> host(N);
    size_t free_bytes, after, total;
    void *memory;
    assert_true(std::isnan(device.values()[N - 1])); // fresh memory is poison
    assert_int_equal(cudaMemcpy(host.data(), device.at, 4, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(device.at, host.data(), 4, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(device.at, host.data(), 4, cudaMemcpyDefault), cudaSuccess);
    assert_int_equal(cudaMemset(host.data(), 0, 4), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(device.at + 1), cudaErrorInvalidValue);
    assert_int_equal(cudaFreeHost(device.at), cudaErrorInvalidValue);
    CUDA(cudaMemGetInfo(&free_bytes, &total));
    assert_int_equal(cudaMalloc(&memory, total + 1), cudaErrorMemoryAllocation);
    CUDA(cudaMalloc(&memory, 1 << 20));
    CUDA(cudaMemGetInfo(&after, &total));
    assert_int_equal(free_bytes - after, 1 << 20);
    CUDA(cudaFree(memory));
    (void)cudaGetLastError();
}

// AddressSanitizer sees every byte around an allocation, whole pages or not.
static void memory_is_guarded_on_both_sides(void **state)
{
    (void)state;
    if (!__asan_address_is_poisoned)
        skip();
    for (size_t bytes : {(size_t)1, (size_t)4000, (size_t)4096, (size_t)3 << 20}) {
        char *memory[2];
        for (char *&at : memory)
            CUDA(cudaMalloc((void **)&at, bytes));
        for (char *at : memory) {
            assert_true(__asan_address_is_poisoned(at - 1));
            assert_false(__asan_address_is_poisoned(at + bytes - 1));
            for (size_t behind : {0, 100, 4000})
                assert_true(__asan_address_is_poisoned(at + bytes + behind));
        }
        for (char *at : memory)
            CUDA(cudaFree(at));
        assert_true(__asan_address_is_poisoned(memory[0]));
    }
}

static void host_functions_run_in_order(void **state)
{
    (void)state;
    cuda_emulation_configure("random", 1, "lazy");
    Work work;
    static float seen;
    seen = 0;
    square(work.to.at, work.from.at, work.a.handle);
    CUDA(cudaMemcpyAsync(work.pinned, work.to.at, N * sizeof(float), cudaMemcpyDeviceToHost, work.a.handle));
    CUDA(cudaLaunchHostFunc(
        work.a.handle, [](void *at) { seen = ((float *)at)[5]; }, work.pinned));
    assert_true(seen == 0);
    work.a.wait();
    assert_true(seen == 9);
    cuda_emulation_configure("fifo", 1, "eager");
}

// What a process does that is started with this argument.
static const char two_threads[] = "two-threads";

static int call_from_two_threads()
{
    Work work;
    std::thread([&work] { square(work.to.at, work.from.at, work.a.handle); }).join();
    return 0;
}

// In a process of its own, which that ends: what it says is in `said`; its exit status. Not a fork of this one alone: to
// ThreadSanitizer fibers are threads, and a fork of a process with several may not begin another.
static int run_two_threads(char *said, size_t bytes)
{
    int ends[2], status = 0;
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        execl("/proc/self/exe", "/proc/self/exe", two_threads, nullptr);
        _exit(127);
    }
    close(ends[1]);
    size_t length = 0;
    for (ssize_t more = 1; more > 0 && length + 1 < bytes; length += more > 0 ? (size_t)more : 0)
        more = read(ends[0], said + length, bytes - 1 - length);
    said[length] = 0;
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void a_second_thread_of_the_host_is_told(void **state)
{
    (void)state;
    char said[1000];
    const int status = run_two_threads(said, sizeof said);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 86);
    assert_non_null(strstr(said, "a second thread of the host calls the runtime"));
}

int main(int count, char **arguments)
{
    if (count > 1 && strcmp(arguments[1], two_threads) == 0)
        return call_from_two_threads();
    const CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_of_the_host_are_seen),
        cmocka_unit_test(what_cuda_orders_is_ordered),
        cmocka_unit_test(events_tell_progress_and_time),
        cmocka_unit_test(graphs_replay_what_was_captured),
        cmocka_unit_test(nodes_of_a_graph_run_in_any_order_that_it_permits),
        cmocka_unit_test(captures_refuse_what_cuda_refuses),
        cmocka_unit_test(memory_is_the_device_s_or_not),
        cmocka_unit_test(memory_is_guarded_on_both_sides),
        cmocka_unit_test(host_functions_run_in_order),
        cmocka_unit_test(a_second_thread_of_the_host_is_told),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
