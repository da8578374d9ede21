// The opening trial of the exchange between devices: gathers, and reductions inside kernels.
#include "ranks/device_trial.h"

#include <string.h>

#include "kernels/cuda/peers.h"

// A column is what a model of 2048 elements reduces: 8 KiB. Reductions are timed as decoding runs them, in a graph.
enum { HIDDEN = 2048, TRIALS = 3, RUNS = 4 };
enum { COLUMN_BYTES = HIDDEN * (int)sizeof(float), MOST_BYTES = OCT_CUDA_ONE_SHOT_COLUMNS * COLUMN_BYTES };

typedef struct trial_state {
    const oct_device_exchange *exchange;
    oct_world *world;
    cudaStream_t stream;
    oct_device_memory memory, nodes, gathered;
    oct_cuda_device device;
    oct_cuda_peers peers;
    uint32_t *step, *host_step; // of the device, pinned
    float *residual;
    oct_tree_finish tree;
} trial_state;

static oct_status check_cuda(cudaError_t error, const char *doing)
{
    return error == cudaSuccess
               ? OCT_OK
               : oct_fail(OCT_ERR_MACHINE, "the device failed while %s: %s", doing, cudaGetErrorString(error));
}

static oct_status await_stream(trial_state *state)
{
    const oct_device_exchange *exchange = state->exchange;
    oct_status status = OCT_OK;
    cudaError_t error = cudaErrorNotReady;
    while (status == OCT_OK && error == cudaErrorNotReady) {
        error = cudaStreamQuery(state->stream);
        if (error == cudaErrorNotReady || (exchange->abort != NULL && *exchange->abort != OCT_DEVICE_WAITS))
            status = exchange->check(exchange->context);
    }
    oct_progress_wait_end();
    return status != OCT_OK ? status : check_cuda(error, "trying an exchange");
}

// The slowest rank's time. COLLECTIVE.
static double slowest_us(trial_state *state, int64_t ns)
{
    oct_world_allreduce(state->world, &ns, 1, MPI_INT64_T, MPI_MAX);
    return (double)ns * 1e-3;
}

// The least time of a gather in a row of some.
static oct_status time_gathers(trial_state *state, double *us)
{
    const oct_device_exchange *exchange = state->exchange;
    oct_status status = OCT_OK;
    int64_t least_ns = INT64_MAX;
    for (int trial = 0; status == OCT_OK && trial < TRIALS; trial++) {
        const int64_t began_ns = oct_now_ns();
        for (int i = 0; status == OCT_OK && i < RUNS; i++)
            status = exchange->gather(exchange->context, state->stream, state->nodes.own, state->gathered.own,
                                      COLUMN_BYTES);
        if (status == OCT_OK)
            status = await_stream(state);
        const int64_t took_ns = (oct_now_ns() - began_ns) / RUNS;
        least_ns = took_ns < least_ns ? took_ns : least_ns;
    }
    *us = slowest_us(state, least_ns);
    return status;
}

// A graph of some reductions one after another.
static oct_status capture(trial_state *state, int32_t columns, size_t two_shot_bytes, cudaGraphExec_t *executable)
{
    static const char doing[] = "preparing to try reductions";
    cudaGraph_t graph = NULL;
    oct_status status =
        check_cuda(cudaStreamBeginCapture(state->stream, cudaStreamCaptureModeThreadLocal), doing);
    if (status != OCT_OK)
        return status;
    for (uint32_t i = 0; status == OCT_OK && i < RUNS; i++) {
        oct_cuda_reduction reduction;
        status = oct_cuda_plan_reduction(&reduction, &state->peers, &state->tree, columns, i, two_shot_bytes,
                                         state->residual, NULL);
        reduction.own = state->nodes.own;
        if (status == OCT_OK)
            status = oct_cuda_reduce(&state->device, &reduction, state->stream);
    }
    const cudaError_t error = cudaStreamEndCapture(state->stream, &graph);
    if (status == OCT_OK)
        status = check_cuda(error, doing);
    if (status == OCT_OK)
        status = check_cuda(cudaGraphInstantiate(executable, graph, 0), doing);
    if (graph != NULL)
        cudaGraphDestroy(graph);
    return status;
}

static oct_status time_graph(trial_state *state, cudaGraphExec_t graph, int64_t *least_ns)
{
    oct_status status = OCT_OK;
    *least_ns = INT64_MAX;
    for (int trial = 0; status == OCT_OK && trial < TRIALS; trial++) {
        ++*state->host_step;
        status = check_cuda(cudaMemcpyAsync(state->step, state->host_step, sizeof *state->step, cudaMemcpyHostToDevice,
                                            state->stream),
                            "trying a reduction");
        const int64_t began_ns = oct_now_ns();
        oct_progress_wait_begin(-1); // a launch may wait for the device, and it for other ranks
        if (status == OCT_OK)
            status = check_cuda(cudaGraphLaunch(graph, state->stream), "trying a reduction");
        if (status == OCT_OK)
            status = await_stream(state);
        const int64_t took_ns = (oct_now_ns() - began_ns) / RUNS;
        *least_ns = took_ns < *least_ns ? took_ns : *least_ns;
    }
    return status;
}

// COLLECTIVE.
static oct_status time_reductions(trial_state *state, int32_t columns, size_t two_shot_bytes, double *us)
{
    cudaGraphExec_t graph = NULL;
    int64_t ns = 0;
    oct_status status = capture(state, columns, two_shot_bytes, &graph);
    if (status == OCT_OK)
        status = time_graph(state, graph, &ns);
    if (status == OCT_ERR_LOST)
        oct_world_abort(state->world, status);
    if (graph != NULL)
        cudaGraphExecDestroy(graph);
    *us = slowest_us(state, ns);
    return status;
}

// COLLECTIVE.
static oct_status time_both(trial_state *state, int32_t columns, double *one_shot_us, double *two_shots_us)
{
    const oct_status one = time_reductions(state, columns, SIZE_MAX, one_shot_us);
    const oct_status two = time_reductions(state, columns, 0, two_shots_us);
    return one != OCT_OK ? one : two;
}

// One shot begins sooner, two shots send less: both times are taken for straight lines over the bytes, and two shots are
// for what lies behind the point where they meet.
static oct_status try_reductions(trial_state *state, oct_device_trial *trial)
{
    double one_us, two_us;
    const oct_status least = time_both(state, 1, &trial->one_shot_us, &trial->two_shots_us);
    const oct_status most = time_both(state, OCT_CUDA_ONE_SHOT_COLUMNS, &one_us, &two_us);
    const double late_us = trial->two_shots_us - trial->one_shot_us, won_us = late_us - (two_us - one_us);
    const double met = late_us <= 0 ? 0 : won_us <= 0 ? 1e9 : late_us / won_us; // from the least to the most
    const double bytes = COLUMN_BYTES + met * (MOST_BYTES - COLUMN_BYTES);
    trial->two_shot_bytes = met > 0 ? (size_t)bytes : 0;
    return least != OCT_OK ? least : most;
}

static oct_status prepare_reductions(trial_state *state)
{
    const oct_device_exchange *exchange = state->exchange;
    oct_tree_schedule_finish(&state->tree, exchange->ranks, exchange->ranks);
    state->peers = (oct_cuda_peers){.ranks = exchange->ranks,
                                    .rank = exchange->rank,
                                    .hidden = HIDDEN,
                                    .exchanges = RUNS,
                                    .abort = exchange->abort,
                                    .patience_ns = exchange->patience_ns};
    state->peers.layout =
        oct_cuda_peer_layout_make(exchange->ranks, exchange->ranks, OCT_CUDA_ONE_SHOT_COLUMNS, HIDDEN);
    oct_status status = exchange->allocate(exchange->context, state->peers.layout.bytes, &state->memory);
    for (int32_t rank = 0; rank < exchange->ranks; rank++)
        state->peers.memory[rank] = state->memory.of_rank[rank];
    if (status == OCT_OK)
        status = oct_cuda_device_read(&state->device);
    if (status == OCT_OK)
        status = check_cuda(cudaMalloc((void **)&state->step, sizeof *state->step), "allocating for a trial");
    if (status == OCT_OK)
        status = check_cuda(cudaMallocHost((void **)&state->host_step, sizeof *state->host_step),
                            "allocating for a trial");
    if (status == OCT_OK)
        status = check_cuda(cudaMalloc((void **)&state->residual, MOST_BYTES), "allocating for a trial");
    if (status == OCT_OK)
        status = check_cuda(cudaMemsetAsync(state->residual, 0, MOST_BYTES, state->stream), "preparing a trial");
    if (status == OCT_OK)
        *state->host_step = 0;
    state->peers.step = state->step;
    return status;
}

// Whether all ranks can go on. COLLECTIVE. A peer may be lost while others wait for it: then this process ends.
static bool all_well(trial_state *state, oct_status status)
{
    if (status == OCT_ERR_LOST)
        oct_world_abort(state->world, status);
    int worst = (int)status;
    oct_world_allreduce(state->world, &worst, 1, MPI_INT, MPI_MAX);
    return worst == OCT_OK;
}

oct_status oct_device_trial_run(const oct_device_exchange *exchange, oct_world *world, cudaStream_t stream,
                                oct_device_trial *trial)
{
    trial_state state = {.exchange = exchange, .world = world, .stream = stream};
    *trial = (oct_device_trial){.hidden = HIDDEN};
    oct_status status = exchange->allocate(exchange->context, MOST_BYTES, &state.nodes);
    if (all_well(&state, status))
        status = exchange->allocate(exchange->context, (size_t)exchange->ranks * COLUMN_BYTES, &state.gathered);
    if (all_well(&state, status))
        status = time_gathers(&state, &trial->gather_us);
    if (all_well(&state, status) && exchange->abort != NULL) {
        status = prepare_reductions(&state);
        if (all_well(&state, status))
            status = try_reductions(&state, trial);
    }
    cudaFree(state.step);
    cudaFree(state.residual);
    cudaFreeHost(state.host_step);
    return status;
}
