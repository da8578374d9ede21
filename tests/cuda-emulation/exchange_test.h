// What the tests of exchanges between devices share: the ranks, checks that count failures, and nodes of a reduction
// whose sum in another order would have other bits.
#ifndef OCT_TESTS_CUDA_EMULATION_EXCHANGE_TEST_H
#define OCT_TESTS_CUDA_EMULATION_EXCHANGE_TEST_H

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ranks/device_exchange.h"
#include "runtime/partition.h"

static oct_world world;
static int failures;

static void must(oct_status status)
{
    if (status != OCT_OK)
        oct_world_abort(&world, status);
}

static void cuda(cudaError_t error, const char *call)
{
    if (error != cudaSuccess)
        oct_world_abort(&world, oct_fail(OCT_ERR_INTERNAL, "%s: %s", call, cudaGetErrorString(error)));
}
#define CUDA(call) cuda((call), #call)

static void check(bool good, const char *what, long detail)
{
    if (good)
        return;
    fprintf(stderr, "FAILED on rank %d of %d: %s (%ld)\n", world.rank, world.size, what, detail);
    failures++;
}

// As the backend waits for its stream.
static void await_stream(const oct_device_exchange *exchange, cudaStream_t stream)
{
    cudaError_t error;
    while ((error = cudaStreamQuery(stream)) == cudaErrorNotReady)
        must(exchange->check(exchange->context));
    oct_progress_wait_end();
    CUDA(error);
}

static void meet(void)
{
    int nothing = 0;
    oct_world_allreduce(&world, &nothing, 1, MPI_INT, MPI_MAX);
}

// A granule's partial sum, the same on every rank that asks; of such magnitudes that another order shows in the bits.
static float partial(int granule, int element, int step)
{
    uint32_t x = (uint32_t)(granule * 7919 + element * 104729 + step * 1299709 + 12345);
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    const float value = (float)(int32_t)x * 0x1p-31f;
    return value * (float)(1 << (x % 12));
}

// The whole subtrees inside a run of granules, as a rank publishes them: nodes [nodes][size]; returns how many.
static int add_subtrees(float *nodes, int size, int granules, oct_run run, int step)
{
    oct_tree_schedule schedule;
    oct_tree_schedule_leaves(&schedule, granules, run);
    float stack[OCT_MAX_NODES + OCT_MAX_GRANULES];
    for (int element = 0; element < size; element++) {
        int top = 0;
        for (int leaf = 0; leaf < schedule.leaves; leaf++) {
            float sum = partial(run.begin + leaf, element, step);
            for (int merge = 0; merge < schedule.merges[leaf]; merge++)
                sum = stack[--top] + sum;
            stack[top++] = sum;
        }
        for (int node = 0; node < top; node++)
            nodes[(size_t)node * (size_t)size + (size_t)element] = stack[node];
    }
    return schedule.nodes;
}

static float before(int element)
{
    return (float)(element % 7) - 3.0f;
}

#endif
