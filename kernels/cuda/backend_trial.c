// The opening trial of reductions inside kernels: as decoding runs them, the reductions of a step one after
// another in a graph, with the model's own column and tree. Their results are nobody's.
#include <stdio.h>
#include <string.h>

#include "kernels/cuda/backend_state.h"
#include "runtime/progress.h"

enum { TRIALS = 3 };

// Of a step's reductions, ns a reduction: one column and many, in one shot and two. The same on all ranks.
typedef struct trial_times {
    double one_column[2], most_columns[2];
} trial_times;

// What is tried, in the order of the times.
typedef struct trials {
    float *node; // that every rank sends
    cudaGraphExec_t one_column[2], most_columns[2];
} trials;

static int32_t most_columns(const oct_cuda_backend *backend)
{
    return backend->piece_columns < OCT_CUDA_ONE_SHOT_COLUMNS ? backend->piece_columns
                                                              : OCT_CUDA_ONE_SHOT_COLUMNS;
}

// All exchanges of a step: their epochs follow each other without a gap (peers.h).
static oct_status launch_step(oct_cuda_backend *backend, const float *node, int32_t columns,
                              size_t two_shot_bytes)
{
    oct_status status = OCT_OK;
    for (uint32_t i = 0; status == OCT_OK && i < backend->peers.exchanges; i++) {
        oct_cuda_reduction reduction;
        status = oct_cuda_plan_reduction(&reduction, &backend->peers, &backend->program->attention_finish,
                                         columns, i, two_shot_bytes, backend->residual, backend->squares);
        reduction.own = node;
        reduction.own_nodes = reduction.own_nodes < 1 ? reduction.own_nodes : 1;
        if (status == OCT_OK)
            status = oct_cuda_reduce(&backend->device, &reduction, backend->stream);
    }
    return status;
}

static oct_status capture(oct_cuda_backend *backend, const float *node, int32_t columns,
                          size_t two_shot_bytes, cudaGraphExec_t *executable)
{
    static const char doing[] = "preparing to try reductions";
    cudaGraph_t graph = NULL;
    oct_status status =
        oct_cuda_check(cudaStreamBeginCapture(backend->stream, cudaStreamCaptureModeThreadLocal), doing);
    if (status != OCT_OK)
        return status;
    status = launch_step(backend, node, columns, two_shot_bytes);
    const cudaError_t error = cudaStreamEndCapture(backend->stream, &graph);
    if (status == OCT_OK)
        status = oct_cuda_check(error, doing);
    if (status == OCT_OK)
        status = oct_cuda_check(cudaGraphInstantiate(executable, graph, 0), doing);
    if (graph != NULL)
        cudaGraphDestroy(graph);
    return status;
}

static oct_status run(oct_cuda_backend *backend, cudaGraphExec_t graph, double *ns)
{
    static const char doing[] = "trying reductions";
    uint32_t *number = (uint32_t *)(void *)backend->host_descriptors;
    *number = ++backend->piece_number;
    oct_cuda_begin_wait(backend); // as in a step
    oct_status status = oct_cuda_check(
        cudaMemcpyAsync(backend->descriptor, number, sizeof *number, cudaMemcpyHostToDevice, backend->stream),
        doing);
    const int64_t began_ns = oct_now_ns();
    if (status == OCT_OK)
        status = oct_cuda_check(cudaGraphLaunch(graph, backend->stream), doing);
    if (status == OCT_OK)
        status = oct_cuda_wait(backend, doing);
    const double took_ns = (double)(oct_now_ns() - began_ns) / backend->peers.exchanges;
    *ns = *ns > 0 && *ns < took_ns ? *ns : took_ns;
    return status;
}

static oct_status prepare(oct_cuda_backend *backend, trials *t)
{
    const size_t bytes = (size_t)most_columns(backend) * (size_t)backend->program->model.hidden * sizeof *t->node;
    oct_status status = oct_cuda_check(cudaMalloc((void **)&t->node, bytes), "allocating for a trial");
    if (status == OCT_OK)
        status = oct_cuda_check(cudaMemsetAsync(t->node, 0, bytes, backend->stream), "preparing a trial");
    for (int shots = 0; shots < 2 && status == OCT_OK; shots++) {
        const size_t two_shot_bytes = shots == 0 ? SIZE_MAX : 0;
        status = capture(backend, t->node, 1, two_shot_bytes, &t->one_column[shots]);
        if (status == OCT_OK)
            status = capture(backend, t->node, most_columns(backend), two_shot_bytes, &t->most_columns[shots]);
    }
    return status;
}

static void discard(const oct_cuda_backend *backend, const trials *t)
{
    if (backend->is_stuck)
        return;
    for (int shots = 0; shots < 2; shots++) {
        if (t->one_column[shots] != NULL)
            cudaGraphExecDestroy(t->one_column[shots]);
        if (t->most_columns[shots] != NULL)
            cudaGraphExecDestroy(t->most_columns[shots]);
    }
    cudaFree(t->node);
}

// Whether all ranks can go on: a rank that has failed must not be waited for by kernels. One that has keeps its
// status, the others have one without words. COLLECTIVE.
static oct_status join(const oct_exchange *exchange, oct_status status)
{
    size_t bytes_of_rank[OCT_MAX_RANKS];
    for (int32_t rank = 0; rank < exchange->ranks; rank++)
        bytes_of_rank[rank] = sizeof status;
    memcpy(exchange->slot(exchange->context, 0), &status, sizeof status);
    const oct_status met = exchange->round(exchange->context, bytes_of_rank);
    if (met != OCT_OK)
        return met;
    for (int32_t rank = 0; status == OCT_OK && rank < exchange->ranks; rank++)
        if (*(const oct_status *)exchange->peer(exchange->context, 0, rank) != OCT_OK)
            status = OCT_ERR_MACHINE;
    return status;
}

// The least times of some trials.
static oct_status time_all(oct_cuda_backend *backend, const trials *t, trial_times *times)
{
    oct_status status = OCT_OK;
    for (int shots = 0; shots < 2; shots++) {
        for (int trial = 0; status == OCT_OK && trial < TRIALS; trial++)
            status = run(backend, t->one_column[shots], &times->one_column[shots]);
        for (int trial = 0; status == OCT_OK && trial < TRIALS; trial++)
            status = run(backend, t->most_columns[shots], &times->most_columns[shots]);
    }
    return status;
}

// The slowest rank's. COLLECTIVE.
static oct_status agree(const oct_exchange *exchange, trial_times *times)
{
    size_t bytes_of_rank[OCT_MAX_RANKS];
    for (int32_t rank = 0; rank < exchange->ranks; rank++)
        bytes_of_rank[rank] = sizeof *times;
    memcpy(exchange->slot(exchange->context, 0), times, sizeof *times);
    const oct_status status = exchange->round(exchange->context, bytes_of_rank);
    for (int32_t rank = 0; status == OCT_OK && rank < exchange->ranks; rank++) {
        const trial_times *theirs = exchange->peer(exchange->context, 0, rank);
        for (int shots = 0; shots < 2; shots++) {
            if (theirs->one_column[shots] > times->one_column[shots])
                times->one_column[shots] = theirs->one_column[shots];
            if (theirs->most_columns[shots] > times->most_columns[shots])
                times->most_columns[shots] = theirs->most_columns[shots];
        }
    }
    return status;
}

// One shot begins sooner, two shots send less: both times are taken for straight lines over the bytes, and
// two shots are for what lies behind the point where they meet.
static size_t meeting_point(const trial_times *times, double least_bytes, double most_bytes)
{
    const double late_ns = times->one_column[1] - times->one_column[0];
    const double won_ns = late_ns - (times->most_columns[1] - times->most_columns[0]);
    if (late_ns <= 0)
        return 0;
    const double bytes = least_bytes + late_ns / won_ns * (most_bytes - least_bytes);
    return won_ns > 0 && bytes < 0x1p40 ? (size_t)bytes : SIZE_MAX;
}

oct_status oct_cuda_try_reductions(oct_cuda_backend *backend)
{
    if (!oct_cuda_kernels_exchange(backend)) {
        if (backend->exchange != NULL)
            oct_note("reductions by gathers between kernels");
        return OCT_OK;
    }
    trial_times times = {{0}, {0}};
    trials t = {0};
    oct_status tried = join(backend->host_exchange, prepare(backend, &t));
    const bool all_ready = tried == OCT_OK;
    if (all_ready) {
        tried = time_all(backend, &t, &times);
        if (tried != OCT_OK && tried != OCT_ERR_LOST) // the others' kernels may wait for this rank's
            backend->exchange->leave(backend->exchange->context, tried);
    }
    discard(backend, &t);
    if (tried == OCT_OK)
        tried = agree(backend->host_exchange, &times);
    if (tried != OCT_OK)
        return tried;
    const double column = backend->program->model.hidden * (double)sizeof(float);
    backend->two_shot_bytes = meeting_point(&times, column, column * most_columns(backend));
    char from[64] = "never";
    if (backend->two_shot_bytes < SIZE_MAX)
        snprintf(from, sizeof from, "above %.1f KiB", (double)backend->two_shot_bytes / 1024);
    oct_note("reductions inside kernels: a column of %.1f KiB a rank takes %.1f us in one shot, %.1f us in two; %d "
             "columns %.1f and %.1f us; two shots %s",
             column / 1024, times.one_column[0] * 1e-3, times.one_column[1] * 1e-3, most_columns(backend),
             times.most_columns[0] * 1e-3, times.most_columns[1] * 1e-3, from);
    return OCT_OK;
}
